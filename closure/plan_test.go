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
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// plan is a plan for paths that are not relocated.
func plan(g *closure.Graph, layers int) []closure.Group {
	return closure.Plan(g, relocate.View{}, layers)
}

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
			Expect(group.Layer).To(MatchRegexp(`^closure-\d{4}-[0-9a-z]{12}$`))
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
	holding := func(groups []closure.Group, p storepath.Path) closure.Group {
		t.Helper()
		i := slices.IndexFunc(groups, func(g closure.Group) bool { return slices.Contains(g.Paths, p) })
		Expect(i).NotTo(BeNumerically("<", 0))
		return groups[i]
	}

	it("puts every path into exactly one layer, whatever the size and the limit", func() {
		for _, n := range []int{1, 2, 3, 50, 300} {
			for _, layers := range []int{2, 3, 10, 80} {
				g := newWorld(uint64(n), n).graph()
				check(g, plan(g, layers), layers)
			}
		}
		Expect(plan(&closure.Graph{}, 0)).To(BeEmpty())
	})

	it("has the app apart from its dependencies, whatever was asked for", func() {
		g := newWorld(5, 90).graph()
		groups := plan(g, 1)
		check(g, groups, 2)
		Expect(holding(groups, g.Roots[0]).Paths).To(Equal(g.Roots))
	})

	it("gives each path its own layer as long as there are enough", func() {
		g := newWorld(5, 90).graph()
		Expect(plan(g, 0)).To(HaveLen(90))
	})

	it("depends on the closure only", func() {
		first := plan(newWorld(7, 200).graph(), 40)
		for range 5 {
			Expect(plan(newWorld(7, 200).graph(), 40)).To(Equal(first))
		}
	})

	it("gives the root and each of the largest paths a layer of its own, the same one in every image", func() {
		w := newWorld(3, 300)
		g := w.graph()
		groups := plan(g, 0)
		nodes := g.Sorted()
		slices.SortFunc(nodes, func(a, b *closure.Node) int { return int(b.NarSize - a.NarSize) })
		alone := 0
		for _, n := range nodes {
			if n.Path != g.Roots[0] && alone < 65 {
				alone++
				Expect(holding(groups, n.Path).Paths).To(Equal([]storepath.Path{n.Path}))
			}
		}
		Expect(holding(groups, g.Roots[0]).Paths).To(Equal(g.Roots))

		other := w.graph() // another app with the same dependencies, and some of its own
		app := other.Nodes[other.Roots[0]]
		delete(other.Nodes, app.Path)
		tool := &closure.Node{Path: pathOf("x", "tool-1"), NarSize: 1e6}
		root := &closure.Node{Path: pathOf("y", "shop-1"), NarSize: 7e6, References: append(slices.Clone(app.References), tool.Path)}
		root.References = slices.DeleteFunc(root.References, func(p storepath.Path) bool { return p == app.Path })
		other.Nodes[tool.Path], other.Nodes[root.Path], other.Roots = tool, root, []storepath.Path{root.Path}
		var all, sum int64
		for _, n := range other.Nodes {
			all += n.NarSize
		}
		for _, group := range closure.Changed(groups, plan(other, 0)) {
			for _, p := range group.Paths {
				sum += other.Nodes[p].NarSize
			}
		}
		Expect(float64(all-sum) / float64(all-root.NarSize-tool.NarSize)).To(BeNumerically(">", 0.97))
	})

	it("has a layer of small paths for every six paths too many beyond forty, at least six and at most eighty in a hundred", func() {
		for paths, alone := range map[int]int{110: 94, 300: 73, 301: 72, 500: 39, 2000: 20} {
			g := newWorld(3, paths).graph()
			groups := plan(g, 0)
			nodes := slices.DeleteFunc(g.Sorted(), func(n *closure.Node) bool { return n.Path == g.Roots[0] })
			slices.SortFunc(nodes, func(a, b *closure.Node) int { return int(b.NarSize - a.NarSize) })
			largest := 0
			for largest < len(nodes) && len(holding(groups, nodes[largest].Path).Paths) == 1 {
				largest++
			}
			small := map[string]bool{}
			for _, n := range nodes[alone:] {
				small[holding(groups, n.Path).Layer] = true
			}
			Expect(largest).To(Equal(alone), "of %d paths", paths)
			Expect(small).To(HaveLen(99-alone), "of %d paths", paths)
		}
	})

	it("decides by names before hashes, so that a change of what all need groups nothing anew", func() {
		w := newWorld(7, 300)
		for i := range w.sizes {
			w.sizes[i] = int64(1000 * (1 + i%3)) // many are equal
		}
		names := func() (names []string) {
			for _, group := range plan(w.graph(), 0) {
				var layer []string
				for _, p := range group.Paths {
					layer = append(layer, p.Name())
				}
				slices.Sort(layer)
				names = append(names, strings.Join(layer, " "))
			}
			slices.Sort(names)
			return names
		}
		before := names()
		w.version[0]++
		Expect(names()).To(Equal(before))
	})

	it("names a layer by all that its bytes depend on, and by nothing else", func() {
		g := newWorld(3, 20).signed()
		groups := plan(g, 0)
		p := g.Sorted()[7].Path
		before := holding(groups, p).Layer
		for what, change := range map[string]func(n *closure.Node){
			"its NAR":             func(n *closure.Node) { n.NarHash[3] ^= 1 },
			"its signature":       func(n *closure.Node) { sign(n, "other-1") },
			"its content address": func(n *closure.Node) { n.CA = "fixed:r:sha256:x" },
		} {
			g := newWorld(3, 20).signed()
			change(g.Nodes[p])
			Expect(holding(plan(g, 0), p).Layer).NotTo(Equal(before), what)
		}
		relocated := func() string { return holding(closure.Plan(g, viewAt("/layers/x/view"), 0), p).Layer }
		was := relocated()
		Expect(was).NotTo(Equal(before))
		g.Nodes[p].Overruled = []closure.Overruled{{Path: p, File: "lib/table", By: "*/lib/*"}}
		overruled := relocated()
		Expect(overruled).NotTo(Equal(was))
		Expect(holding(plan(g, 0), p).Layer).To(Equal(before), "as nothing is rewritten")
		g.Nodes[p].Overruled[0].By = "*/lib/table"
		Expect(relocated()).NotTo(Equal(overruled))
		g.Nodes[p].Overruled = nil
		Expect(relocated()).To(Equal(was))
		g.Nodes[p].CacheURL, g.Nodes[p].NarSize, g.Nodes[p].Foreign = "https://elsewhere", g.Nodes[p].NarSize+1, []string{"x"}
		Expect(holding(plan(g, 0), p).Layer).To(Equal(before))
		g.Nodes[p].Signature = narinfo.Signature{}
		unsigned := relocated()
		g.Nodes[p].References = g.Nodes[p].References[:1]
		Expect(relocated()[len("closure-0000"):]).NotTo(Equal(unsigned[len("closure-0000"):]), "as no signature covers what it refers to")
	})

	it("keeps a layer of the previous image by its name and by its paths", func() {
		groups := plan(newWorld(3, 20).graph(), 0)
		Expect(closure.Changed(groups, groups)).To(BeEmpty())
		before := slices.Clone(groups)
		before[2].Paths = before[3].Paths
		before[5].Layer = before[6].Layer
		Expect(closure.Changed(before, groups)).To(ConsistOf(groups[2], groups[5]))
	})

	it("orders layers so that images share the lower ones: the larger the lower, the more it needs the higher", func() {
		app, pair := pathOf("a", "app-1"), []storepath.Path{pathOf("l", "large-1"), pathOf("m", "medium-1")}
		g := &closure.Graph{Roots: []storepath.Path{app}, Nodes: map[storepath.Path]*closure.Node{
			app:     {Path: app, NarSize: 4e6, References: slices.Clone(pair)},
			pair[0]: {Path: pair[0], NarSize: 400e6},
			pair[1]: {Path: pair[1], NarSize: 3e6},
		}}
		order := func() (paths []storepath.Path) {
			for _, group := range plan(g, 0) {
				paths = append(paths, group.Paths...)
			}
			return paths
		}
		Expect(order()).To(Equal([]storepath.Path{pair[0], pair[1], app}), "which needs three, so that 4 MB count as 2.3")
		g.Nodes[app].NarSize = 6e6
		Expect(order()).To(Equal([]storepath.Path{pair[0], app, pair[1]}))
		for size, place := range map[int64]string{-1: "9999", 0: "9999", 1: "9999", 1 << 20: "7439", 1<<20 + 1<<14: "7437", 1 << 40: "4879", 1 << 44: "4879"} {
			g := &closure.Graph{Roots: []storepath.Path{app}, Nodes: map[storepath.Path]*closure.Node{app: {Path: app, NarSize: size}}}
			Expect(plan(g, 0)[0].Layer).To(HavePrefix("closure-"+place+"-"), "of %d bytes", size)
		}
	})

	it("gives the roots no more than a tenth of the layers, and never less than one", func() {
		for layers, want := range map[int]int{2: 1, 10: 1, 19: 1, 20: 2, 100: 3} {
			g := newWorld(3, 150).graph()
			for i := range 2 {
				root := &closure.Node{Path: pathOf("r", fmt.Sprintf("root%d-1", i)), NarSize: 1000, References: g.Nodes[g.Roots[0]].References}
				g.Nodes[root.Path], g.Roots = root, append(g.Roots, root.Path)
			}
			holds := map[string]bool{}
			for _, root := range g.Roots {
				group := holding(plan(g, layers), root)
				holds[group.Layer] = true
				for _, p := range group.Paths {
					Expect(g.Roots).To(ContainElement(p), "in %d layers", layers)
				}
			}
			Expect(holds).To(HaveLen(want), "in %d layers", layers)
		}
	})

	it("keeps near what needs the same, so that a change of it moves few layers", func() {
		// Two languages with forty small modules each, of which five are left when the largest are taken away.
		g := &closure.Graph{Nodes: map[storepath.Path]*closure.Node{}}
		app := &closure.Node{Path: pathOf("", "app-1"), NarSize: 1}
		for _, language := range []string{"perl", "python"} {
			interpreter := &closure.Node{Path: pathOf("", language+"-3"), NarSize: 50e6}
			g.Nodes[interpreter.Path] = interpreter
			for i := range 40 {
				n := &closure.Node{
					Path: pathOf(language, fmt.Sprintf("module%02d-1", i)), NarSize: 1000, References: []storepath.Path{interpreter.Path},
				}
				g.Nodes[n.Path] = n
				app.References = append(app.References, n.Path)
			}
		}
		slices.Sort(app.References)
		g.Nodes[app.Path], g.Roots = app, []storepath.Path{app.Path}
		for _, group := range plan(g, 20) {
			if len(group.Paths) == 1 {
				continue
			}
			languages := map[storepath.Path]bool{}
			for _, p := range group.Paths {
				languages[g.Nodes[p].References[0]] = true
			}
			Expect(languages).To(HaveLen(1), "%v", group.Paths)
		}
	})

	// needing is an app of these nodes, each given as name, size and what it needs.
	needing := func(nodes ...*closure.Node) *closure.Graph {
		g := &closure.Graph{Nodes: map[storepath.Path]*closure.Node{}}
		app := &closure.Node{Path: pathOf("", "app-1"), NarSize: 1}
		for _, n := range nodes {
			g.Nodes[n.Path] = n
			app.References = append(app.References, n.Path)
		}
		slices.Sort(app.References)
		g.Nodes[app.Path], g.Roots = app, []storepath.Path{app.Path}
		return g
	}
	node := func(name string, size int64, needs ...*closure.Node) *closure.Node {
		n := &closure.Node{Path: pathOf("", name+"-1"), NarSize: size}
		for _, need := range needs {
			n.References = append(n.References, need.Path)
		}
		slices.Sort(n.References)
		return n
	}
	together := func(groups []closure.Group, a, b *closure.Node) bool {
		return slices.Contains(holding(groups, a.Path).Paths, b.Path)
	}

	it("puts small paths together that the same large path needs, of several the one that most others need", func() {
		libc := node("libc", 30e6)
		nodes := []*closure.Node{libc}
		var libraries [2][]*closure.Node
		for i := range 16 {
			library := node(fmt.Sprintf("lib%02d", i), 1000, libc)
			libraries[i%2] = append(libraries[i%2], library) // by name, one is beside the other's
			nodes = append(nodes, library)
		}
		video := node("video", 20e6, libraries[0]...)
		player := node("a-player", 20e6, append(slices.Clone(libraries[1]), video)...)
		nodes = append(nodes, video, player)
		groups := plan(needing(nodes...), 6)
		Expect(groups).To(HaveLen(6))
		for i := range 8 {
			Expect(together(groups, libraries[0][0], libraries[0][i])).To(BeTrue(), "of video, which the player needs too")
			Expect(together(groups, libraries[1][0], libraries[1][i])).To(BeTrue(), "of the player")
		}
		Expect(together(groups, libraries[0][0], libraries[1][0])).To(BeFalse())

		// An image with one of them has the same layer.
		nodes = append([]*closure.Node{libc, video}, libraries[0]...)
		Expect(plan(needing(nodes...), 4)).To(ContainElement(holding(groups, libraries[0][0].Path)))
	})

	it("puts nothing together where there are just as many layers as paths", func() {
		var small []*closure.Node
		for i := range 58 {
			small = append(small, node(fmt.Sprintf("small%02d", i), 1000))
		}
		g := needing(append(small, node("large", 3e6, small...))...)
		Expect(plan(g, 60)).To(HaveLen(60))
	})

	it("puts nothing together because a path needs it that has less than 2 MiB itself", func() {
		for size, layers := range map[int64]int{2 << 20: 96, 2<<20 - 1: 100} {
			var nodes []*closure.Node
			for i := range 8 {
				nodes = append(nodes, node(fmt.Sprintf("small%d", i), 1000))
			}
			nodes = append(nodes, node("needing", size, nodes...))
			for i := range 93 {
				nodes = append(nodes, node(fmt.Sprintf("large%02d", i), 3e6))
			}
			Expect(plan(needing(nodes...), 0)).To(HaveLen(layers), "%d bytes", size)
		}
	})

	it("joins what is small, and what needs nearly the same, rather than what is neither", func() {
		libc := node("libc", 30e6)
		large, small := []*closure.Node{libc}, []*closure.Node{}
		for i := range 30 {
			large = append(large, node(fmt.Sprintf("large%02d", i), 30e6, libc))
		}
		other := node("other", 30e6, large...)
		large = append(large, other)
		add := func(n int, name string, size int64, needs *closure.Node) {
			for i := range n {
				small = append(small, node(fmt.Sprintf("%s%02d", name, i), size, needs))
			}
		}
		// split expects the small ones in two layers, the first n in one of them.
		split := func(n int) {
			t.Helper()
			groups := plan(needing(append(slices.Clone(large), small...)...), len(large)+3)
			Expect(groups).To(HaveLen(len(large) + 3))
			for i, s := range small {
				Expect(together(groups, small[0], s)).To(Equal(i < n), s.Path.Name())
			}
		}
		add(13, "a", 1_000, libc)
		add(1, "b", 500_000, libc)
		split(13)
		small = nil
		add(4, "a", 9_000, libc)
		add(10, "b", 9_000, other)
		split(4)
	})

	it("joins few paths rather than many, even where the many are all that one of the few needs", func() {
		var many []*closure.Node
		for i := range 25 {
			many = append(many, node(fmt.Sprintf("many%02d", i), 1000))
		}
		one, two, three := node("one", 10_000, many...), node("two", 40_000), node("three", 40_000)
		large := node("large", 3e6, many...)
		groups := plan(needing(append(slices.Clone(many), one, two, three, large, node("needing", 3e6, large),
			node("large1", 3e6, one), node("large2", 3e6, two), node("large3", 3e6, three))...), 9)
		Expect(groups).To(HaveLen(9))
		Expect(together(groups, many[0], many[24])).To(BeTrue())
		Expect(together(groups, two, three)).To(BeTrue())
		Expect(together(groups, many[0], one)).To(BeFalse())
	})

	it("exports little besides what a change rebuilds", func() {
		w := newWorld(11, 300)
		before := w.graph()
		groups := plan(before, 0)
		const push = 1 << 20 // what any push costs on top, as in docs/layers.md
		var ratios, megabyte []float64
		for i := range w.names {
			if i%4 != 0 {
				continue
			}
			w.version[i]++
			g := w.graph()
			w.version[i]--
			ratio := float64(exported(g, groups, plan(g, 0))+push) / float64(change(before, g)+push)
			ratios = append(ratios, ratio)
			if 0.7e6 < w.sizes[i] && w.sizes[i] < 1.4e6 {
				megabyte = append(megabyte, ratio)
			}
		}
		slices.Sort(ratios)
		slices.Sort(megabyte)
		t.Logf("exported / rebuilt: median %.2f, nine of ten below %.2f; for paths of about 1 MB: median %.2f",
			ratios[len(ratios)/2], ratios[len(ratios)*9/10], megabyte[len(megabyte)/2])
		Expect(ratios[len(ratios)/2]).To(BeNumerically("<=", 1.3))
		Expect(ratios[len(ratios)*9/10]).To(BeNumerically("<=", 3))
		Expect(megabyte[len(megabyte)/2]).To(BeNumerically("<=", 1.25))
	})

	it("exports little of a closure of far more paths than layers", func() {
		ratios := amplifications(newWorld(1000, 1000), 100)
		t.Logf("1,000 paths: median %.2f, nine of ten below %.2f", ratios[len(ratios)/2], ratios[len(ratios)*9/10])
		Expect(ratios[len(ratios)/2]).To(BeNumerically("<=", 4))
	})

	it("stays in its limits, keeps nothing dead and stays good over a hundred pushes", func() {
		of := func(layers int, seed uint64) float64 {
			w := newWorld(13+seed, 250)
			random := rand.New(rand.NewPCG(uint64(layers), 2+seed))
			g := w.graph()
			groups := plan(g, layers)
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
				next := plan(g, layers)
				check(g, next, layers)
				moved += exported(g, groups, next)
				rebuilt += change(before, g)
				groups = next
			}
			t.Logf("%d layers, a hundred pushes of closure %d: exported / rebuilt %.2f", layers, seed, float64(moved)/float64(rebuilt))
			return float64(moved) / float64(rebuilt)
		}
		Expect(of(20, 0)).To(BeNumerically("<=", 2.4))
		first := of(100, 0)
		mean := first / 10
		for seed := range uint64(9) {
			mean += of(100, seed+1) / 10
		}
		Expect(first).To(BeNumerically("<=", 1.2))
		Expect(mean).To(BeNumerically("<=", 1.2))
	})

	it("keeps several roots apart from each other, up to a tenth of the layers", func() {
		w := newWorld(19, 100)
		g := w.graph()
		app := g.Roots[0]
		g.Roots = nil
		for i := range 15 {
			p := pathOf("1", fmt.Sprintf("service%d-1", i))
			g.Nodes[p] = &closure.Node{Path: p, NarSize: 5e6, References: []storepath.Path{app}}
			g.Roots = append(g.Roots, p)
		}
		layers := func() map[string]bool {
			used := map[string]bool{}
			for _, root := range g.Roots {
				group := holding(plan(g, 0), root)
				Expect(g.Roots).To(ContainElements(group.Paths))
				used[group.Layer] = true
			}
			return used
		}
		Expect(layers()).To(HaveLen(10))
		for _, root := range g.Roots[7:] {
			delete(g.Nodes, root)
		}
		g.Roots = g.Roots[:7]
		Expect(layers()).To(HaveLen(7))
		g.Roots = append(g.Roots, app)
		for i := range 3 {
			p := pathOf("2", fmt.Sprintf("service%d-1", i))
			g.Nodes[p] = &closure.Node{Path: p, NarSize: 5e6, References: []storepath.Path{app}}
			g.Roots = append(g.Roots, p)
		}
		groups := plan(g, 0)
		for _, root := range g.Roots {
			Expect(holding(groups, root).Paths).To(Equal([]storepath.Path{root}), "a root that others need takes none of their layers")
		}
	})

	it("keeps those roots together that need the same, where there are too many", func() {
		languages := []*closure.Node{node("perl", 50e6), node("python", 50e6)}
		g := needing(languages...)
		delete(g.Nodes, g.Roots[0])
		g.Roots = nil
		for i := range 8 {
			root := node(fmt.Sprintf("service%d", i), 1000, languages[i%2]) // by name, one is beside the other's
			g.Nodes[root.Path], g.Roots = root, append(g.Roots, root.Path)
		}
		groups := plan(g, 20)
		Expect(groups).To(HaveLen(4))
		for _, p := range g.Roots {
			for _, q := range holding(groups, p).Paths {
				Expect(g.Nodes[q].References).To(Equal(g.Nodes[p].References))
			}
		}
	})

	it("plans a closure whose references are in a circle as well as any", func() {
		g := newWorld(23, 60).graph()
		nodes := g.Sorted()
		nodes[0].References = []storepath.Path{nodes[1].Path}
		nodes[1].References = []storepath.Path{nodes[0].Path}
		check(g, plan(g, 20), 20)
	})
}
