package closure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
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

	graph *Graph // as it was resolved last

	mu     sync.Mutex // of what look-ups and downloads find out
	nodes  map[storepath.Path]*Node
	found  map[storepath.Path]*cache.Found
	staged map[storepath.Path]staged // complete in staging
}

// Substitute makes the roots' closure complete, in rounds: resolve what that is, plan its layers, fetch what they lack,
// until they lack nothing. Each download begins as soon as its narinfo is known, the largest of those that wait first.
// Mostly the first round fetches everything. What it fetches may be another build than was planned, of a path that was
// built anew since the previous image was made, or whose first build no cache could serve; or it may not let itself be
// relocated. Then the next round has other layers.
//
// A path is visible in staging only when its NAR was verified. The first error ends the run; what is complete by
// then stays for the next one. Errors: *MissingError, *LoopError, *BlockedError, and what Caches return.
func Substitute(ctx context.Context, options Options) (*Result, error) {
	s, err := newSubstitution(options)
	if err != nil {
		return nil, err
	}
	var stop func()
	s.progress, stop = startProgress(s.Log, progressInterval)
	defer stop()
	for {
		result, complete, err := s.round(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("substituting closure: %w", context.Cause(ctx))
		case err != nil:
			return nil, err
		case complete:
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
	if s.relocateTo = s.View; s.tried() {
		s.relocateTo = relocate.View{} // as last time, unless the closure turns out to have none of the blockers
	}
	var err error
	s.staging, err = openStaging(s.Staging)
	return s, err
}

// tried reports whether the previous build has found out that its closure cannot be relocated to where this one's is to
// be.
func (s *substitution) tried() bool {
	return !s.View.IsZero() && !s.Strict && s.Previous.Tried == s.View.Dir()
}

// round resolves the closure, plans its layers, and fetches what they lack, some of it while it still resolves.
// complete says that they lack nothing.
func (s *substitution) round(ctx context.Context) (result *Result, complete bool, err error) {
	group, ctx := errgroup.WithContext(ctx)
	downloads, queued := newQueue(largestFirst), map[storepath.Path]bool{}
	for range s.Downloads {
		group.Go(func() error { return s.fetchAll(ctx, downloads) })
	}
	enqueue := func(n *Node) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if queued[n.Path] {
			return
		}
		queued[n.Path] = true
		if _, here := s.staged[n.Path]; !here {
			s.progress.add(n.NarSize)
		}
		downloads.add(download{node: n, found: s.found[n.Path], view: s.relocateTo})
	}
	group.Go(func() error {
		defer downloads.close()
		graph, err := Resolve(ctx, s.Roots, func(ctx context.Context, p storepath.Path) (*Node, error) {
			return s.node(ctx, p, enqueue)
		})
		if err != nil {
			return err
		}
		s.progress.knowsAll()
		s.graph, result = graph, s.plan(graph)
		for _, n := range s.lacking(result) {
			enqueue(n)
		}
		return nil
	})
	err = group.Wait()
	return result, len(queued) == 0, err
}

// plan decides what the closure is relocated to and which layer holds which path.
func (s *substitution) plan(g *Graph) *Result {
	view, blockers := s.relocation(g)
	s.relocateTo = view
	result := &Result{Graph: g, View: view, Blockers: blockers}
	if s.Planned != nil {
		result.Groups = planBeside(g, s.Planned)
	} else {
		result.Groups = Plan(g, view, s.Layers)
	}
	var kept []Group
	if s.Previous.Prefix == view.Dir() {
		kept = s.Previous.Groups
	}
	result.Changed = changed(kept, result.Groups)
	return result
}

// relocation is what the closure is relocated to, by all that is known, and what is in the way.
func (s *substitution) relocation(g *Graph) (relocate.View, []Blocker) {
	if s.View.IsZero() {
		return relocate.View{}, nil
	}
	var blockers []Blocker
	if s.tried() {
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

// account says in a complete result how it came about.
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
