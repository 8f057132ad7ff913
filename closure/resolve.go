package closure

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// MaxPaths bounds the store paths of a closure, against a cache that makes up references for ever.
const MaxPaths = 100_000

// MaxHeld is how much of narinfos is held for a closure, in bytes: some 600,000 references, where a large closure has 50,000.
const MaxHeld = 48 << 20

// Held is what is held of a narinfo, about, in bytes.
func Held(f *cache.Found) int {
	const header = 16 // of a string
	n := len(f.URL)
	for _, ref := range f.References {
		n += header + len(ref)
	}
	return n
}

// walk is the way over all references, breadth first, from the roots.
type walk struct {
	*substitution
	graph     *Graph
	paths     *queue[storepath.Path]
	left      int                               // paths that are not nodes yet
	enqueue   func(*Node)                       // is told of what the previous image does not have
	referrers map[storepath.Path]storepath.Path // who referred to a path first
}

// resolve finds out what the roots need: from the record of the previous image, else from the caches. enqueue is told of
// each path whose bytes the previous image does not have, as soon as its narinfo is there.
func (s *substitution) resolve(ctx context.Context, enqueue func(*Node)) (*Graph, error) {
	w := &walk{
		substitution: s, graph: &Graph{Roots: s.Roots, Nodes: map[storepath.Path]*Node{}}, enqueue: enqueue,
		paths: newQueue[storepath.Path](nil), referrers: map[storepath.Path]storepath.Path{},
	}
	s.mu.Lock()
	s.referrers = w.referrers
	err := w.visit(s.Roots, "")
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, w.paths.close)()
	for range atOnce() {
		group.Go(func() error {
			for {
				p, ok := w.paths.next()
				if !ok || ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := w.step(ctx, p); err != nil {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	_, err = w.graph.Topological()
	return w.graph, err
}

// visit puts paths that were not seen yet on the way.
func (w *walk) visit(paths []storepath.Path, from storepath.Path) error {
	for _, p := range paths {
		if _, seen := w.referrers[p]; seen {
			continue
		}
		if len(w.referrers) == MaxPaths {
			return &LimitError{fmt.Sprintf("it has more than %d paths", MaxPaths)}
		}
		w.referrers[p] = from
		w.left++
		w.paths.add(p)
	}
	return nil
}

// step makes a path a node and goes on to its references.
func (w *walk) step(ctx context.Context, p storepath.Path) error {
	n, err := w.node(ctx, p)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.graph.Nodes[p] = n
	err = w.visit(n.References, p)
	if w.left--; w.left == 0 {
		w.paths.close()
	}
	return err
}

// node is what is known of a path in this run, else what the record says of it, else what a cache does.
func (w *walk) node(ctx context.Context, p storepath.Path) (*Node, error) {
	w.mu.Lock()
	n := w.nodes[p]
	w.mu.Unlock()
	if n != nil {
		return n, nil
	}
	if n, ok := w.Previous.complete(p); ok {
		return n, nil
	}
	found, err := w.Caches.Lookup(ctx, p)
	if err != nil {
		return nil, w.missing(p, err)
	}
	n = newNode(found)
	known := w.Previous.Nodes[p]
	same := known != nil && known.sameBytes(n)
	if same {
		n.Foreign, n.Overruled = known.Foreign, known.Overruled
	}
	if err := w.remember(p, n, found); err != nil {
		return nil, err
	}
	if !same {
		w.enqueue(n)
	}
	return n, nil
}

// remember keeps what a cache says of a path, for the rounds to come and for its download.
func (s *substitution) remember(p storepath.Path, n *Node, found *cache.Found) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[p], s.found[p] = n, found
	if s.foundSize += Held(found); s.foundSize > MaxHeld {
		return &LimitError{fmt.Sprintf("what the caches say of its paths takes more than %d bytes", MaxHeld)}
	}
	return nil
}

// missing says of a path that no cache has how it came to be looked up.
func (s *substitution) missing(p storepath.Path, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &MissingError{Chain: []storepath.Path{p}, Err: err}
	for from := s.referrers[p]; from != "" && !slices.Contains(e.Chain, from); from = s.referrers[from] {
		e.Chain = append(e.Chain, from)
	}
	slices.Reverse(e.Chain)
	if n := s.nodes[s.referrers[p]]; n != nil {
		e.From = n.CacheURL
	}
	return e
}
