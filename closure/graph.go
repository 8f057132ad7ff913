package closure

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Node is what is known of one store path: enough to plan its layer, to prove its bytes, and to walk on from it.
type Node struct {
	Path       storepath.Path
	NarHash    storepath.Hash
	NarSize    int64            // bytes of the NAR, about what the path takes in a layer
	References []storepath.Path // sorted, unique; may hold Path itself
	// Signature is the one that proved it, by a trusted key; the zero one where a content address did, or nothing was
	// asked for.
	Signature narinfo.Signature
	CA        string // the content address, where it proved the path and no signature had to
	CacheURL  string // where it came from in this run, without credentials; "" for a path known from before
	// Foreign holds the hash parts of store paths that the files mention without referring to them. One of them in
	// the same closure means that relocation would leave a live reference behind.
	Foreign []string
	// Overruled are the files that stand in the way of relocation and that somebody takes as harmless.
	Overruled []Overruled

	held int // bytes that its narinfo takes, about; 0 for a path known from before
}

// NewNode is what a trusted narinfo says.
func NewNode(f *cache.Found) *Node {
	n := &Node{
		Path: f.StorePath, NarHash: f.NarHash, NarSize: f.NarSize, References: f.References, Signature: f.Signature,
		CacheURL: f.CacheURL, held: heldOf(f),
	}
	if f.ProvesItself() {
		n.CA = f.CA
	}
	return n
}

// sameBytes reports whether a layer has the same of both: the same archive, and the same proof beside it.
func (n *Node) sameBytes(other *Node) bool {
	return n.NarHash == other.NarHash && n.CA == other.CA && n.Signature.Name == other.Signature.Name &&
		bytes.Equal(n.Signature.Data, other.Signature.Data)
}

// Graph is a closure: every reference of every node is a node.
type Graph struct {
	Roots []storepath.Path
	Nodes map[storepath.Path]*Node
}

// Sorted gives all nodes in the order of their paths.
func (g *Graph) Sorted() []*Node {
	nodes := make([]*Node, 0, len(g.Nodes))
	for _, n := range g.Nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *Node) int { return strings.Compare(string(a.Path), string(b.Path)) })
	return nodes
}

// Paths gives all store paths, sorted.
func (g *Graph) Paths() []storepath.Path {
	paths := make([]storepath.Path, 0, len(g.Nodes))
	for p := range g.Nodes {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// Topological gives all nodes, each after those that it refers to, in an order that depends on the graph alone.
// A circle through more than one path is a *LoopError; a reference that is no node, an error that names it.
func (g *Graph) Topological() ([]*Node, error) {
	sorted := g.Sorted()
	waiting := make(map[storepath.Path]int, len(sorted)) // how many references of a node are not out yet
	dependents := make(map[storepath.Path][]*Node, len(sorted))
	for _, n := range sorted {
		for _, ref := range n.References {
			if ref == n.Path {
				continue
			}
			if g.Nodes[ref] == nil {
				return nil, fmt.Errorf("resolving closure: %s refers to %s, which is not in the closure", n.Path, ref)
			}
			waiting[n.Path]++
			dependents[ref] = append(dependents[ref], n)
		}
	}
	order := make([]*Node, 0, len(sorted))
	for _, n := range sorted {
		if waiting[n.Path] == 0 {
			order = append(order, n)
		}
	}
	for next := 0; next < len(order); next++ {
		for _, d := range dependents[order[next].Path] {
			if waiting[d.Path]--; waiting[d.Path] == 0 {
				order = append(order, d)
			}
		}
	}
	if len(order) < len(sorted) {
		return nil, g.loopError(g.loop(waiting))
	}
	return order, nil
}

func (g *Graph) loopError(loop []storepath.Path) *LoopError {
	e := &LoopError{Loop: loop}
	for _, p := range loop {
		if from := g.Nodes[p].CacheURL; from != "" && !slices.Contains(e.From, from) {
			e.From = append(e.From, from)
		}
	}
	return e
}

// loop walks along nodes that still wait for one another until it meets itself.
func (g *Graph) loop(waiting map[storepath.Path]int) []storepath.Path {
	var at storepath.Path
	for p, n := range waiting {
		if n > 0 && (at == "" || p < at) {
			at = p
		}
	}
	var walk []storepath.Path
	for {
		if i := slices.Index(walk, at); i >= 0 {
			return walk[i:]
		}
		walk = append(walk, at)
		for _, ref := range g.Nodes[at].References {
			if ref != at && waiting[ref] > 0 {
				at = ref
				break
			}
		}
	}
}

// Dependents maps each path to those that refer to it directly, itself left out, sorted.
func (g *Graph) Dependents() map[storepath.Path][]storepath.Path {
	dependents := make(map[storepath.Path][]storepath.Path, len(g.Nodes))
	for _, n := range g.Sorted() {
		for _, ref := range n.References {
			if ref != n.Path {
				dependents[ref] = append(dependents[ref], n.Path)
			}
		}
	}
	return dependents
}

// Referrers gives for each path that the roots need the one before it on a shortest way from a root; "" for the roots.
func (g *Graph) Referrers() map[storepath.Path]storepath.Path {
	referrers := map[storepath.Path]storepath.Path{}
	queue := slices.Clone(g.Roots)
	for _, root := range g.Roots {
		referrers[root] = ""
	}
	for ; len(queue) > 0; queue = queue[1:] {
		n := g.Nodes[queue[0]]
		if n == nil {
			continue
		}
		for _, ref := range n.References {
			if _, seen := referrers[ref]; !seen {
				referrers[ref] = n.Path
				queue = append(queue, ref)
			}
		}
	}
	return referrers
}

// ClosureOf gives paths and everything that they need, sorted; paths that are no nodes are left out.
func (g *Graph) ClosureOf(paths ...storepath.Path) []storepath.Path {
	seen := map[storepath.Path]bool{}
	queue := slices.Clone(paths)
	var found []storepath.Path
	for len(queue) > 0 {
		p := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		n := g.Nodes[p]
		if n == nil || seen[p] {
			continue
		}
		seen[p] = true
		found = append(found, p)
		queue = append(queue, n.References...)
	}
	slices.Sort(found)
	return found
}
