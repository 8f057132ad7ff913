package closure

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Group is one layer of the image and the store paths that it holds.
type Group struct {
	Layer string           // its name, which says what it holds: see name
	Paths []storepath.Path // sorted
}

const (
	// DefaultLayers is the default of nixpkgs' dockerTools too. It leaves 27 of the 127 layers of an image to the run image,
	// the lifecycle and other buildpacks.
	DefaultLayers = 100
	// LayerPrefix starts the name of every layer that a plan makes.
	LayerPrefix = "closure-"
	// BuildGroup stands for a layer of the group of what is needed while an image is made, and goes into none.
	BuildGroup = LayerPrefix + "build"

	// A layer is mixed where it holds several small paths. For the paths that are more than there are layers, but for the
	// first freeExcess, there is one for every mixedEvery: the more paths to each, the more layers hold one path alone, which
	// other images have too; the fewer, the less is exported besides what has changed. There are fewestMixed of them at least
	// and mostMixed at most. Those that are not mixedEvery are parts of the layers, in a hundred, rounded down.
	mixedEvery                         = 6
	freeExcess, fewestMixed, mostMixed = 40, 6, 80
	// largeReferrer is the least size of a path with which the small ones that it needs are put together.
	largeReferrer = 2 << 20
	// layerName is how much of a hash a layer's name has: 60 bits. What a layer holds is compared besides, and the shorter its
	// name, the faster are links into it (see LinkTarget).
	layerName = 12
)

// Plan says which layer holds which path of g: every node in exactly one group and nothing else in any, never more
// groups than layers, which is DefaultLayers where it is 0. Layers are named for paths relocated to view.
//
// It knows this one closure and nothing else, and decides by what is the same of a path in every image, what it needs
// and its size, so that images that have much in common have layers in common, and a push is planned as the one before:
// the roots are apart from the rest, and so is what may wrap programs of others, with the roots if these have one layer; most
// layers hold one path each, the largest; the small ones are together with what the same large path needs (see byReferrer), and
// neighbours among these parts are joined until all fit (see join). The groups are in the order of their layers' names.
func Plan(g *Graph, view relocate.View, layers int) []Group {
	if len(g.Nodes) == 0 {
		return nil
	}
	nodes, err := g.Topological()
	if err != nil {
		nodes = g.Sorted() // it has a reference loop, or lacks a reference: no image is made of it
	}
	p := newPlanner(nodes)
	apps, wrappers, rest := p.split(g)
	quota := DefaultLayers
	if layers > 0 {
		quota = max(layers, 2) // the app apart from its dependencies, whatever was asked for
	}
	own := join(p.parts(apps), max(1, quota/10))
	if len(own) == 1 {
		own[0], wrappers = append(own[0], wrappers...), nil
	}
	quota -= len(own) + min(1, len(wrappers))
	slices.SortFunc(rest, p.bySize)
	alone := len(rest)
	if alone > quota {
		excess := len(rest) - quota - quota*freeExcess/100
		alone = quota - min(max(1, quota*fewestMixed/100, excess/mixedEvery), max(1, quota*mostMixed/100))
	}
	var sets [][]int
	for _, i := range rest[:alone] {
		sets = append(sets, []int{i})
	}
	sets = append(sets, join(p.byReferrer(rest[:alone], rest[alone:]), quota-alone)...)
	groups := make([]Group, 0, len(sets)+len(own))
	for _, set := range sets {
		groups = append(groups, p.group(set, view, nil))
	}
	// These may name the layers of the others.
	if len(wrappers) > 0 {
		groups = append(groups, p.group(wrappers, view, layersOf(groups)))
	}
	layersOfRest := layersOf(groups)
	for _, set := range own {
		groups = append(groups, p.group(set, view, layersOfRest))
	}
	slices.SortFunc(groups, func(a, b Group) int { return strings.Compare(a.Layer, b.Layer) })
	return groups
}

// layersOf gives the layer of each path.
func layersOf(groups []Group) map[storepath.Path]string {
	layers := map[storepath.Path]string{}
	for _, group := range groups {
		for _, p := range group.Paths {
			layers[p] = group.Layer
		}
	}
	return layers
}

// planBeside adds to a plan a group of all that it lacks.
func planBeside(g *Graph, planned []Group) []Group {
	has := map[storepath.Path]bool{}
	for _, group := range planned {
		for _, p := range group.Paths {
			has[p] = true
		}
	}
	groups := slices.Clone(planned)
	if rest := slices.DeleteFunc(g.Paths(), func(p storepath.Path) bool { return has[p] }); len(rest) > 0 {
		groups = append(groups, Group{Layer: BuildGroup, Paths: rest})
	}
	return groups
}

// changed gives the groups whose layers previous does not have: those have to be written. All others stay in the
// previous image, as a layer's name says what it holds, and previous names the same paths.
func changed(previous, groups []Group) []Group {
	return slices.DeleteFunc(slices.Clone(groups), func(g Group) bool { return contains(previous, g) })
}

