package closure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// substitution is one call of Substitute.
type substitution struct {
	Options
	staging    staging
	progress   *progress
	underWay   *semaphore.Weighted          // bytes of NARs, of a large one largeNAR
	relocateTo relocate.View                // as far as is known: Options.View or the zero one
	blockers   map[storepath.Path][]Blocker // why those that were fetched cannot be relocated
	graph      *Graph                       // of this round, once it is resolved

	mu     sync.Mutex // of what look-ups and downloads find out
	nodes  map[storepath.Path]*Node
	found  map[storepath.Path]*cache.Found
	staged map[storepath.Path]staged // what is in staging
}

// Substitute brings into staging what layers of the roots' closure lack, in rounds: resolve the closure, plan its layers,
// fetch what they lack, until they lack nothing. Mostly the first round fetches everything. What it fetches may be another
// build than was planned, of a path that was built anew since the previous image was made, or whose first build no cache
// could serve; or it may not let itself be relocated. Then the next round has other layers.
//
// A path is visible in staging only when its NAR was verified. The first error ends the run; what is in staging by
// then stays for the next one. Errors: *MissingError, *LimitError, *LoopError, *BlockedError, and what
// Caches return.
func Substitute(ctx context.Context, options Options) (*Result, error) {
	s, err := newSubstitution(options)
	if err != nil {
		return nil, err
	}
	var stop func()
	s.progress, stop = startProgress(s.Log, progressInterval)
	defer stop()
	for {
		result, fetched, err := s.round(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("substituting closure: %w", context.Cause(ctx))
		case err != nil:
			return nil, err
		case fetched == 0:
			return s.account(result)
		}
		s.learn()
	}
}

func newSubstitution(options Options) (*substitution, error) {
	s := &substitution{
		Options: options.withDefaults(), blockers: map[storepath.Path][]Blocker{}, nodes: map[storepath.Path]*Node{},
		found: map[storepath.Path]*cache.Found{}, staged: map[storepath.Path]staged{},
		underWay: semaphore.NewWeighted(largeDownloads() * largeNAR),
	}
	if s.Caches == nil || s.Staging == "" || len(s.Roots) == 0 {
		return nil, errors.New("substituting closure: caches, roots and a staging directory are needed")
	}
	s.Roots = slices.Compact(slices.Sorted(slices.Values(s.Roots)))
	s.relocateTo, _ = s.relocation(&Graph{Nodes: s.Previous.Nodes}) // until this closure is known
	var err error
	s.staging, err = openStaging(s.Staging)
	return s, err
}

// round resolves the closure, plans its layers, and fetches what they lack, each path as soon as it is known to be lacking,
// mostly while others are still looked up. fetched is how many paths that were.
func (s *substitution) round(ctx context.Context) (result *Result, fetched int, err error) {
	downloads, ctx := s.startDownloads(ctx)
	s.graph, err = Resolve(ctx, s.Roots, func(ctx context.Context, p storepath.Path) (*Node, error) {
		return s.node(ctx, p, downloads.add)
	})
	if err != nil {
		return nil, 0, downloads.stop(err)
	}
	s.progress.knowsAll()
	result = s.plan(s.graph)
	for _, n := range s.lacking(result) {
		downloads.add(n)
	}
	return result, len(downloads.added), downloads.wait()
}

// plan decides what the closure is relocated to and which layer holds which path.
func (s *substitution) plan(g *Graph) *Result {
	result := &Result{Graph: g}
	result.View, result.Blockers = s.relocation(g)
	s.relocateTo = result.View
	if s.Planned != nil {
		result.Groups = planBeside(g, s.Planned)
	} else {
		result.Groups = Plan(g, result.View, s.Layers)
	}
	var kept []Group
	if s.Previous.Prefix == result.View.Dir() {
		kept = s.Previous.Groups
	}
	result.Changed = changed(kept, result.Groups)
	return result
}

// relocation decides what a closure is relocated to, by all that is known, and gives what is in the way: what the previous
// build has found and applies to this closure, too, or else what this build has found.
func (s *substitution) relocation(g *Graph) (relocate.View, []Blocker) {
	if s.View.IsZero() {
		return relocate.View{}, nil
	}
	var blockers []Blocker
	if s.Previous.Tried == s.View.Dir() && !s.Strict {
		blockers = applicable(s.Previous.Blockers, g)
	}
	if len(blockers) == 0 {
		blockers = g.Blockers(s.View)
		for p := range g.Nodes {
			blockers = append(blockers, s.blockers[p]...)
		}
		sortBlockers(blockers)
	}
	if len(blockers) > 0 && !s.Strict {
		return relocate.View{}, blockers
	}
	return s.View, blockers
}

// lacking are the paths of layers that changed which are not in staging as they are planned.
func (s *substitution) lacking(r *Result) (nodes []*Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, group := range r.Changed {
		for _, p := range group.Paths {
			if st, ok := s.staged[p]; !ok || st.Prefix != r.View.Dir() {
				nodes = append(nodes, r.Graph.Nodes[p])
			}
		}
	}
	return nodes
}

// learn takes in what a round has fetched: which build of each path it is, and what its files hold.
func (s *substitution) learn() {
	for p, st := range s.staged {
		n := NewNode(s.found[p])
		if st.Prefix != storepath.Dir {
			n.Foreign, n.Overruled = st.Report.Foreign, st.Info.Overruled
			s.blockers[p] = pathBlockers(p, st.Report)
		} else if old := cmp.Or(s.nodes[p], s.Previous.Nodes[p]); old != nil { // as it was when it was relocated
			n.Foreign, n.Overruled = old.Foreign, old.Overruled
		}
		s.nodes[p] = n
	}
}

// account says in a result how it came about.
func (s *substitution) account(r *Result) (*Result, error) {
	if len(r.Blockers) > 0 && s.Strict {
		return nil, &BlockedError{Blockers: r.Blockers}
	}
	r.recorded, r.tried = r.Blockers, s.View.Dir()
	if s.View.IsZero() {
		r.recorded, r.tried = applicable(s.Previous.Blockers, r.Graph), s.Previous.Tried
	}
	r.Fetched, r.Staged = s.progress.fetched, s.progress.staged
	for _, group := range r.Groups {
		if !contains(r.Changed, group) {
			for _, p := range group.Paths {
				r.Reused.add(r.Graph.Nodes[p])
			}
		}
	}
	for p, n := range s.Previous.Nodes {
		if r.Graph.Nodes[p] == nil {
			r.Removed.add(n)
		}
	}
	for _, n := range r.Graph.Sorted() {
		if !r.View.IsZero() {
			r.Overruled = append(r.Overruled, n.Overruled...)
		}
		r.References += s.staged[n.Path].Report.References
		r.Harmless += s.staged[n.Path].Report.Harmless
	}
	if r.Fetched.Paths > 0 || r.Staged.Paths > 0 {
		s.progress.summary(s.Caches.Report())
	}
	return r, nil
}
