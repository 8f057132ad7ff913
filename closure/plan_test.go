package closure_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration/bench"
)

func testPlan(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	// check is what every plan keeps: each path in one group, nothing else in any, no more groups than allowed.
	check := func(g *closure.Graph, groups []closure.Group, layers int) {
		t.Helper()
		var all []storepath.Path
		names := map[string]bool{}
		for _, group := range groups {
			Expect(group.Paths).NotTo(BeEmpty())
			Expect(slices.IsSorted(group.Paths)).To(BeTrue())
			Expect(group.Layer).To(MatchRegexp(`^closure-(\d\d+|app(-\d)?)$`))
			names[group.Layer] = true
			all = append(all, group.Paths...)
		}
		slices.Sort(all)
		Expect(all).To(Equal(g.Paths()))
		Expect(names).To(HaveLen(len(groups)))
		Expect(len(groups)).To(BeNumerically("<=", layers))
		Expect(slices.IsSortedFunc(groups, func(a, b closure.Group) int {
			return strings.Compare(a.Layer, b.Layer)
		})).To(BeTrue())
	}
	layersOf := func(groups []closure.Group) []string {
		var names []string
		for _, g := range groups {
			names = append(names, g.Layer)
		}
		return names
	}

	it("puts every path into exactly one layer, whatever the size and the limit", func() {
		for _, n := range []int{1, 2, 3, 50, 300} {
			for _, layers := range []int{2, 3, 10, 80} {
				g := newWorld(uint64(n), n).graph()
				check(g, closure.Plan(g, nil, closure.Limits{Layers: layers}), layers)
			}
		}
		Expect(closure.Plan(&closure.Graph{}, nil, closure.Limits{})).To(BeEmpty())
	})

	it("depends on its arguments only, in whatever order they come", func() {
		w := newWorld(7, 200)
		g := w.graph()
		first := closure.Plan(g, nil, closure.Limits{Layers: 40})
		w.version[20]++
		changed := w.graph()
		second := closure.Plan(changed, first, closure.Limits{Layers: 40})
		for range 5 {
			Expect(closure.Plan(w.graph(), slices.Clone(first), closure.Limits{Layers: 40})).To(Equal(second))
		}
		shuffled := slices.Clone(first)
		slices.Reverse(shuffled)
		Expect(closure.Plan(changed, shuffled, closure.Limits{Layers: 40})).To(Equal(second))
	})

	it("keeps the app's own path apart, so that a change of it changes one layer", func() {
		w := newWorld(3, 300)
		before := w.graph()
		groups := closure.Plan(before, nil, closure.Limits{})
		Expect(groups[len(groups)-1]).To(Equal(closure.Group{Layer: closure.AppLayer, Paths: before.Roots}))
		w.version[w.app()]++
		next := closure.Plan(w.graph(), groups, closure.Limits{})
		Expect(layersOf(closure.Changed(groups, next))).To(Equal([]string{closure.AppLayer}))
	})

	it("changes nothing where nothing changed", func() {
		g := newWorld(3, 300).graph()
		groups := closure.Plan(g, nil, closure.Limits{})
		Expect(closure.Plan(g, groups, closure.Limits{})).To(Equal(groups))
		Expect(closure.Changed(groups, groups)).To(BeEmpty())
	})

	it("leaves a group alone that is needed whole", func() {
		w := newWorld(5, 300)
		groups := closure.Plan(w.graph(), nil, closure.Limits{})
		for i := range 290 {
			if i%29 != 0 {
				continue
			}
			w.version[i]++
			g := w.graph()
			next := closure.Plan(g, groups, closure.Limits{})
			check(g, next, closure.DefaultLayers)
			for _, old := range groups {
				if !slices.ContainsFunc(old.Paths, func(p storepath.Path) bool { return g.Nodes[p] == nil }) {
					Expect(next).To(ContainElement(old))
				}
			}
			w.version[i]--
		}
	})

	it("exports little besides what a change rebuilds, and less than others would", func() {
		w := newWorld(11, 300)
		before := w.graph()
		groups := closure.Plan(before, nil, closure.Limits{})
		ratios := map[string][]float64{}
		var megabyte []float64
		peers := map[string]bench.Grouping{"popularity": bench.Popularity, "auto-layer": bench.AutoLayer}
		for i := range w.names {
			if i%4 != 0 {
				continue
			}
			w.version[i]++
			g := w.graph()
			w.version[i]--
			changed := float64(change(before, g))
			ours := float64(exported(g, groups, closure.Plan(g, groups, closure.Limits{}))) / changed
			ratios["ours"] = append(ratios["ours"], ours)
			if 0.7e6 < w.sizes[i] && w.sizes[i] < 1.4e6 {
				megabyte = append(megabyte, ours)
			}
			for name, peer := range peers {
				bytes := bench.Exported(g, peer(before, closure.DefaultLayers), peer(g, closure.DefaultLayers))
				ratios[name] = append(ratios[name], float64(bytes)/changed)
			}
		}
		for _, name := range []string{"ours", "popularity", "auto-layer"} {
			r := slices.Sorted(slices.Values(ratios[name]))
			t.Logf("exported / rebuilt, %s: median %.2f, nine of ten below %.2f", name, r[len(r)/2], r[len(r)*9/10])
			ratios[name] = r
		}
		slices.Sort(megabyte)
		t.Logf("ours, for %d paths of about 1 MB: median %.2f, at most %.2f", len(megabyte), megabyte[len(megabyte)/2],
			megabyte[len(megabyte)-1])
		for name, r := range ratios {
			Expect(ratios["ours"][len(r)/2]).To(BeNumerically("<=", r[len(r)/2]), name)
			Expect(ratios["ours"][len(r)*9/10]).To(BeNumerically("<=", r[len(r)*9/10]), name)
		}
		Expect(ratios["ours"][len(ratios["ours"])/2]).To(BeNumerically("<=", 1.5))
		Expect(megabyte[len(megabyte)/2]).To(BeNumerically("<=", 1.5))
	})

	it("learns which dependency changes often", func() {
		w := newWorld(11, 300)
		groups := closure.Plan(w.graph(), nil, closure.Limits{})
		worst, dearest := 0, 0.0
		for i := range 250 { // the change that the first plan serves worst
			if i%3 != 0 {
				continue
			}
			w.version[i]++
			g := w.graph()
			w.version[i]--
			before := w.graph()
			next := closure.Plan(g, groups, closure.Limits{})
			if ratio := float64(exported(g, groups, next)) / float64(change(before, g)); ratio > dearest {
				worst, dearest = i, ratio
			}
		}
		var ratios []float64
		for range 6 {
			before := w.graph()
			w.version[worst]++
			g := w.graph()
			next := closure.Plan(g, groups, closure.Limits{})
			ratios = append(ratios, float64(exported(g, groups, next))/float64(change(before, g)))
			groups = next
		}
		t.Logf("exported / rebuilt, the same path changed again and again: %.2f", ratios)
		Expect(ratios[5]).To(BeNumerically("<=", max(1.05, ratios[0])))
	})

	it("stays in its limits, keeps nothing dead and stays good over a hundred pushes", func() {
		for _, layers := range []int{20, 80} {
			w := newWorld(13, 250)
			random := rand.New(rand.NewPCG(uint64(layers), 2))
			g := w.graph()
			groups := closure.Plan(g, nil, closure.Limits{Layers: layers})
			var moved, rebuilt int64
			for push := range 100 {
				before := g
				switch i := random.IntN(len(w.names)); {
				case push%10 == 3: // a new dependency of the app
					n := w.add(random.Int64N(3_000_000)+1, w.pick(len(w.names)/2))
					w.needs[w.app()] = append(w.needs[w.app()], n)
				case push%10 == 7 && len(w.needs[w.app()]) > 2: // one less
					w.needs[w.app()] = w.needs[w.app()][1:]
				case push%3 == 0:
					w.version[w.app()]++
				default:
					w.version[i]++
				}
				g = w.graph()
				next := closure.Plan(g, groups, closure.Limits{Layers: layers})
				check(g, next, layers)
				moved += exported(g, groups, next)
				rebuilt += change(before, g)
				groups = next
			}
			t.Logf("%d layers, a hundred pushes: exported / rebuilt %.2f", layers, float64(moved)/float64(rebuilt))
			if layers == 80 {
				Expect(float64(moved) / float64(rebuilt)).To(BeNumerically("<=", 2))
			}
		}
	})

	it("obeys a limit that became smaller", func() {
		w := newWorld(17, 200)
		groups := closure.Plan(w.graph(), nil, closure.Limits{Layers: 60})
		w.version[w.app()]++
		g := w.graph()
		check(g, closure.Plan(g, groups, closure.Limits{Layers: 12}), 12)
	})

	it("keeps several roots apart from each other and gives each its own layer again", func() {
		w := newWorld(19, 100)
		g := w.graph()
		var roots []storepath.Path
		for i := range 3 {
			p := pathOf("1", fmt.Sprintf("service%d-1", i))
			g.Nodes[p] = &closure.Node{Path: p, NarSize: 5e6, References: []storepath.Path{g.Roots[0]}}
			roots = append(roots, p)
		}
		g.Roots = roots
		groups := closure.Plan(g, nil, closure.Limits{})
		app := func(p storepath.Path) string {
			for _, group := range groups {
				if len(group.Paths) == 1 && group.Paths[0] == p {
					return group.Layer
				}
			}
			return ""
		}
		for _, p := range roots {
			Expect(app(p)).To(HavePrefix(closure.AppLayer))
		}
		layer, kept := app(roots[1]), groups
		delete(g.Nodes, roots[1])
		next := pathOf("2", "service1-1")
		g.Nodes[next] = &closure.Node{Path: next, NarSize: 5e6, References: []storepath.Path{pathOf("x", "y")}}
		g.Nodes[next].References[0] = g.Nodes[roots[0]].References[0]
		g.Roots[1] = next
		groups = closure.Plan(g, kept, closure.Limits{})
		Expect(layersOf(closure.Changed(kept, groups))).To(Equal([]string{layer}))
		Expect(app(next)).To(Equal(layer))
	})

	it("is right whatever the previous groups say", func() {
		g := newWorld(23, 60).graph()
		paths := g.Paths()
		for _, previous := range [][]closure.Group{
			{{Layer: "closure-00", Paths: paths}, {Layer: "closure-01", Paths: paths[:3]}},
			{{Layer: "closure-00", Paths: paths[:3]}, {Layer: "closure-00", Paths: paths[3:6]}},
			{{Layer: "closure-00"}},
			{{Layer: "closure-00", Paths: []storepath.Path{paths[1], paths[0]}}},
			{{Layer: "closure-00", Paths: []storepath.Path{paths[1], paths[1]}}},
			{{Layer: "closure-app", Paths: paths[:30]}, {Layer: "store", Paths: paths[30:]}},
		} {
			check(g, closure.Plan(g, previous, closure.Limits{}), closure.DefaultLayers)
		}
	})
}
