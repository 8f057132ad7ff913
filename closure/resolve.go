package closure

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// MaxPaths bounds the store paths of a closure, against a cache that makes up references for ever.
const MaxPaths = 100_000

// maxHeld is how much of narinfos is held for a closure, in bytes: some 600,000 references, where a large closure has 50,000.
const maxHeld = 48 << 20

// heldOf is what is held of a narinfo, about, in bytes.
func heldOf(f *cache.Found) int {
	const header = 16 // of a string
	n := len(f.URL)
	for _, ref := range f.References {
		n += header + len(ref)
	}
	return n
}

// Resolve finds out what roots need, breadth first. node gives what is known of a path; it is asked once for each, and for
// several at the same time. Errors: *MissingError, which has node's, *LimitError, *LoopError.
func Resolve(ctx context.Context, roots []storepath.Path, node func(context.Context, storepath.Path) (*Node, error)) (*Graph, error) {
	w := &walk{
		node: node, graph: &Graph{Roots: roots, Nodes: map[storepath.Path]*Node{}},
		paths: newQueue[storepath.Path](nil), seen: map[storepath.Path]bool{},
	}
	if err := w.visit(roots); err != nil {
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
	_, err := w.graph.Topological()
	return w.graph, err
}

// walk is the way over all references, breadth first, from the roots.
type walk struct {
	node  func(context.Context, storepath.Path) (*Node, error)
	paths *queue[storepath.Path]

	mu    sync.Mutex
	graph *Graph
	seen  map[storepath.Path]bool
	left  int // paths that are not nodes yet
	held  int // bytes that the nodes' narinfos take, about
}

// visit puts paths that were not seen yet on the way.
func (w *walk) visit(paths []storepath.Path) error {
	for _, p := range paths {
		if w.seen[p] {
			continue
		}
		if len(w.seen) == MaxPaths {
			return &LimitError{fmt.Sprintf("it has more than %d paths", MaxPaths)}
		}
		w.seen[p] = true
		w.left++
		w.paths.add(p)
	}
	return nil
}

// step makes a path a node and goes on to its references.
func (w *walk) step(ctx context.Context, p storepath.Path) error {
	n, err := w.node(ctx, p)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return w.graph.missing(p, err)
	}
	w.graph.Nodes[p] = n
	if w.held += n.held; w.held > maxHeld {
		return &LimitError{fmt.Sprintf("what the caches say of its paths takes more than %d bytes", maxHeld)}
	}
	err = w.visit(n.References)
	if w.left--; w.left == 0 {
		w.paths.close()
	}
	return err
}

// missing says of a path that cannot be had how it came to be needed.
func (g *Graph) missing(p storepath.Path, err error) error {
	e := &MissingError{Chain: []storepath.Path{p}, Err: err}
	referrers := g.Referrers()
	for from := referrers[p]; from != ""; from = referrers[from] {
		e.Chain = append(e.Chain, from)
	}
	slices.Reverse(e.Chain)
	if n := g.Nodes[referrers[p]]; n != nil {
		e.From = n.CacheURL
	}
	return e
}

// node is what is known of a path in this run, else what the previous image says of it, else what a cache does. enqueue is
// told of a path whose bytes the previous image does not have, as soon as its narinfo is there.
func (s *substitution) node(ctx context.Context, p storepath.Path, enqueue func(*Node)) (*Node, error) {
	s.mu.Lock()
	n := s.nodes[p]
	s.mu.Unlock()
	if n != nil {
		return n, nil
	}
	if n, ok := s.Previous.known(p); ok {
		return n, nil
	}
	found, err := s.Caches.Lookup(ctx, p)
	if err != nil {
		return nil, err
	}
	n = NewNode(found)
	previous := s.Previous.Nodes[p]
	same := previous != nil && previous.sameBytes(n)
	if same {
		n.Foreign, n.Overruled = previous.Foreign, previous.Overruled
	}
	s.mu.Lock()
	s.nodes[p], s.found[p] = n, found // for the rounds to come, and for its download
	s.mu.Unlock()
	if !same {
		enqueue(n)
	}
	return n, nil
}
