package inspect

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
)

func TestInspect(t *testing.T) {
	suite := spec.New("inspect")
	suite("Report", testReport)
	suite("Treemap", testTreemap)
	suite.Run(t)
}

// made is a report of paths: name-version, size, and the numbers of what each refers to.
func made(roots []int, paths ...[]any) *Report {
	r := &Report{Name: "image"}
	path := func(i int) storepath.Path {
		return storepath.Path(fmt.Sprintf("/nix/store/%032d-%s-%s", i, paths[i][0], paths[i][1]))
	}
	for i, p := range paths {
		next := Path{Path: path(i), Name: p[0].(string), Version: p[1].(string), Size: int64(p[2].(int)), Layer: "closure-00"}
		for _, ref := range p[3:] {
			next.References = append(next.References, path(ref.(int)))
		}
		r.Paths = append(r.Paths, next)
	}
	for _, i := range roots {
		r.Roots = append(r.Roots, string(path(i)))
	}
	r.Sort()
	return r
}

func testReport(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("says why by the shortest chain, through cycles and with paths that nothing needs", func() {
		r := made([]int{0}, []any{"app", "1", 1, 1, 2}, []any{"far", "1", 1, 2, 0}, []any{"near", "1", 1, 1, 2},
			[]any{"deep", "1", 1}, []any{"lost", "1", 1})
		r.Paths[3].References = nil
		all, err := r.Why("near")
		Expect(err).NotTo(HaveOccurred())
		Expect(all).To(HaveLen(1))
		Expect(all[0].Chain).To(HaveLen(2))
		all, err = r.Why("lost")
		Expect(err).NotTo(HaveOccurred())
		Expect(all[0].Chain).To(BeEmpty())
		var out bytes.Buffer
		Expect(WriteWhy(&out, all)).To(Succeed())
		Expect(out.String()).To(ContainSubstring("no root needs it\nneeded directly by no other\n"))
		_, err = r.Why("/nix/store/")
		Expect(err).To(HaveOccurred())
	})

	it("bounds what it says of a chain without end", func() {
		const many = 2000
		paths := make([][]any, many)
		for i := range paths {
			paths[i] = []any{fmt.Sprintf("link%d", i), "1", 1, min(i+1, many-1)}
		}
		r := made([]int{0}, paths...)
		all, err := r.Why("link1999")
		Expect(err).NotTo(HaveOccurred())
		Expect(all[0].Chain).To(HaveLen(many))
		var out bytes.Buffer
		Expect(WriteWhy(&out, all)).To(Succeed())
		Expect(out.Len()).To(BeNumerically("<", many*200))
		_, err = r.Why("link")
		Expect(err).To(MatchError(ContainSubstring(`"link" is in the names of 2000 store paths`)))
	})

	it("has a path's columns below their headings, however long a layer's name is", func() {
		r := made([]int{0}, []any{"app", "1", 1}, []any{"glibc", "2.40", 5})
		r.Paths[0].Layer, r.Paths[1].Layer = "closure-6923-1fad3xjbcxkc", "x"
		var out bytes.Buffer
		Expect(r.Text(&out)).To(Succeed())
		_, table, _ := strings.Cut(out.String(), "share")
		lines := strings.Split(strings.TrimSpace("share"+table), "\n")
		Expect(lines).To(HaveLen(3))
		for i, line := range lines[1:] {
			Expect(strings.Index(line, r.Paths[i].Path.Base())).To(Equal(len("      size  ")+strings.Index(lines[0], "store path")), line)
		}
	})

	it("takes time by its size", func() {
		const many = 100_000
		paths := make([][]any, many)
		for i := range paths {
			paths[i] = []any{"app", "1", 1}
		}
		r := made([]int{0}, paths...)
		began := time.Now()
		Expect(r.Text(io.Discard)).To(Succeed())
		Expect(r.treemap(make([]row, many))).To(HaveLen(many))
		_, rows := r.rows()
		Expect(rows).To(HaveLen(many))
		Expect(time.Since(began)).To(BeNumerically("<", busy.Limit(time.Minute)))
	})

	it("tells another version from another build of the same one", func() {
		before := made(nil, []any{"glibc", "2.40", 5}, []any{"app", "", 1})
		after := made(nil, []any{"other", "1", 1}, []any{"glibc", "2.40", 5}, []any{"app", "", 1})
		var out bytes.Buffer
		Expect(Compare(before, after).Text(&out)).To(Succeed())
		Expect(out.String()).To(And(ContainSubstring("~ glibc 2.40: built anew (5 B, +0 B)"),
			ContainSubstring("~ app: 00000000000000000000000000000001 -> 00000000000000000000000000000002 (")))
	})

	it("names the layers that are new, and the run image as people do", func() {
		before, after := made(nil), made(nil)
		before.Layers = []Layer{{Number: 1, DiffID: "a", Name: "run image"}, {Number: 2, DiffID: "b", Name: "the app's", Size: 7}}
		after.Layers = []Layer{{Number: 1, DiffID: "a", Name: "run image"}, {Number: 2, DiffID: "c", Name: "the app's", Size: 9}}
		before.RunImage, before.RunImageName = "0123", "base:1"
		after.RunImage, after.RunImageName = "registry/base@sha256:4567", "registry/base:1"
		d := Compare(before, after)
		Expect(d.NewLayers).To(Equal(after.Layers[1:]))
		var out bytes.Buffer
		Expect(d.Text(&out)).To(Succeed())
		Expect(out.String()).To(Equal("layers: 1 shared, 1 new (9 B to move)\nstore paths: 0 the same, 0 changed, 0 added, 0 removed\n" +
			"~ run image: base:1 (0123) -> registry/base@sha256:4567\n+ layer 2, the app's (9 B)\n"))
	})

	it("says which process types came, went and have another command", func() {
		before, after := made(nil), made(nil)
		before.Processes = []Process{{Type: "web", Command: "a"}, {Type: "old", Command: "b"}, {Type: "same", Command: "c"}}
		after.Processes = []Process{{Type: "web", Command: "d"}, {Type: "new", Command: "e"}, {Type: "same", Command: "c"}}
		var out bytes.Buffer
		Expect(Compare(before, after).Text(&out)).To(Succeed())
		Expect(out.String()).To(HaveSuffix("\n+ process new: e\n- process old: b\n~ process web: a -> d\n"))
	})

	it("pairs what changed by its name, and tells it from what came and went", func() {
		before := made([]int{0}, []any{"app", "1", 5}, []any{"lib", "1", 10}, []any{"old", "1", 3})
		after := made([]int{0}, []any{"app", "1", 5}, []any{"lib", "2", 12}, []any{"new", "1", 4})
		d := Compare(before, after)
		Expect(d.Same).To(Equal(1))
		Expect(d.Changed).To(HaveLen(1))
		Expect(d.Added).To(HaveLen(1))
		Expect(d.Removed).To(HaveLen(1))
		var out bytes.Buffer
		Expect(d.Text(&out)).To(Succeed())
		Expect(out.String()).To(And(ContainSubstring("~ lib: 1 -> 2 (12 B, +2 B)"), ContainSubstring("+ "),
			ContainSubstring("- 00000000000000000000000000000002-old-1 (3 B)")))
	})
}

