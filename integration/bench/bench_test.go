package bench

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestFigureIsOKOnlyWhereItReachesItsBar(t *testing.T) {
	RegisterTestingT(t)
	for row, f := range map[string]Figure{
		"a\t1.020\tratio\t<=1.02\tok":     {"a", 1.02, "ratio", "<=1.02"},
		"a\t1.021\tratio\t<=1.02\tshort":  {"a", 1.021, "ratio", "<=1.02"},
		"b\t256.000\tMiB\t<256\tshort":    {"b", 256, "MiB", "<256"},
		"c\t1.000\tGB/s\t>=1\tok":         {"c", 1, "GB/s", ">=1"},
		"d\t122000\trequests/s\t-\tok":    {"d", 122000, "requests/s", ""},
		"e\t0.000\tbytes\t<=0\tok":        {"e", 0, "bytes", "<=0"},
		"f\t1.000\tbytes\tabout 1\tshort": {"f", 1, "bytes", "about 1"},
	} {
		Expect(f.String()).To(Equal(row))
	}
}

func TestRatioIsTheMedianOfPairs(t *testing.T) {
	RegisterTestingT(t)
	// The machine was three times as slow during the second pair.
	Expect(ratio([]float64{1, 3, 1.1}, []float64{2, 6, 2})).To(BeNumerically("~", 0.5))
	Expect(median([]float64{4, 1, 3, 2})).To(Equal(2.5))
	Expect(median(nil)).To(BeZero())
}

func TestMultiplyMakesACompleteClosure(t *testing.T) {
	RegisterTestingT(t)
	p := func(name string) storepath.Path {
		return renamed(storepath.Path(storepath.Dir+"/00000000000000000000000000000000-"+name), name)
	}
	infos := map[storepath.Path]*narinfo.NarInfo{
		p("lib"): {StorePath: p("lib"), NarSize: 1 << 20},
		p("app"): {StorePath: p("app"), NarSize: 100, References: []storepath.Path{p("lib")}},
	}
	many, roots := multiply(infos)
	Expect(many).To(HaveLen(manyCount))
	g := graph(roots, many)
	Expect(g.ClosureOf(roots...)).To(HaveLen(manyCount))
	_, err := g.Topological()
	Expect(err).NotTo(HaveOccurred())
}

func TestLibraryAndLeafAreWhatTheirNamesSay(t *testing.T) {
	RegisterTestingT(t)
	p := func(name string) storepath.Path {
		return renamed(storepath.Path(storepath.Dir+"/00000000000000000000000000000000-"+name), name)
	}
	info := func(name string, size int64, refs ...storepath.Path) *narinfo.NarInfo {
		return &narinfo.NarInfo{StorePath: p(name), NarSize: size, References: refs}
	}
	infos := map[storepath.Path]*narinfo.NarInfo{}
	for _, n := range []*narinfo.NarInfo{
		info("libc", 30e6), info("leaf", 1.1e6, p("libc")), info("python", 80e6, p("libc")),
		info("tool", 2e6, p("leaf"), p("libc")), info("app", 1e6, p("tool"), p("python")),
	} {
		infos[n.StorePath] = n
	}
	g := graph([]storepath.Path{p("app")}, infos)
	Expect(library(g)).To(Equal(p("libc")))
	Expect(leaf(g)).To(Equal(p("leaf")))
}

func TestFleetsThatMissABarAreCounted(t *testing.T) {
	RegisterTestingT(t)
	good := fleetFigures{share: 0.96, stored: 1.17, amplification: 1.1, most: 1.3}
	few, many := newFleetFigures(), newFleetFigures()
	for _, change := range []func(f *fleetFigures){
		func(*fleetFigures) {},
		func(f *fleetFigures) { f.share = 0.949 },
		func(f *fleetFigures) { f.share, f.stored = 0.97, 1.21 },
		func(f *fleetFigures) { f.share, f.amplification = 0.97, 1.13 },
		func(f *fleetFigures) { f.share, f.most = 0.97, 1.36 },
	} {
		f := good
		change(&f)
		few.include(&f, 5, 40)
		many.include(&f, 5, 200)
	}
	Expect(few.fleets).To(Equal(5))
	Expect(few.short).To(Equal(4))
	Expect(many.short).To(Equal(4), "of which two save too little, and none stores too much")
	Expect(many.stored).To(Equal(1.21))
}