// contains reports whether one of groups has g's layer. A name is short enough that two might share it by intent.
func contains(groups []Group, g Group) bool {
	return slices.ContainsFunc(groups, func(other Group) bool {
		return other.Layer == g.Layer && slices.Equal(other.Paths, g.Paths)
	})
}

// IsLayer reports whether a plan gives such names. They are plain words, as shells, PATH and links have them.
func IsLayer(name string) bool {
	hash, ok := strings.CutPrefix(name, LayerPrefix)
	return ok && len(hash) == 5+layerName && hash[4] == '-' && strings.Trim(hash[:4], "0123456789") == "" &&
		storepath.IsHashPart(hash[5:]+strings.Repeat("0", storepath.HashLen-layerName))
}

// planner knows of each node, by its place in nodes, what a plan depends on.
type planner struct {
	nodes      []*Node // each after those that it refers to
	closure    []set   // what each needs, itself included
	count      []int   // how many that are
	popularity []int   // how many need each, itself included
	parent     []int   // in a tree, the one of a node's references that needs most itself; -1 for none
	depth      []int   // how many parents follow one another from it
}

func newPlanner(nodes []*Node) *planner {
	p := &planner{nodes: nodes, popularity: make([]int, len(nodes))}
	index := make(map[storepath.Path]int, len(nodes))
	for i, n := range nodes {
		index[n.Path] = i
		own, parent := make(set, (len(nodes)+63)/64), -1
		own[i/64] |= 1 << (i % 64)
		for _, ref := range n.References {
			j, ok := index[ref]
			if !ok || j >= i {
				continue
			}
			own.add(p.closure[j])
			if parent < 0 || p.byCount(j, parent) > 0 {
				parent = j
			}
		}
		depth := 0
		if parent >= 0 {
			depth = p.depth[parent] + 1
		}
		p.closure, p.count = append(p.closure, own), append(p.count, own.len())
		for j := range i + 1 {
			if own.has(j) {
				p.popularity[j]++
			}
		}
		p.parent, p.depth = append(p.parent, parent), append(p.depth, depth)
	}
	return p
}

// byCount is what needs fewest others first. A name says more than a hash, which is another one whenever something
// below it has changed.
func (p *planner) byCount(i, j int) int {
	return cmp.Or(cmp.Compare(p.count[i], p.count[j]), p.byName(i, j))
}

// byPopularity is what most others need first.
func (p *planner) byPopularity(i, j int) int {
	return cmp.Or(cmp.Compare(p.popularity[j], p.popularity[i]), p.byCount(i, j))
}

func (p *planner) byName(i, j int) int {
	a, b := p.nodes[i].Path, p.nodes[j].Path
	return cmp.Or(strings.Compare(a.Name(), b.Name()), strings.Compare(string(a), string(b)))
}

// bySize is the larger first.
func (p *planner) bySize(i, j int) int {
	return cmp.Or(cmp.Compare(p.nodes[j].NarSize, p.nodes[i].NarSize), p.byName(i, j))
}

// split tells the roots' own paths, those roots that nothing else in the closure refers to, and what may wrap programs of others
// from the rest.
func (p *planner) split(g *Graph) (apps, wrappers, rest []int) {
	dependents := g.Dependents()
	for i, n := range p.nodes {
		switch {
		case slices.Contains(g.Roots, n.Path) && len(dependents[n.Path]) == 0:
			apps = append(apps, i)
		case relocate.MayWrap(n.NarSize, n.References):
			wrappers = append(wrappers, i)
		default:
			rest = append(rest, i)
		}
	}
	return apps, wrappers, rest
}

// byNeeds orders nodes as a walk over a tree does in which each one's parent is the reference that needs most itself: all
// that need Python follow Python, and among them all that need its numpy follow that.
func (p *planner) byNeeds(i, j int) int {
	a, b := i, j
	for p.depth[a] > p.depth[b] {
		a = p.parent[a]
	}
	for p.depth[b] > p.depth[a] {
		b = p.parent[b]
	}
	if a == b {
		return cmp.Compare(p.depth[i], p.depth[j]) // one is an ancestor of the other
	}
	for p.parent[a] != p.parent[b] {
		a, b = p.parent[a], p.parent[b]
	}
	return p.byName(a, b)
}

// part is a run of nodes on their way to a group.
type part struct {
	nodes   []int
	size    int64 // KiB
	closure set
	count   int
}

// parts are single nodes, in the order of what they need.
func (p *planner) parts(nodes []int) []*part {
	nodes = slices.SortedFunc(slices.Values(nodes), p.byNeeds)
	parts := make([]*part, 0, len(nodes))
	for _, i := range nodes {
		parts = append(parts, p.part(i))
	}
	return parts
}

func (p *planner) part(i int) *part {
	size := (min(max(p.nodes[i].NarSize, 0), narinfo.MaxNarSize) + 1023) >> 10
	return &part{nodes: []int{i}, size: size, closure: slices.Clone(p.closure[i]), count: p.count[i]}
}

