package bench

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

const (
	// fleetSeeds is how many fleets are made of each universe; the worst figure of them counts. What ours is compared
	// with is measured on the first of each.
	fleetSeeds = 3
	// fleetChanges is how many changes of one path the amplifications of a fleet are the mean of.
	fleetChanges = 120
	// fleetUpdates is how many packages are changed, one at a time, in all apps of a fleet that have it.
	fleetUpdates = 2
	// pushBytes is what any push costs besides its paths: configuration, the view, round trips (docs/layers.md).
	pushBytes = 1 << 20
)

// fleetRules are the groupings that are compared: ours and those of others.
var fleetRules = []fleetRule{
	{"ours", ours}, {"popularity", Popularity}, {"auto_layer", AutoLayer}, {"layer_per_path", layerPerPath},
}

// fleetRule is a grouping and its name in rows.
type fleetRule struct {
	name string
	Grouping
}

// fleetOrders are the orders of an image's layers, lowest first, that are compared: first the grouping's own.
var fleetOrders = []struct {
	name  string
	order func(*closure.Graph) func(a, b []storepath.Path) int
}{
	{"", nil},
	{"_ordered_by_hash", func(*closure.Graph) func(a, b []storepath.Path) int {
		return func(a, b []storepath.Path) int { return strings.Compare(contents(a), contents(b)) }
	}},
	{"_ordered_by_size", func(g *closure.Graph) func(a, b []storepath.Path) int {
		return func(a, b []storepath.Path) int { return cmp.Compare(bytesOf(g, b), bytesOf(g, a)) }
	}},
	{"_ordered_by_needs", func(g *closure.Graph) func(a, b []storepath.Path) int {
		return func(a, b []storepath.Path) int { return cmp.Compare(len(g.ClosureOf(a...)), len(g.ClosureOf(b...))) }
	}},
	{"_ordered_by_dependents", func(g *closure.Graph) func(a, b []storepath.Path) int {
		dependents := g.Dependents()
		most := func(paths []storepath.Path) (most int) {
			for _, p := range paths {
				most = max(most, len(dependents[p]))
			}
			return most
		}
		return func(a, b []storepath.Path) int { return cmp.Compare(most(b), most(a)) }
	}},
}

// fleet simulates images of many apps that share a registry and nodes, by their closures alone: docs/fleet.md.
func (b *Bench) fleet(ctx context.Context) error {
	universes, err := b.universes(ctx)
	if err != nil {
		return err
	}
	for _, size := range []int{40, 200} {
		rules := fleetRules
		if size == 40 { // where it takes little time
			rules = slices.Concat(rules, fewerLayers())
		}
		totals, figures, err := b.playFleets(ctx, universes, size, rules)
		if err != nil {
			return err
		}
		b.totalRows(fmt.Sprintf("fleet.%d", size), totals)
		for i, rule := range rules {
			b.fleetRows(fmt.Sprintf("fleet.%d.%s", size, rule.name), figures[i], size)
		}
	}
	b.row("fleet.plan_2000_paths", planning(universes[0]).Seconds(), "s", "<=0.5")
	return nil
}

// fewerLayers are our grouping with less layers than there may be.
func fewerLayers() (rules []fleetRule) {
	for _, layers := range []int{10, 20, 40, 60, 80} {
		rules = append(rules, fleetRule{
			fmt.Sprintf("ours_in_%d_layers", layers),
			func(g *closure.Graph, _ int) [][]storepath.Path { return ours(g, layers) },
		})
	}
	return rules
}

