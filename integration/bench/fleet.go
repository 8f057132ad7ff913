package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

const (
	// fleetSeeds is how many fleets are made of each universe; the worst figure of them counts.
	fleetSeeds = 2
	// fleetChanges is how many changes of one path the amplifications of a fleet are the mean of.
	fleetChanges = 120
	// pushBytes is what any push costs besides its paths: configuration, the view, round trips (docs/layers.md).
	pushBytes = 1 << 20
)

// fleet simulates images of many apps that share a registry and nodes, by their closures alone: docs/fleet.md.
func (b *Bench) fleet(ctx context.Context) error {
	universes, err := b.universes(ctx)
	if err != nil {
		return err
	}
	rules := []struct {
		name string
		Grouping
	}{{"ours", ours}, {"popularity", Popularity}, {"auto_layer", AutoLayer}, {"layer_per_path", layerPerPath}}
	for _, size := range []int{40, 200} {
		for _, rule := range rules {
			worst := &fleetFigures{share: 1}
			for _, u := range universes {
				for seed := range fleetSeeds {
					if ctx.Err() != nil {
						return context.Cause(ctx)
					}
					f := measureFleet(u.apps(uint64(seed+1), size), rule.Grouping, uint64(seed))
					b.Log("%d apps of %s, seed %d, %s: %s", size, u.name, seed+1, rule.name, f)
					worst.include(f)
				}
			}
			b.fleetRows(fmt.Sprintf("fleet.%d.%s", size, rule.name), worst, size)
		}
	}
	b.row("fleet.plan_2000_paths", planning(universes[0]).Seconds(), "s", "<=0.5")
	return nil
}

