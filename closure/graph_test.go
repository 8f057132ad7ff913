package closure_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func testGraph(t *testing.T, _ spec.G, it spec.S) {
	a, b, c := pathOf("1", "a-1"), pathOf("1", "b-1"), pathOf("1", "c-1")

	node := func(p storepath.Path, refs ...storepath.Path) *closure.Node {
		slices.Sort(refs)
		return &closure.Node{Path: p, NarSize: 1, References: refs}
	}
	graph := func(nodes ...*closure.Node) *closure.Graph {
		g := &closure.Graph{Roots: []storepath.Path{nodes[0].Path}, Nodes: map[storepath.Path]*closure.Node{}}
		for _, n := range nodes {
			g.Nodes[n.Path] = n
		}
		return g
	}

	it.Before(func() { RegisterTestingT(t) })

	it("puts every path after those it refers to", func() {
		g := newWorld(1, 300).graph()
		order, err := g.Topological()
		Expect(err).NotTo(HaveOccurred())
		Expect(order).To(HaveLen(len(g.Nodes)))
		out := map[storepath.Path]bool{}
		for _, n := range order {
			out[n.Path] = true
			for _, ref := range n.References {
				Expect(out[ref]).To(BeTrue(), "%s before %s", n.Path, ref)
			}
		}
	})

	it("knows a shortest way from a root to each path that the roots need, also while references are no nodes yet", func() {
		d, e := pathOf("1", "d-1"), pathOf("1", "e-1")
		g := graph(node(a, a, b), node(b, c), node(c, a, d), node(e, d))
		g.Roots = []storepath.Path{a, c}
		Expect(g.Referrers()).To(Equal(map[storepath.Path]storepath.Path{a: "", c: "", b: a, d: c}))
	})

	it("names of a long chain to what is missing its first three paths and its last four", func() {
		var chain []storepath.Path
		var names []string
		for i := range 9 {
			chain = append(chain, pathOf("1", fmt.Sprint("p", i)))
			names = append(names, chain[i].Base())
		}
		Expect(&closure.MissingError{Chain: chain[:8], Err: errors.New("gone")}).To(
			MatchError("resolving closure: " + strings.Join(names[:8], " → ") + ": gone"))
		names = append(append(append([]string{}, names[:3]...), "…"), names[5:]...)
		Expect(&closure.MissingError{Chain: chain, From: "https://one", Err: errors.New("gone")}).To(MatchError("resolving closure: " +
			strings.Join(names, " → ") + ": narinfo field References of " + chain[7].Base() + " at https://one: gone"))
	})

	it("names a reference loop", func() {
		_, err := graph(node(a, b), node(b, b, c), node(c, b)).Topological()
		var loop *closure.LoopError
		Expect(errors.As(err, &loop)).To(BeTrue())
		Expect(loop.Loop).To(ConsistOf(b, c))
		Expect(err).To(MatchError(HaveSuffix(fmt.Sprintf("resolving closure: reference loop: %s → %s → %s",
			loop.Loop[0].Base(), loop.Loop[1].Base(), loop.Loop[0].Base()))))
		loop.From = []string{"https://one", "https://other"}
		Expect(err).To(MatchError(HavePrefix("resolving closure: narinfo field References at https://one, https://other: reference loop: ")))
	})

	it("takes a reference to itself for no loop", func() {
		_, err := graph(node(a, a)).Topological()
		Expect(err).NotTo(HaveOccurred())
	})

	it("names a reference that leads out of the closure", func() {
		_, err := graph(node(a, b)).Topological()
		Expect(err).To(MatchError(ContainSubstring(a.String() + " refers to " + b.String())))
	})

	it("knows what a path needs and who needs it", func() {
		g := graph(node(a, b), node(b, b, c), node(c))
		Expect(g.ClosureOf(b)).To(ConsistOf(b, c))
		Expect(g.Dependents()).To(Equal(map[storepath.Path][]storepath.Path{b: {a}, c: {b}}))
	})
}
