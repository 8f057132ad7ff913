package relocate_test

import (
	stdcontext "context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// testCopies is about files, and stored members, that are larger than the memory that looking at them may take: a megabyte of
// zeros is a few bytes of a cache's answer.
func testCopies(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	const size = 200 << 20
	zeros := make([]byte, 1<<20)
	fill := func(w io.Writer) {
		for n := 0; n < size; n += len(zeros) {
			_, _ = w.Write(zeros)
		}
	}
	number := func(n int) string { return string(binary.LittleEndian.AppendUint32(nil, uint32(n))) }
	short := func(n int) string { return string(binary.LittleEndian.AppendUint16(nil, uint16(n))) }

	member := func(name, text string) string {
		return fmt.Sprintf("%-16s%-12d%-6d%-6d%-8o%-10d`\n%s%s", name+"/", 1, 0, 0, 0o644, len(text), text, strings.Repeat("\n", len(text)&1))
	}

	// allocated relocates a file, and gives what was said of it and how many bytes that took in all.
	allocated := func(files ...contained) (relocate.Report, uint64) {
		dir := filepath.Join(t.TempDir(), "tree")
		t.Cleanup(func() { _ = nar.RemoveAll(dir) })
		rewriter := view(t).Rewrite(self, []storepath.Path{dep}, nar.NewTree(dir))
		Expect(rewriter.Entry(&nar.Entry{Kind: nar.Directory})).To(Succeed())
		for _, f := range files {
			Expect(f.sendTo(rewriter)).To(Succeed())
		}
		Expect(rewriter.Close()).To(Succeed())
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		o := relocate.Original{Path: self, References: []storepath.Path{dep}}
		report, err := view(t).FixTree(stdcontext.Background(), dir, o, rewriter.Report())
		runtime.ReadMemStats(&after)
		Expect(err).NotTo(HaveOccurred())
		return report, after.TotalAlloc - before.TotalAlloc
	}

	it("sums what is stored without a copy of it", func() {
		sum := crc32.NewIEEE()
		_, _ = io.WriteString(sum, string(dep))
		fill(sum)
		all := size + len(dep)
		sums := number(int(sum.Sum32())) + number(all) + number(all)
		report, bytes := allocated(contained{"a.zip", func(w io.Writer) {
			local := "PK\x03\x04\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00" + sums + short(1) + short(0) + "a"
			_, _ = io.WriteString(w, local+string(dep))
			fill(w)
			central := "PK\x01\x02\x14\x00\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00" + sums + short(1) + strings.Repeat("\x00", 16) + "a"
			_, _ = io.WriteString(w, central+"PK\x05\x06\x00\x00\x00\x00"+short(1)+short(1)+number(len(central))+number(len(local)+all)+short(0))
		}})
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(report.Fixed).To(HaveKey("zip"))
		Expect(bytes).To(BeNumerically("<", 64<<20))
	})

	it("takes back what was rewritten before a PHAR that cannot be, however much that is", func() {
		const references = 1 << 20
		report, bytes := allocated(contained{"a.phar", func(w io.Writer) {
			_, _ = io.WriteString(w, "<?php ")
			line := strings.Repeat(string(dep[:43])+" ", 1<<10)
			for range references >> 10 {
				_, _ = io.WriteString(w, line)
			}
			archive := phar("a", "x")
			_, _ = io.WriteString(w, archive[:len(archive)-8]+number(16)+archive[len(archive)-4:]) // signed with a private key
		}})
		Expect(report.Blockers).To(ConsistOf(HaveField("File", "a.phar")))
		Expect(bytes).To(BeNumerically("<", 64<<20))
	})

	it("holds not more than a file's share of what is compressed in one another", func() {
		zeros := strings.Repeat("\x00", 44<<20)
		text := gzipped(zeros + string(dep))
		_, report := fixedTree(t, regular("a.gz", gzipped(text+zeros)))
		Expect(report.Blockers).To(BeEmpty())
		_, report = fixedTree(t, regular("a.gz", gzipped("!<arch>\n"+member("b.gz", gzipped("!<arch>\n"+member("c.gz", text)+member("z", zeros)))+member("z", zeros))))
		Expect(report.Blockers).To(ConsistOf(HaveField("Detail", ContainSubstring("are held at once"))))
	})

	it("says of what it would have to copy that it is too large", func() {
		for name, head := range map[string]string{
			"a.class": "\xca\xfe\xba\xbe\x00\x00\x00\x34\x00\x01", "a.png": "\x89PNG\r\n\x1a\n", "a.boot": "\x00\x00\x00\x00chez",
		} {
			report, bytes := allocated(contained{name, func(w io.Writer) {
				_, _ = io.WriteString(w, head+fmt.Sprint(dep))
				fill(w)
			}})
			Expect(report.Blockers).To(ConsistOf(And(HaveField("File", name), HaveField("Detail", ContainSubstring("more than 64 MiB")))))
			Expect(bytes).To(BeNumerically("<", 64<<20), name)
		}
	})
}
