package survey_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"compress/gzip"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/closure/survey"
)

// caches are NARs in memory.
type caches struct {
	infos map[storepath.Path]*cache.Found
	nars  map[storepath.Path][]byte

	sync.Mutex
	fetched map[storepath.Path]int
}

func (c *caches) Lookup(_ context.Context, p storepath.Path) (*cache.Found, error) {
	if f := c.infos[p]; f != nil {
		return f, nil
	}
	return nil, errors.New("nobody has " + p.String())
}

func (c *caches) Fetch(_ context.Context, f *cache.Found, unpack func(io.Reader) error) error {
	c.Lock()
	c.fetched[f.StorePath]++
	c.Unlock()
	return unpack(bytes.NewReader(c.nars[f.StorePath]))
}

// add serves a path with one file.
func (c *caches) add(p storepath.Path, name, text string, refs ...storepath.Path) storepath.Path {
	var b bytes.Buffer
	w := nar.NewWriter(&b)
	for _, e := range []nar.Entry{{Kind: nar.Directory}, {Path: name, Kind: nar.Regular, Size: int64(len(text))}} {
		Expect(w.Entry(&e)).To(Succeed())
	}
	_, err := io.WriteString(w, text)
	Expect(err).NotTo(HaveOccurred())
	Expect(w.Close()).To(Succeed())
	c.nars[p] = b.Bytes()
	c.infos[p] = &cache.Found{NarInfo: &narinfo.NarInfo{StorePath: p, References: refs, NarSize: int64(b.Len()),
		NarHash: sha256.Sum256(b.Bytes())}}
	return p
}

func TestSurvey(t *testing.T) {
	spec.Run(t, "survey", testSurvey, spec.Report(report.Terminal{}))
}