// ours is this buildpack's grouping.
func ours(g *closure.Graph, layers int) [][]storepath.Path {
	var groups [][]storepath.Path
	for _, group := range closure.Plan(g, relocate.Layout{}, closure.Limits{Layers: layers}) {
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

// fleetFigures are what a fleet costs under one grouping.
type fleetFigures struct {
	share         float64 // of the bytes that sharing could save at best, how many are saved
	stored        float64 // a registry's bytes against the union of all store paths
	amplification float64 // what a change of one path exports against what it rebuilds: the mean
	most          float64 // what nine of ten changes stay below
	layers        int     // of the image with the most
	downloaded    float64 // by a node that runs all of the fleet and knows blobs by digest, against the union
	unpacked      float64 // on a node that knows unpacked layers by chain, against the union
	tenth         float64 // of its bytes, what a node with nine images downloads for the tenth
	last          float64 // and for the last one of the fleet
}

// String is the figures in one line.
func (f *fleetFigures) String() string {
	return fmt.Sprintf("share %.3f, stored %.2f, amplification %.2f, nine of ten below %.2f, %d layers, downloaded %.2f, "+
		"unpacked %.2f of the union, tenth image %.2f, last %.2f of its bytes", f.share, f.stored, f.amplification, f.most, f.layers, f.downloaded,
		f.unpacked, f.tenth, f.last)
}

// include keeps the worse of each figure.
func (f *fleetFigures) include(other *fleetFigures) {
	f.share = min(f.share, other.share)
	f.layers = max(f.layers, other.layers)
	for _, both := range []struct{ to, from *float64 }{
		{&f.stored, &other.stored}, {&f.amplification, &other.amplification}, {&f.most, &other.most},
		{&f.downloaded, &other.downloaded}, {&f.unpacked, &other.unpacked}, {&f.tenth, &other.tenth}, {&f.last, &other.last},
	} {
		*both.to = max(*both.to, *both.from)
	}
}

func (b *Bench) fleetRows(name string, f *fleetFigures, size int) {
	bars := [4]string{}
	if strings.HasSuffix(name, ".ours") {
		bars = [4]string{">=0.95", "<=1.18", "<=1.12", "<=1.35"}
		if size == 200 {
			bars[0], bars[1] = ">=0.965", "<=1.5"
		}
	}
	b.row(name+".share_of_what_can_be_saved", f.share, "ratio", bars[0])
	b.row(name+".stored_against_union", f.stored, "ratio", bars[1])
	b.row(name+".amplification_mean", f.amplification, "ratio", bars[2])
	b.row(name+".amplification_nine_of_ten", f.most, "ratio", bars[3])
	b.row(name+".layers", float64(f.layers), "layers", "")
	b.row(name+".node_downloaded_by_digest", f.downloaded, "ratio", "")
	b.row(name+".node_unpacked_by_chain", f.unpacked, "ratio", "")
	b.row(name+".tenth_image_downloaded", f.tenth, "ratio", "")
	b.row(name+".last_image_downloaded", f.last, "ratio", "")
}

// measureFleet plays a fleet: every image is pushed to one registry and run on one node.
func measureFleet(apps []*fleetApp, group Grouping, seed uint64) *fleetFigures {
	f := &fleetFigures{}
	blobs, chains, union := map[string]int64{}, map[string]int64{}, map[storepath.Path]int64{}
	var total int64
	for k, app := range apps {
		g := app.graph(-1)
		var fresh int64
		chain := ""
		groups := group(g, closure.DefaultLayers)
		f.layers = max(f.layers, len(groups))
		for _, paths := range groups {
			key, size := contents(paths), bytesOf(g, paths)
			if _, known := blobs[key]; !known {
				fresh += size
			}
			chain = contents([]storepath.Path{storepath.Path(chain), storepath.Path(key)})
			blobs[key], chains[chain] = size, size
		}
		for p, n := range g.Nodes {
			union[p] = n.NarSize
		}
		total += g.Bytes()
		switch k {
		case 9:
			f.tenth = float64(fresh) / float64(g.Bytes())
		case len(apps) - 1:
			f.last = float64(fresh) / float64(g.Bytes())
		}
	}
	stored, least := float64(sumOf(blobs)), float64(sumOf(union))
	f.share = (float64(total) - stored) / (float64(total) - least)
	f.stored, f.downloaded, f.unpacked = stored/least, stored/least, float64(sumOf(chains))/least
	f.amplification, f.most = amplification(apps, group, seed)
	return f
}

// amplification changes one path of one app at a time.
func amplification(apps []*fleetApp, group Grouping, seed uint64) (mean, most float64) {
	dice := rand.New(rand.NewPCG(seed, 11))
	var ratios []float64
	for i := range fleetChanges {
		app := apps[i%len(apps)]
		changed := dice.IntN(len(app.needs))
		before, after := app.graph(-1), app.graph(changed)
		var rebuilt int64
		for p, n := range after.Nodes {
			if before.Nodes[p] == nil {
				rebuilt += n.NarSize
			}
		}
		moved := Exported(after, group(before, closure.DefaultLayers), group(after, closure.DefaultLayers))
		ratios = append(ratios, float64(moved+pushBytes)/float64(rebuilt+pushBytes))
	}
	slices.Sort(ratios)
	for _, r := range ratios {
		mean += r / float64(len(ratios))
	}
	return mean, ratios[len(ratios)*9/10]
}

// planning is how long it takes to plan 2,000 paths.
func planning(u *fleetUniverse) time.Duration {
	dice, app := rand.New(rand.NewPCG(1, 1)), &fleetApp{universe: u, size: 1e6}
	for len(app.needs) < 2000 {
		app.need(dice.IntN(len(u.packages)))
	}
	app.needs = app.needs[:2000]
	g := app.graph(-1)
	start := time.Now()
	closure.Plan(g, relocate.Layout{}, closure.Limits{})
	return time.Since(start)
}

// contents is what makes two layers the same: their paths.
func contents(paths []storepath.Path) string {
	var b strings.Builder
	for _, p := range paths {
		b.WriteString(string(p) + " ")
	}
	return b.String()
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
