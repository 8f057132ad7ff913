package closure

import (
	"cmp"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Group is one layer of the image and the store paths that it holds.
type Group struct {
	Layer string           // "closure-07", or "closure-app" for what the roots themselves are
	Paths []storepath.Path // sorted
}

// Limits bounds a plan.
type Limits struct {
	// Layers is the most groups there may be; 0 means DefaultLayers. An image may have 127 layers, of which the run
	// image, the lifecycle and other buildpacks need theirs.
	Layers int
}

const (
	// DefaultLayers is the default of nixpkgs' dockerTools too. It leaves 27 of an image's 127 layers to the run image,
	// the lifecycle and other buildpacks.
	DefaultLayers = 100
	// AppLayer is the layer of the roots' own paths. With several roots the others follow as closure-app-2 and on.
	AppLayer = "closure-app"
	// LayerPrefix starts the name of every layer that a plan makes.
	LayerPrefix = "closure-"
	// BuildLayer is the group of what is needed while an image is made and goes into none. It is no layer.
	BuildLayer = LayerPrefix + "build"

	// maxAppLayers bounds how many layers the roots themselves are spread over.
	maxAppLayers = 4
	// driftLimit is how many times dearer than a fresh plan a grown one may be before it is given up.
	driftLimit = 2
)

func (l Limits) layers() int {
	if l.Layers <= 0 {
		return DefaultLayers
	}
	return max(l.Layers, 2) // the app apart from its dependencies, whatever was asked for
}

// Plan says which layer holds which path: every node of g in exactly one group and nothing else in any, never more
// groups than limits allows. It depends on its arguments alone, so two builds plan alike.
//
// The roots' own paths are apart from the rest. The rest is grouped so that a change of one path, which rebuilds all
// its dependents, replaces few bytes besides those (model.go has the measure). A previous group that is needed whole
// stays as it is, name and members. One that lost a member has to be written again in any case, so what is left of
// it is grouped anew together with the new paths, under the names that come free.
func Plan(g *Graph, previous []Group, limits Limits) []Group {
	if len(g.Nodes) == 0 {
		return nil
	}
	p := planner{model: newModel(g, origins(g, previous)), graph: g, limit: limits.layers(), previous: previous}
	if len(previous) == 0 {
		return p.fresh()
	}
	grown, pooled := p.grow()
	if !pooled {
		return grown
	}
	if fresh := p.fresh(); p.model.cost(grown) > driftLimit*p.model.cost(fresh) {
		return fresh
	}
	return grown
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
		groups = append(groups, Group{Layer: BuildLayer, Paths: rest})
	}
	return groups
}

// Changed gives the groups that previous does not have with the same name and members: those whose layers have to be
// written. All others stay in the previous image.
func Changed(previous, groups []Group) []Group {
	had := map[string][]storepath.Path{}
	for _, g := range previous {
		had[g.Layer] = g.Paths
	}
	var changed []Group
	for _, g := range groups {
		if old, ok := had[g.Layer]; !ok || !slices.Equal(old, g.Paths) {
			changed = append(changed, g)
		}
	}
	return changed
}

type planner struct {
	model    *model
	graph    *Graph
	limit    int
	previous []Group
}

// fresh plans without keeping anything but names. A twentieth of the layers is left for later growth.
func (p *planner) fresh() []Group {
	apps := p.apps(nil)
	var rest []int
	for i := range p.model.nodes {
		if !slices.ContainsFunc(apps, func(app []int) bool { return slices.Contains(app, i) }) {
			rest = append(rest, i)
		}
	}
	quota := p.limit - len(apps)
	groups := p.model.cluster(rest, max(1, quota-p.limit/20))
	namer := newNamer(p.model, p.previous)
	return namer.sorted(append(namer.name(apps, true), namer.name(groups, false)...))
}

// apps groups the roots' own paths: those roots that nothing else in the closure refers to, unless kept has them.
func (p *planner) apps(kept bitset) [][]int {
	dependents := p.graph.Dependents()
	var own []int
	for _, root := range p.graph.Roots {
		i, ok := p.model.index[root]
		if !ok || len(dependents[root]) > 0 || (kept != nil && kept.has(i)) || slices.Contains(own, i) {
			continue
		}
		own = append(own, i)
	}
	slices.Sort(own)
	return p.model.cluster(own, min(maxAppLayers, p.limit-1))
}