func testSurvey(t *testing.T, _ spec.G, it spec.S) {
	var c *caches
	var options survey.Options
	path := func(digit, name string) storepath.Path {
		return storepath.Path("/nix/store/" + digit + "0bgd045z0d4icpbc2yyz4gx48ak44la-" + name)
	}
	it.Before(func() {
		RegisterTestingT(t)
		c = &caches{infos: map[storepath.Path]*cache.Found{}, nars: map[storepath.Path][]byte{}, fetched: map[storepath.Path]int{}}
		view, err := relocate.NewView("/layers/nixproot_nix-hydra/view")
		Expect(err).NotTo(HaveOccurred())
		options = survey.Options{Caches: c, View: view, Temp: t.TempDir()}
	})
	run := func(roots ...storepath.Path) ([]survey.Closure, survey.Total) {
		var all []survey.Closure
		total, err := survey.Run(context.Background(), roots, options, func(c survey.Closure) error {
			all = append(all, c)
			return nil
		})
		Expect(err).NotTo(HaveOccurred())
		return all, total
	}

	it("says what relocates, with which fixups, and what stands in the way; and reads what is shared once", func() {
		lib := c.add(path("0", "lib"), "words", "/usr")
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err := io.WriteString(w, lib.String()+"/words\n")
		Expect(err).NotTo(HaveOccurred())
		Expect(w.Close()).To(Succeed())
		good := c.add(path("1", "good"), "run.gz", packed.String(), lib)
		bad := c.add(path("2", "bad"), "table", lib.HashPart(), lib)
		plain := c.add(path("3", "plain"), "x", good.String()+" "+lib.String(), good, lib)
		lost := c.add(path("4", "lost"), "x", "", path("5", "nowhere"))
		all, total := run(good, bad, plain, lost, lib)
		Expect(all[0]).To(And(HaveField("Relocates", true), HaveField("Fixups", map[string]int{"gzip": 1}), HaveField("Paths", 2)))
		Expect(all[1]).To(And(HaveField("Relocates", false), HaveField("Blocking", 1), HaveField("Blockers",
			ConsistOf(And(HaveField("Path", bad), HaveField("File", "table"))))))
		Expect(all[2]).To(And(HaveField("Relocates", true), HaveField("References", 2), HaveField("Paths", 3)))
		Expect(all[3].Error).To(ContainSubstring("nowhere"))
		Expect(all[4]).To(And(HaveField("Relocates", true), HaveField("Fixups", BeNil())))
		Expect(total).To(And(HaveField("Closures", 5), HaveField("Relocate", 3), HaveField("WithFixup", 2), HaveField("Failed", 1),
			HaveField("Paths", 4)))
		for _, n := range c.fetched {
			Expect(n).To(Equal(1))
		}
	})

	it("names a file once, of which many places stand in the way", func() {
		bad := c.add(path("1", "bad"), "table", strings.Repeat(path("1", "bad").HashPart()+" ", 40), path("1", "bad"))
		all, _ := run(bad)
		Expect(all[0]).To(And(HaveField("Blocking", 40), HaveField("Blockers", HaveLen(1))))
	})

	it("sees what only a closure shows: references that no narinfo declares", func() {
		lib := c.add(path("0", "lib"), "words", "/usr")
		liar := c.add(path("1", "liar"), "x", lib.String()+"/words")
		root := c.add(path("2", "root"), "x", "", lib, liar)
		all, _ := run(liar, root)
		Expect(all[0].Relocates).To(BeTrue())
		Expect(all[1].Relocates).To(BeFalse())
		Expect(all[1].Blockers[0].Detail).To(ContainSubstring("-lib"))
	})

	it("bounds what is held of narinfos, whose references may be many of few", func() {
		var all []storepath.Path
		for i := range 5_000 {
			sum := sha256.Sum256([]byte(fmt.Sprint(i)))
			all = append(all, storepath.Path("/nix/store/"+storepath.Encode32(sum[:20])+"-"+strings.Repeat("n", 180)))
		}
		for _, p := range all {
			c.infos[p] = &cache.Found{NarInfo: &narinfo.NarInfo{StorePath: p, References: all, NarSize: 1}}
		}
		closures, _ := run(all[0])
		Expect(closures[0].Error).To(ContainSubstring("takes more than 50331648 bytes"))
		Expect(c.fetched).To(BeEmpty())
	})

	it("refuses what no store can hold, as a build does: a reference loop", func() {
		a, b := path("0", "a"), path("1", "b")
		c.add(a, "x", "", b)
		c.add(b, "x", "", a)
		all, total := run(a, b)
		Expect(all[0].Error).To(ContainSubstring("reference loop: "))
		Expect(total).To(And(HaveField("Failed", 2), HaveField("Paths", 0)))
	})

	it("says of each closure that has it that a NAR cannot be read, and asks for it once; and reads what else these have", func() {
		torn := c.add(path("0", "torn"), "x", "")
		c.nars[torn] = c.nars[torn][:20]
		lib := c.add(path("1", "lib"), "x", "")
		one := c.add(path("2", "one"), "x", "", lib, torn)
		two := c.add(path("3", "two"), "x", "", one, torn)
		all, total := run(one, two, lib)
		for _, closure := range all[:2] {
			Expect(closure.Error).To(HavePrefix("reading " + torn.String() + ": "))
		}
		Expect(all[2].Relocates).To(BeTrue())
		Expect(c.fetched).To(Equal(map[storepath.Path]int{torn: 1, lib: 1, one: 1}))
		Expect(total).To(And(HaveField("Failed", 2), HaveField("Relocate", 1), HaveField("Paths", 2)))
	})

	it("takes as harmless what is said to be", func() {
		lib := c.add(path("0", "lib"), "words", "/usr")
		bad := c.add(path("2", "bad"), "table", lib.HashPart(), lib)
		options.View = options.View.Overruling(relocate.Overrules{"table"})
		all, _ := run(bad)
		Expect(all[0]).To(And(HaveField("Relocates", true), HaveField("Harmless", 1)))
	})
}
