package relocate_test

import (
	stdcontext "context"
	"encoding/binary"
	"math/rand/v2"
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

	it("does not go through the members of an archive again and again that lie over each other, nor a database's cells", func() {
		stored := []byte(zipped(0, "a", zeros[:8<<20]+script))
		at, end := strings.LastIndex(string(stored), "PK\x01\x02"), strings.LastIndex(string(stored), "PK\x05\x06")
		const members = 60_000
		bomb := append([]byte(nil), stored[:at]...)
		for range members {
			bomb = append(bomb, stored[at:end]...)
		}
		bomb = append(bomb, stored[end:]...)
		tail := bomb[len(bomb)-22:]
		binary.LittleEndian.PutUint16(tail[8:], members)
		binary.LittleEndian.PutUint16(tail[10:], members)
		binary.LittleEndian.PutUint32(tail[12:], uint32(members*(end-at)))
		binary.LittleEndian.PutUint32(tail[16:], uint32(at))
		_, report := fixedTree(t, regular("a.zip", string(bomb)))
		Expect(report.Blockers).To(ContainElement(HaveField("Detail", ContainSubstring("it is not as its format has it"))))

		const page, cells, payload, at0 = 64 << 10, 16_000, 30_000, 33_000
		database := make([]byte, 6*page)
		copy(database, "SQLite format 3\x00\x00\x01\x01\x01\x00\x40\x20\x20")
		copy(database[100:], "\x05\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x06")
		for i := range 4 {
			binary.BigEndian.PutUint16(database[112+2*i:], uint16(1000+4*i))
			binary.BigEndian.PutUint32(database[1000+4*i:], uint32(2+i))
		}
		for leaf := database[page:]; len(leaf) > 0; leaf = leaf[page:] {
			copy(leaf, "\x0d")
			binary.BigEndian.PutUint16(leaf[3:], cells)
			for i := range cells {
				binary.BigEndian.PutUint16(leaf[8+2*i:], at0)
			}
			copy(leaf[at0:], []byte{0x80 | payload>>14, 0x80 | payload>>7&0x7f, payload & 0x7f, 1, 6})
			copy(leaf[at0+100:], script)
		}
		_, report = fixedTree(t, regular("a.db", string(database)))
		Expect(report.Blockers).To(ContainElement(HaveField("Detail", ContainSubstring("it is not as its format has it"))))
	})

	it("ends with its context, and says of nothing that it stands in the way because of that", func() {
		for name, bomb := range map[string]string{"a.br": brotlied(zeros[:20<<20] + script), "a.zip": zippedMembers("a", zeros[:20<<20]+script)} {
			fix := func(ctx stdcontext.Context) error {
				l, dir := view(t), filepath.Join(t.TempDir(), "tree")
				t.Cleanup(func() { _ = nar.RemoveAll(dir) })
				rewriter := l.Rewrite(self, []storepath.Path{dep}, nar.NewTree(dir))
				send(t, rewriter, archive(regular(name, bomb)), whole)
				_, err := l.FixTree(ctx, dir, relocate.Original{Path: self, References: []storepath.Path{dep}}, rewriter.Report())
				return err
			}
			never := &endsAfter{Context: stdcontext.Background()}
			Expect(fix(never)).To(Succeed())
			Expect(never.looks).To(BeNumerically(">", 100), "it is looked at all the time")
			for _, at := range []int{1, 2, 3, never.looks / 4, never.looks / 2, never.looks - 1} {
				err := fix(&endsAfter{stdcontext.Background(), 0, at})
				Expect(err).To(MatchError(stdcontext.Canceled), "%s: at look %d of %d", name, at, never.looks)
			}
		}
		ended, end := stdcontext.WithCancel(stdcontext.Background())
		rewriter := view(t).Rewrite(self, nil, discard{})
		rewriter.SetContext(ended)
		Expect(rewriter.Entry(&nar.Entry{Path: "a", Kind: nar.Regular, Size: 2})).To(Succeed())
		end()
		_, err := rewriter.Write([]byte("ab"))
		Expect(err).To(MatchError(stdcontext.Canceled))
		Expect(rewriter.Entry(&nar.Entry{Path: "b", Kind: nar.Regular, Size: 2})).To(MatchError(stdcontext.Canceled))
	})

	it("does not compress anew what is too much to be recorded", func() {
		noise := make([]byte, 4<<20)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range noise {
			noise[i] = byte(random.Uint32())
		}
		for name, bomb := range map[string]string{"a.gz": gzipped(string(noise) + script), "a.zip": zipped(8, "a", string(noise)+script)} {
			l, dir := view(t), filepath.Join(t.TempDir(), "tree")
			t.Cleanup(func() { _ = nar.RemoveAll(dir) })
			rewriter := l.Rewrite(self, []storepath.Path{dep}, nar.NewTree(dir))
			send(t, rewriter, archive(regular(name, bomb)), whole)
			report, err := l.FixTree(stdcontext.Background(), dir, relocate.Original{Path: self, References: []storepath.Path{dep}}, rewriter.Report())
			Expect(err).NotTo(HaveOccurred())
			Expect(report.Blockers).To(ContainElement(HaveField("Detail", ContainSubstring("what has to be recorded to undo it"))), name)
			Expect(relocate.CompressedAnew(l)).To(BeNumerically("<=", 0), name)
		}
	})

	it("gives each closure an amount of its own", func() {
		l := view(t)
		for range 2 {
			reports := closure(l.Beside(), 1)
			Expect(fixedIn(reports[0])).NotTo(BeEmpty())
		}
	})
}

// endsAfter is a context that ends when it has been looked at so often.
type endsAfter struct {
	stdcontext.Context
	looks, at int
}

func (e *endsAfter) Err() error {
	if e.looks++; e.at > 0 && e.looks >= e.at {
		return stdcontext.Canceled
	}
	return nil
}

// fixedIn names the formats that were rewritten as a whole.
func fixedIn(r relocate.Report) (formats []string) {
	for name := range r.Fixed {
		formats = append(formats, name)
	}
	return formats
}