func testTreemap(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("fills the whole, gives each its share and lets none overlap", func() {
		for _, weights := range [][]float64{{1}, {6, 6, 4, 3, 2, 2, 1}, {1000, 1, 1, 1e-3}, {5, 5, 5, 5, 5}} {
			total, area := 0.0, 0.0
			for _, w := range weights {
				total += w
			}
			boxes := squarify(weights, rectangle{0, 0, 600, 400})
			Expect(boxes).To(HaveLen(len(weights)))
			for i, b := range boxes {
				Expect(b.w * b.h).To(BeNumerically("~", weights[i]/total*600*400, 1e-3))
				Expect(b.x + b.w).To(BeNumerically("<", 600.001))
				Expect(b.y + b.h).To(BeNumerically("<", 400.001))
				area += b.w * b.h
				for _, other := range boxes[:i] {
					over := math.Min(b.x+b.w, other.x+other.w) - math.Max(b.x, other.x)
					under := math.Min(b.y+b.h, other.y+other.h) - math.Max(b.y, other.y)
					Expect(over > 1e-6 && under > 1e-6).To(BeFalse())
				}
			}
			Expect(area).To(BeNumerically("~", 240000, 1))
		}
		Expect(squarify([]float64{0, 0}, rectangle{0, 0, 1, 1})).To(HaveLen(2))
	})
}