// playFleets makes fleets of so many apps, some of each universe, and gives the worst of each figure by rule.
func (b *Bench) playFleets(ctx context.Context, universes []*fleetUniverse, size int, rules []fleetRule) (
	totals fleetTotals, worst []*fleetFigures, err error,
) {
	n := len(universes) * fleetSeeds
	for range rules {
		worst = append(worst, newFleetFigures())
	}
	var mu sync.Mutex
	atOnce(n, func(i int) {
		u, seed := universes[i/fleetSeeds], uint64(i%fleetSeeds+1)
		f := newFleet(u.apps(seed, size), seed)
		mu.Lock()
		totals.include(f, n)
		mu.Unlock()
		for at, rule := range rules {
			if ctx.Err() != nil {
				return
			}
			of := n
			if rule.name != "ours" {
				of = len(universes)
			}
			if of < n && seed > 1 {
				continue
			}
			figures := f.measure(rule.Grouping)
			mu.Lock()
			b.Log("%d apps of %s, seed %d, %s: %s", size, u.name, seed, rule.name, figures)
			worst[at].include(figures, of, size)
			mu.Unlock()
		}
	})
	return totals, worst, context.Cause(ctx)
}

// fleet is the images of some apps, and what happens to them.
type fleet struct {
	graphs  []*closure.Graph
	changes []fleetChange // of one app each
	updates [][]fleetChange
	union   map[storepath.Path]int64
	total   int64
}

// fleetChange is a closure before and after a change of one path.
type fleetChange struct {
	before, after *closure.Graph
	rebuilt       int64
}

// graphSize is the size of all paths, in bytes.
func graphSize(g *closure.Graph) (sum int64) {
	for _, n := range g.Nodes {
		sum += n.NarSize
	}
	return sum
}

func newFleet(apps []*fleetApp, seed uint64) *fleet {
	f := &fleet{union: map[storepath.Path]int64{}}
	all := map[int]bool{}
	for _, app := range apps {
		g := app.graph(-1)
		f.graphs = append(f.graphs, g)
		f.total += graphSize(g)
		for p, n := range g.Nodes {
			f.union[p] = n.NarSize
		}
		for _, i := range app.needs {
			all[i] = true
		}
	}
	dice := rand.New(rand.NewPCG(seed-1, 11))
	for i := range fleetChanges {
		app := apps[i%len(apps)]
		f.changes = append(f.changes, newFleetChange(f.graphs[i%len(apps)], app, app.needs[dice.IntN(len(app.needs))]))
	}
	packages := make([]int, 0, len(all))
	for i := range all {
		packages = append(packages, i)
	}
	slices.Sort(packages)
	for range fleetUpdates {
		var update []fleetChange
		changed := packages[dice.IntN(len(packages))]
		for i, app := range apps {
			if app.has[changed] {
				update = append(update, newFleetChange(f.graphs[i], app, changed))
			}
		}
		f.updates = append(f.updates, update)
	}
	return f
}

func newFleetChange(before *closure.Graph, app *fleetApp, changed int) fleetChange {
	c := fleetChange{before: before, after: app.graph(changed)}
	for p, n := range c.after.Nodes {
		if before.Nodes[p] == nil {
			c.rebuilt += n.NarSize
		}
	}
	return c
}

// atOnce calls a function with each number below n, as many at once as there are processors.
func atOnce(n int, do func(i int)) {
	slots := make(chan struct{}, cores())
	var group sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	group.Wait()
}

// ours is this buildpack's grouping.
func ours(g *closure.Graph, layers int) [][]storepath.Path {
	var groups [][]storepath.Path
	for _, group := range closure.Plan(g, relocate.View{}, layers) {
		groups = append(groups, group.Paths)
	}
	return groups
}

// layerPerPath is the ceiling that no image format of today has room for.
func layerPerPath(g *closure.Graph, _ int) [][]storepath.Path {
	var groups [][]storepath.Path
	for _, p := range g.Paths() {
		groups = append(groups, []storepath.Path{p})
	}
	return groups
}

// imagesAt are the images of which is told what a node downloads for them that has all those before.
var imagesAt = []int{1, 2, 3, 5, 10, 20, 40, 100, 200}