// grow keeps every previous group that is needed whole and plans the rest around them. It reports whether there was
// anything besides the roots to plan.
func (p *planner) grow() (groups []Group, pooled bool) {
	clean, kept := p.clean()
	apps := p.apps(kept)
	inApp := newBitset(len(p.model.nodes))
	for _, app := range apps {
		for _, i := range app {
			inApp.add(i)
		}
	}
	var pool []int
	for i := range p.model.nodes {
		if !kept.has(i) && !inApp.has(i) {
			pool = append(pool, i)
		}
	}
	// Layers to spare are made by giving up the smallest groups that could have stayed.
	slices.SortFunc(clean, func(a, b Group) int {
		return cmp.Or(cmp.Compare(p.bytes(b), p.bytes(a)), strings.Compare(a.Layer, b.Layer))
	})
	room := func() int { return p.limit - len(apps) - len(clean) }
	for len(clean) > 0 && (room() < 0 || room() == 0 && len(pool) > 0) {
		last := clean[len(clean)-1]
		clean = clean[:len(clean)-1]
		for _, path := range last.Paths {
			pool = append(pool, p.model.index[path])
		}
	}
	slices.Sort(pool)
	namer := newNamer(p.model, p.previous)
	for _, g := range clean {
		namer.take(g.Layer)
	}
	groups = append(clean, namer.name(apps, true)...)
	if len(pool) > 0 {
		// Names never used so far are spent by halves, so that later pushes have some too.
		freed := min(room(), max(1, p.lost(clean)))
		quota := freed + (room()-freed+1)/2
		groups = append(groups, namer.name(p.model.cluster(pool, quota), false)...)
	}
	return namer.sorted(groups), len(pool) > 0
}

// clean gives the previous groups that can stay, with the set of their members. One that holds roots' own paths has
// to hold one still.
func (p *planner) clean() ([]Group, bitset) {
	kept := newBitset(len(p.model.nodes))
	used := map[string]bool{}
	var clean []Group
	for _, g := range p.previous {
		app := isApp(g.Layer)
		whole := len(g.Paths) > 0 && isLayer(g.Layer) && !used[g.Layer] && slices.IsSorted(g.Paths)
		for n, path := range g.Paths {
			i, ok := p.model.index[path]
			whole = whole && ok && !kept.has(i) && (n == 0 || g.Paths[n-1] != path)
		}
		if !whole || app && !slices.ContainsFunc(g.Paths, func(path storepath.Path) bool {
			return slices.Contains(p.graph.Roots, path)
		}) {
			continue
		}
		for _, path := range g.Paths {
			kept.add(p.model.index[path])
		}
		used[g.Layer] = true
		clean = append(clean, Group{Layer: g.Layer, Paths: slices.Clone(g.Paths)})
	}
	return clean, kept
}

// lost counts the previous layers of dependencies that are not among the clean ones.
func (p *planner) lost(clean []Group) int {
	var lost int
	for _, g := range p.previous {
		if !isApp(g.Layer) && !slices.ContainsFunc(clean, func(c Group) bool { return c.Layer == g.Layer }) {
			lost++
		}
	}
	return lost
}

// origins finds where the changes since the previous plan began: new paths that took the place of one of the same
// package and rest on nothing new. What changed once is likely to change again.
func origins(g *Graph, previous []Group) map[storepath.Path]bool {
	before := map[storepath.Path]bool{}
	gone := map[string]bool{}
	for _, group := range previous {
		for _, path := range group.Paths {
			before[path] = true
			if g.Nodes[path] == nil {
				gone[packageName(path)] = true
			}
		}
	}
	found := map[storepath.Path]bool{}
	for path, n := range g.Nodes {
		fresh := func(ref storepath.Path) bool { return ref != path && !before[ref] }
		if !before[path] && gone[packageName(path)] && !slices.ContainsFunc(n.References, fresh) {
			found[path] = true
		}
	}
	return found
}

func (p *planner) bytes(g Group) int64 {
	var sum int64
	for _, path := range g.Paths {
		sum += p.graph.Nodes[path].NarSize
	}
	return sum
}

// isLayer reports whether layer is a name that a plan gives.
func isLayer(layer string) bool {
	name, ok := strings.CutPrefix(layer, LayerPrefix)
	if rest, app := strings.CutPrefix(name, "app"); app {
		if name, ok = strings.CutPrefix(rest, "-"); !ok {
			return rest == ""
		}
	}
	return ok && name != "" && strings.Trim(name, "0123456789") == ""
}

func isApp(layer string) bool { return strings.HasPrefix(layer, AppLayer) }

// packageName is a store path's name without its version, told apart as Nix's parseDrvName does: the version starts
// at the first dash that no letter follows.
func packageName(p storepath.Path) string {
	name := p.Name()
	for i := 0; i+1 < len(name); i++ {
		if c := name[i+1]; name[i] == '-' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return name[:i]
		}
	}
	return name
}
