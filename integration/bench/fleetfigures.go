package bench

import (
	"fmt"
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
}

func newFleetFigures() *fleetFigures {
	return &fleetFigures{share: 1, unpacked: make([]float64, len(fleetOrders)), images: make([]float64, len(imagesAt))}
}

// String is the figures in one line.
func (f *fleetFigures) String() string {
	return fmt.Sprintf("share %.4f, stored %.2f, amplification %.2f, nine of ten below %.2f, of an update %.2f, %d layers, "+
		"unpacked %.2f of the union", f.share, f.stored, f.amplification, f.most, f.update, f.layers, f.unpacked)
}

// include keeps the worse of each figure, and the mean of images, for one of several fleets.
func (f *fleetFigures) include(other *fleetFigures, of int) {
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