// measure plays a fleet: every image is pushed to one registry and run on one node.
func (f *fleet) measure(group Grouping) *fleetFigures {
	figures := newFleetFigures()
	blobs, chains := map[string]int64{}, make([]map[string]int64, len(fleetOrders))
	for k, g := range f.graphs {
		var fresh int64
		groups := group(g, closure.DefaultLayers)
		figures.layers = max(figures.layers, len(groups))
		for _, paths := range groups {
			key, size := contents(paths), bytesOf(g, paths)
			if _, known := blobs[key]; !known {
				fresh += size
			}
			blobs[key] = size
		}
		if i := slices.Index(imagesAt, k+1); i >= 0 {
			figures.images[i] = float64(fresh) / float64(graphSize(g))
		}
		for i, order := range fleetOrders {
			if order.order != nil {
				slices.SortStableFunc(groups, order.order(g))
			}
			chains[i] = chained(chains[i], g, groups)
		}
	}
	least := float64(sumOf(f.union))
	stored := float64(sumOf(blobs))
	figures.share = (float64(f.total) - stored) / (float64(f.total) - least)
	figures.stored, figures.downloaded = stored/least, stored/least
	for i := range fleetOrders {
		figures.unpacked[i] = float64(sumOf(chains[i])) / least
	}
	figures.amplification, figures.most = f.amplification(group)
	for _, update := range f.updates {
		figures.update += updated(update, blobs, group) / float64(len(f.updates))
	}
	return figures
}

// chained adds an image's layers to those that are unpacked, each known by all that are below it.
func chained(chains map[string]int64, g *closure.Graph, groups [][]storepath.Path) map[string]int64 {
	if chains == nil {
		chains = map[string]int64{}
	}
	chain := ""
	for _, paths := range groups {
		chain = contents(append([]storepath.Path{storepath.Path(chain)}, paths...))
		chains[chain] = bytesOf(g, paths)
	}
	return chains
}

// amplification changes one path of one app at a time.
func (f *fleet) amplification(group Grouping) (mean, most float64) {
	var ratios []float64
	for _, c := range f.changes {
		moved := Exported(c.after, group(c.before, closure.DefaultLayers), group(c.after, closure.DefaultLayers))
		ratios = append(ratios, float64(moved+pushBytes)/float64(c.rebuilt+pushBytes))
	}
	slices.Sort(ratios)
	for _, r := range ratios {
		mean += r / float64(len(ratios))
	}
	return mean, ratios[len(ratios)*9/10]
}

// updated is what all apps upload to a registry with those blobs when one package is changed for all of them, against
// what that rebuilds.
func updated(update []fleetChange, blobs map[string]int64, group Grouping) float64 {
	fresh, rebuilt := map[string]int64{}, map[storepath.Path]int64{}
	for _, c := range update {
		for _, paths := range group(c.after, closure.DefaultLayers) {
			if key := contents(paths); blobs[key] == 0 {
				fresh[key] = bytesOf(c.after, paths)
			}
		}
		for p, n := range c.after.Nodes {
			if c.before.Nodes[p] == nil {
				rebuilt[p] = n.NarSize
			}
		}
	}
	return float64(sumOf(fresh)+pushBytes) / float64(sumOf(rebuilt)+pushBytes)
}

// planning is how long it takes to plan 2,000 paths.
func planning(u *fleetUniverse) time.Duration {
	dice, app := rand.New(rand.NewPCG(1, 1)), &fleetApp{universe: u, size: 1e6}
	for len(app.needs) < 2000 {
		app.need(dice.IntN(len(u.packages)))
	}
	app.needs = app.needs[:2000]
	slices.Sort(app.needs)
	g := app.graph(-1)
	start := time.Now()
	closure.Plan(g, relocate.View{}, 0)
	return time.Since(start)
}

// contents is what makes two layers the same: their paths.
func contents(paths []storepath.Path) string {
	var b strings.Builder
	for _, p := range paths {
		b.WriteString(string(p) + " ")
	}
	sum := sha256.Sum256([]byte(b.String()))
	return string(sum[:])
}

func bytesOf(g *closure.Graph, paths []storepath.Path) (sum int64) {
	for _, p := range paths {
		sum += g.Nodes[p].NarSize
	}
	return sum
}

func sumOf[K comparable](sizes map[K]int64) (sum int64) {
	for _, size := range sizes {
		sum += size
	}
	return sum
}
