package bench

import (
	"fmt"
	"slices"
	"strings"
)

// fleetFigures are what a fleet costs under one grouping.
type fleetFigures struct {
	share         float64   // of the bytes that sharing could save at best, how many are saved
	stored        float64   // a registry's bytes against the union of all store paths
	amplification float64   // what a change of one path exports against what it rebuilds: the mean
	most          float64   // what nine of ten changes stay below
	update        float64   // what a change of one path in all apps uploads against what it rebuilds: the mean
	layers        int       // of the image with the most
	downloaded    float64   // by a node that runs all of the fleet and knows blobs by digest, against the union
	unpacked      []float64 // on a node that knows unpacked layers by chain, against the union, in each of fleetOrders
	images        []float64 // of its own bytes, what a node downloads for each image of imagesAt: the mean of fleets
	fleets, short int       // how many these are the figures of, and how many of them miss a bar
}

func newFleetFigures() *fleetFigures {
	return &fleetFigures{share: 1, unpacked: make([]float64, len(fleetOrders)), images: make([]float64, len(imagesAt))}
}

// String is the figures in one line.
func (f *fleetFigures) String() string {
	return fmt.Sprintf("share %.4f, stored %.2f, amplification %.2f, nine of ten below %.2f, of an update %.2f, %d layers, "+
		"unpacked %.2f of the union", f.share, f.stored, f.amplification, f.most, f.update, f.layers, f.unpacked)
}

// include keeps the worse of each figure, and the mean of images, for one of several fleets of so many apps.
func (f *fleetFigures) include(other *fleetFigures, of, size int) {
	f.fleets++
	if !other.reaches(size) {
		f.short++
	}
	f.share = min(f.share, other.share)
	f.layers = max(f.layers, other.layers)
	for _, both := range []struct{ to, from *float64 }{
		{&f.stored, &other.stored}, {&f.amplification, &other.amplification}, {&f.most, &other.most},
		{&f.update, &other.update}, {&f.downloaded, &other.downloaded},
	} {
		*both.to = max(*both.to, *both.from)
	}
	for i, unpacked := range other.unpacked {
		f.unpacked[i] = max(f.unpacked[i], unpacked)
	}
	for i, image := range other.images {
		f.images[i] += image / float64(of)
	}
}

// fleetTotals are what is the same whatever the layers are: the means of some fleets.
type fleetTotals struct{ total, union, paths, different float64 }

func (t *fleetTotals) include(f *fleet, of int) {
	t.total += float64(f.total) / 1e9 / float64(of)
	t.union += float64(sumOf(f.union)) / 1e9 / float64(of)
	t.different += float64(len(f.union)) / float64(of)
	for _, g := range f.graphs {
		t.paths += float64(len(g.Nodes)) / float64(of)
	}
}

func (b *Bench) totalRows(name string, t fleetTotals) {
	b.row(name+".without_sharing", t.total, "GB", "")
	b.row(name+".union", t.union, "GB", "")
	// A narinfo and a NAR of each path.
	b.row(name+".requests_of_first_builds", 2*t.paths, "requests", "")
	b.row(name+".requests_past_a_proxy", 2*t.different, "requests", "")
}

// required are the figures of a fleet of so many apps that have a bar where the grouping is ours.
func (f *fleetFigures) required(name string, size int) []Figure {
	share, stored := ">=0.95", "<=1.18"
	if size == 200 {
		share, stored = ">=0.965", "<=1.5"
	}
	return []Figure{
		{name + ".share_of_what_can_be_saved", f.share, "ratio", share},
		{name + ".stored_against_union", f.stored, "ratio", stored},
		{name + ".amplification_mean", f.amplification, "ratio", "<=1.12"},
		{name + ".amplification_nine_of_ten", f.most, "ratio", "<=1.35"},
	}
}

// reaches reports whether a fleet of so many apps reaches all bars.
func (f *fleetFigures) reaches(size int) bool {
	return !slices.ContainsFunc(f.required("", size), func(figure Figure) bool { return !figure.Reaches() })
}

func (b *Bench) fleetRows(name string, f *fleetFigures, size int) {
	ours := strings.HasSuffix(name, ".ours")
	for _, figure := range f.required(name, size) {
		if !ours {
			figure.Bar = ""
		}
		fmt.Fprintln(b.Out, figure)
	}
	if ours {
		b.row(name+".fleets_short", float64(f.short), fmt.Sprintf("of %d", f.fleets), "<=0")
	}
	b.row(name+".update_of_all_apps", f.update, "ratio", "")
	b.row(name+".layers", float64(f.layers), "layers", "")
	if strings.Contains(name, "_layers") {
		return
	}
	b.row(name+".node_downloaded_by_digest", f.downloaded, "ratio", "")
	for i, order := range fleetOrders {
		b.row(name+".node_unpacked_by_chain"+order.name, f.unpacked[i], "ratio", "")
	}
	for i, k := range imagesAt {
		if k <= size {
			b.row(fmt.Sprintf("%s.image_%d_downloaded", name, k), f.images[i], "ratio", "")
		}
	}
}
