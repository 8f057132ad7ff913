package relocate_test

import (
	stdcontext "context"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// testBudget is about files that inflate to far more than they are: what they may cost is one amount for the whole
// closure, however many there are, in however many paths and formats.
func testBudget(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	const member = 60 << 20
	zeros := string(make([]byte, member))
	bombs := map[string]string{
		"a.gz": gzipped(zeros[:4<<20] + script), "a.jar": zipped(8, "a.txt", zeros[:4<<20]+script), "a.zst": zstandard(zeros + script),
		"b.zst": zstandard(zeros + script + script), "objects/a": zlibbed(zeros[:4<<20] + script),
	}

	// closure relocates a path with all bombs as often as there are names, and gives what was said of each.
	closure := func(l relocate.View, paths int) (reports []relocate.Report) {
		for range paths {
			var files []file
			for _, name := range []string{"a.gz", "a.jar", "a.zst", "b.zst", "objects/a"} {
				files = append(files, regular(name, bombs[name]))
			}
			dir := filepath.Join(t.TempDir(), "tree")
			t.Cleanup(func() { _ = nar.RemoveAll(dir) })
			rewriter := l.Rewrite(self, []storepath.Path{dep}, nar.NewTree(dir))
			send(t, rewriter, archive(files...), whole)
			o := relocate.Original{Path: self, References: []storepath.Path{dep}}
			report, err := l.FixTree(stdcontext.Background(), dir, o, rewriter.Report())
			Expect(err).NotTo(HaveOccurred())
			reports = append(reports, report)
		}
		return reports
	}

	it("lets the files of a closure inflate to one amount together, and says of the others that they do", func() {
		l := view(t)
		reports := closure(l, 8)
		Expect(relocate.Inflated(l)).To(BeNumerically("<", 1<<30+1<<26), "of what would be more than %d", 8*4*member)
		last := reports[len(reports)-1]
		Expect(last.Relocatable()).To(BeFalse())
		Expect(last.Blocking).To(BeNumerically(">=", len(bombs)))
		for _, b := range last.Blockers {
			Expect(b.Detail).To(Or(ContainSubstring("inflates to more than is looked at"), ContainSubstring("MiB")), b.File)
		}
		Expect(strings.Join(fixedIn(reports[0]), " ")).NotTo(BeEmpty(), "the first of them fit")
	})

	it("lets what is slow to compress anew take no more than a closure has for that", func() {
		l := view(t)
		bomb := brotlied(zeros[:20<<20] + script)
		var reports []relocate.Report
		for range 9 {
			dir := filepath.Join(t.TempDir(), "tree")
			t.Cleanup(func() { _ = nar.RemoveAll(dir) })
			rewriter := l.Rewrite(self, []storepath.Path{dep}, nar.NewTree(dir))
			send(t, rewriter, archive(regular("a.br", bomb)), whole)
			report, err := l.FixTree(stdcontext.Background(), dir, relocate.Original{Path: self, References: []storepath.Path{dep}}, rewriter.Report())
			Expect(err).NotTo(HaveOccurred())
			reports = append(reports, report)
		}
		Expect(reports[5].Relocatable()).To(BeTrue(), "%v", reports[5].Blockers)
		last := reports[len(reports)-1]
		Expect(last.Relocatable()).To(BeFalse())
		Expect(last.Blockers[0].Detail).To(ContainSubstring("compressing it anew takes more"))
	})

	it("gives each closure an amount of its own", func() {
		l := view(t)
		for range 2 {
			reports := closure(l.Within(relocate.NewBudget()), 1)
			Expect(fixedIn(reports[0])).NotTo(BeEmpty())
		}
	})
}

// fixedIn names the formats that were rewritten as a whole.
func fixedIn(r relocate.Report) (formats []string) {
	for name := range r.Fixed {
		formats = append(formats, name)
	}
	return formats
}
