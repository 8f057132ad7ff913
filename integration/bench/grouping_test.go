package bench_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration/bench"
)

func TestGrouping(t *testing.T) {
	spec.Run(t, "Grouping", testGrouping, spec.Report(report.Terminal{}))
}

func testGrouping(t *testing.T, _ spec.G, it spec.S) {
	// The graph of the original description: A → B → C → D → F, B → E → F, C → E, B → G; F is reached most often.
	path := func(name string) storepath.Path {
		return storepath.Path("/nix/store/" + strings.Repeat("0", 31) + "1-" + name)
	}
	g := &closure.Graph{Roots: []storepath.Path{path("a")}, Nodes: map[storepath.Path]*closure.Node{}}
	for _, line := range []string{"a 1 b", "b 2 c e g", "c 3 d e", "d 900 f", "e 5 f", "f 600 f", "g 7"} {
		fields := strings.Fields(line)
		n := &closure.Node{Path: path(fields[0]), NarSize: int64(len(fields[1]))}
		for _, ref := range fields[2:] {
			n.References = append(n.References, path(ref))
		}
		g.Nodes[n.Path] = n
	}

	it.Before(func() { RegisterTestingT(t) })

	it("gives the most popular paths a layer each and leaves the rest together", func() {
		Expect(bench.Popularity(g, 3)).To(Equal([][]storepath.Path{
			{path("a"), path("b"), path("c"), path("d"), path("g")}, {path("e")}, {path("f")},
		}))
		Expect(bench.Popularity(g, 100)).To(HaveLen(7))
	})

	it("splits the largest paths off with what only they need", func() {
		Expect(bench.AutoLayer(g, 4)).To(Equal([][]storepath.Path{
			{path("a")}, {path("b"), path("c"), path("e"), path("g")}, {path("d")}, {path("f")},
		}))
		Expect(bench.AutoLayer(g, 1)).To(Equal([][]storepath.Path{g.Paths()}))
	})

	it("counts the bytes of layers that were not there before", func() {
		var all int64
		for _, n := range g.Nodes {
			all += n.NarSize
		}
		before := bench.Popularity(g, 3)
		Expect(bench.Exported(g, before, before)).To(BeZero())
		Expect(bench.Exported(g, nil, before)).To(Equal(all))
		Expect(bench.Exported(g, before[1:], before)).To(Equal(all - 1 - 3))
	})
}