// byReferrer puts small nodes together that have the same referrer: of the large ones that need a node, if not directly, the
// most popular, which most images have. Where that one is in an image, all its small ones are; and when one of these has
// changed, it has too, beside whose bytes theirs are few. What no large one needs stays single. The parts are in the order
// of what their referrers need.
func (p *planner) byReferrer(large, small []int) (parts []*part) {
	large = slices.DeleteFunc(slices.Clone(large), func(i int) bool { return p.nodes[i].NarSize < largeReferrer })
	slices.SortFunc(large, p.byPopularity)
	referrer := make(map[int]int, len(small))
	for _, i := range small {
		referrer[i] = i
		if at := slices.IndexFunc(large, func(l int) bool { return p.closure[l].has(i) }); at >= 0 {
			referrer[i] = large[at]
		}
	}
	small = slices.SortedFunc(slices.Values(small), func(i, j int) int { return p.byNeeds(referrer[i], referrer[j]) })
	for at, i := range small {
		if at > 0 && referrer[i] == referrer[small[at-1]] {
			parts[len(parts)-1].take(p.part(i))
		} else {
			parts = append(parts, p.part(i))
		}
	}
	return parts
}

// join joins neighbours until at most n parts are left, again and again those two for which it costs least. A part
// costs its size times the number of paths that it has and needs: how much is exported, by how many changes. Sums are of
// whole numbers, so that no processor rounds another way.
func join(parts []*part, n int) [][]int {
	costs := make([]int64, 0, len(parts)) // of joining each to the next
	for i := 1; i < len(parts); i++ {
		costs = append(costs, cost(parts[i-1], parts[i]))
	}
	for len(parts) > max(n, 1) {
		at := 0
		for i := range costs {
			if costs[i] < costs[at] {
				at = i
			}
		}
		to := parts[at]
		to.take(parts[at+1])
		parts, costs = slices.Delete(parts, at+1, at+2), slices.Delete(costs, at, at+1)
		if at > 0 {
			costs[at-1] = cost(parts[at-1], to)
		}
		if at < len(costs) {
			costs[at] = cost(to, parts[at+1])
		}
	}
	sets := make([][]int, 0, len(parts))
	for _, part := range parts {
		sets = append(sets, part.nodes)
	}
	return sets
}

// cost is what joining two parts adds: each is exported also when only the other one has changed, and in an image that
// has not all of the other.
func cost(a, b *part) int64 {
	both := a.closure.common(b.closure)
	return a.size*int64(b.count-both+len(b.nodes)) + b.size*int64(a.count-both+len(a.nodes))
}

func (a *part) take(b *part) {
	a.nodes = append(a.nodes, b.nodes...)
	a.size += b.size
	a.closure.add(b.closure)
	a.count = a.closure.len()
}

// group is a layer of some nodes. Its name has in it all that its bytes depend on: the format, the directory that the
// paths were relocated to, and of each path the NAR, the proof that lies beside it, and what no proof covers: which files
// were taken as harmless, references that nobody signed, and in which of layers its references are, which wrappers of relocated
// roots and of what may wrap programs may name (see Places). Before the hash stands its position among the layers.
func (p *planner) group(nodes []int, view relocate.View, layers map[storepath.Path]string) Group {
	needs, size := make(set, (len(p.nodes)+63)/64), int64(0)
	g := Group{Paths: make([]storepath.Path, 0, len(nodes))}
	slices.SortFunc(nodes, func(i, j int) int { return cmp.Compare(p.nodes[i].Path, p.nodes[j].Path) })
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %s\n", Format, view.Dir())
	for _, i := range nodes {
		n := p.nodes[i]
		needs.add(p.closure[i])
		size += min(max(n.NarSize, 0), narinfo.MaxNarSize)
		fmt.Fprintf(sum, "%s %s %q %q\n", n.Path, n.NarHash, n.Signature.String(), n.CA)
		if n.Signature.Name == "" && n.CA == "" {
			fmt.Fprintf(sum, "%q\n", n.References)
		}
		if len(n.Overruled) > 0 && !view.IsZero() {
			fmt.Fprintf(sum, "%q\n", n.Overruled)
		}
		for _, ref := range n.References {
			if layers[ref] != "" && !view.IsZero() {
				fmt.Fprintf(sum, "%s\n", layers[ref])
			}
		}
		g.Paths = append(g.Paths, n.Path)
	}
	hash := storepath.Encode32(sum.Sum(nil))
	g.Layer = fmt.Sprintf("%s%04d-%s", LayerPrefix, position(size, needs.len()), hash[len(hash)-layerName:])
	return g
}

// position is where in an image a layer stands, 0 to 9999, as the lifecycle orders layers by name. Container engines share
// an unpacked layer of two images only where all layers below it are the same too. So at the bottom is what is worth most
// and most likely in the other image as well: the larger, the lower; the more it needs, the higher. The square root of
// that number is what counts of it, which was found by experiment: see docs/fleet.md.
func position(size int64, needs int) int {
	return 9999 - max(0, 2*logarithm(uint64(size))-logarithm(uint64(needs)))
}

// logarithm is that of x to base 2 in steps of 1/64, without floating point, which processors round in other ways.
func logarithm(x uint64) int {
	n := bits.Len64(max(x, 1)) - 1
	return n<<6 + int(bits.RotateLeft64(max(x, 1), 6-n)&63)
}
