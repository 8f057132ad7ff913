package relocate_test

import (
	"archive/zip"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// localFile is a member of a zip archive as its local header announces it.
func localFile(method, flags uint16, name, extra, data string, size uint32) string {
	b := []byte("PK\x03\x04\x14\x00")
	b = binary.LittleEndian.AppendUint16(b, flags)
	b = binary.LittleEndian.AppendUint16(b, method)
	b = append(b, make([]byte, 8)...) // time, date, CRC
	b = binary.LittleEndian.AppendUint32(b, size)
	b = binary.LittleEndian.AppendUint32(b, size)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(name)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(extra)))
	return string(b) + name + extra + data
}

func testFormats(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	blockersOf := func(name, contents string) []relocate.Blocker {
		_, report := relocated(t, regular(name, contents))
		return report.Blockers
	}

	it("looks into zip members of other methods, and behind them", func() {
		last := zipped(zip.Deflate, "last", script)
		for method, data := range map[uint16]string{
			12: decoded(scriptBzip2), zstd.ZipMethodWinZip: zstandard(script), 95: decoded(scriptXZ), 14: zipLZMA(script, true),
		} {
			found := blockersOf("x.zip", localFile(method, 1<<1, "first", "", data, uint32(len(data)))+last)
			Expect(len(found)).To(BeNumerically(">=", 2), "%d", method)
			Expect(found[0].Detail).To(ContainSubstring(`zip member "first": `))
			Expect(found[1].Detail).To(ContainSubstring(`zip member "last": the hash of`))
		}
	})

	it("takes numbers in a header that can be none", func() {
		_, report := relocated(t, regular("a", "]"+strings.Repeat("\x00", 100)+script)) // LZMA with a dictionary of no bytes
		Expect(report.References).To(Equal(1))
		for _, machine := range []byte{62, 183} { // program headers before the beginning of all files
			program := []byte(elf(strings.Repeat("\x00", 200) + script))
			program[4], program[5], program[18], program[19] = 2, 1, machine, 0
			binary.LittleEndian.PutUint64(program[32:], 1<<64-56)
			binary.LittleEndian.PutUint16(program[56:], 1)
			_, report := relocated(t, regular("bin/a", string(program)))
			Expect(report.References).To(Equal(1))
		}
	})

	it("takes what only begins with Mercurial's version for no revlog", func() {
		_, report := relocated(t, regular("a.i", "\x00\x03\x00\x01"+strings.Repeat("\x00", 60)+script), regular("b.i", "\x00\x01\x00\x01"+script))
		Expect(report.Blockers).To(BeEmpty())
		Expect(report.References).To(Equal(2))
	})

	it("rewrites a cache of Julia's and leaves its checksum, by which Julia then passes over it", func() {
		dir, report := fixedTree(t, regular("Pkg.ji", "\xfbjli\r\n\x1a\n"+script+"\x01\x02\x03\x04"))
		Expect(report.Blockers).To(BeEmpty())
		Expect(readBack(t, dir, "Pkg.ji")).To(Equal("\xfbjli\r\n\x1a\n" + strings.ReplaceAll(script, string(self), selfNow) + "\x01\x02\x03\x04"))
	})

	it("passes over empty members, large sizes and each form of descriptor", func() {
		last := zipped(zip.Deflate, "last", script)
		const four = "\x04\x00\x00\x00\x00\x00\x00\x00"
		const extra = "\x09\x00\x01\x00x" + "\x01\x00\x10\x00" + four + four
		for _, first := range []string{
			localFile(0, 0, "dir/", "", "", 0),
			localFile(0, 8, "empty", "", "", 0),
			localFile(0, 8, "empty", "", "PK\x07\x08"+strings.Repeat("\x00", 12), 0),
			localFile(8, 8, "short", "", "\x03\x00"+strings.Repeat("\x00", 12), 0),
			localFile(8, 8, "long", "", "\x03\x00PK\x07\x08"+strings.Repeat("\x00", 20), 0),
			localFile(0, 8, "stored", "", "PPKPK\x07\x08dataP"+"PK\x07\x08sum.\x0c\x00\x00\x00\x0c\x00\x00\x00", 0),
			localFile(0, 0, "zip64", extra, "data", 1<<32-1),
		} {
			Expect(blockersOf("x.zip", first+last)).To(ConsistOf(
				HaveField("Detail", ContainSubstring(`zip member "last": the hash of`))), "%q", first)
		}
	})

	it("says which members it cannot look into", func() {
		for detail, member := range map[string]string{
			`member "a" has the compression method 19`: localFile(19, 0, "a", "", "data", 4),
			"its LZMA stream has no properties":        localFile(14, 0, "a", "", "data", 4),
			`member "b" is encrypted`:                  localFile(8, 1, "b", "", "data", 4),
			`member "c" does not say its size`:         localFile(12, 8, "c", "", "data", 0),
		} {
			Expect(blockersOf("x.zip", member)).To(ConsistOf(And(
				HaveField("Kind", relocate.Opaque), HaveField("Detail", ContainSubstring(detail)))))
		}
	})

	it("passes over tar members of each size field, and names what stands behind them", func() {
		second := tarred("second.gz", gzipped(script), "")
		for _, field := range []string{
			"00000001000\x00", "       1000 ", "\x80" + strings.Repeat("\x00", 9) + "\x02\x00",
		} {
			first := []byte(tarred("first", strings.Repeat("x", 512), ""))[:1024]
			copy(first[124:136], field)
			Expect(blockersOf("x.tar", string(first)+second)).To(ConsistOf(
				HaveField("Detail", ContainSubstring(`tar member "second.gz": gzip: the hash of`))), field)
		}
	})

	it("passes over deltas in a git pack", func() {
		blob := gitPack(script)
		entry := blob[12 : len(blob)-20]
		pack := "PACK\x00\x00\x00\x02\x00\x00\x00\x03" +
			"\x65\x81\x01" + zlibbed("delta") + // to an offset
			"\x75" + strings.Repeat("\xab", 20) + zlibbed("delta") + // to an object
			entry + strings.Repeat("\x00", 20)
		Expect(blockersOf("x.pack", pack)).To(HaveLen(1))
	})

	it("recognises a V8 snapshot of each layout, and nothing else as one", func() {
		header := func(contexts, rehashable uint32, sums int, version string, offsets ...uint32) string {
			b := binary.LittleEndian.AppendUint32(nil, contexts)
			b = binary.LittleEndian.AppendUint32(b, rehashable)
			b = append(b, strings.Repeat("\xc5", 4*sums)...)
			b = append(b, version+strings.Repeat("\x00", 64-len(version))...)
			for _, offset := range offsets {
				b = binary.LittleEndian.AppendUint32(b, offset)
			}
			return string(b) + strings.Repeat("\x00", 200) + script
		}
		for _, b := range []string{
			header(1, 0, 1, "8.4.371.23-node.88", 200, 300), // no shared heap
			header(1, 1, 2, "12.4.254.21-node.33", 200, 300, 400),
			header(4, 1, 1, "13.6.233.17-electron.0", 200, 300, 400, 500, 600, 700),
			header(2, 0, 3, "14.1.0", 200, 300, 400, 500),
		} {
			Expect(blockersOf("snapshot_blob.bin", b)).To(ConsistOf(HaveField("Kind", relocate.Checksummed)), "%q", b)
		}
		for _, b := range []string{
			header(0, 0, 1, "8.4.371.23", 200, 300), header(1, 2, 1, "8.4.371.23", 200, 300),
			header(1, 1, 1, "8.4", 200, 300, 400), header(1, 1, 1, "8.4.x", 200, 300, 400),
			header(1, 1, 1, "8.4.371.23\x00x", 200, 300, 400), header(1, 1, 1, "8.4.371.23", 300, 300, 400),
			header(1, 1, 1, "8.4.371.23-\x01", 200, 300, 400),
		} {
			Expect(blockersOf("x.bin", b)).To(BeEmpty(), "%q", b)
		}
	})

	it("refuses contents longer than announced, and ends where it is discarded", func() {
		for _, rewriter := range []nar.Sink{
			view(t).Rewrite(self, nil, discard{}), view(t).Undo([]storepath.Path{self}, nil, discard{}),
			relocate.View{}.Rewrite(self, nil, discard{}),
		} {
			Expect(rewriter.Entry(&nar.Entry{Path: "x", Kind: nar.Regular, Size: 3})).To(Succeed())
			_, err := rewriter.Write([]byte("four"))
			Expect(err).To(MatchError(ContainSubstring(`"x": contents are longer than announced`)))
		}

		big := gzipped(noise(400 << 10))
		rewriter := view(t).Rewrite(self, nil, discard{})
		Expect(rewriter.Entry(&nar.Entry{Path: "x.gz", Kind: nar.Regular, Size: int64(len(big))})).To(Succeed())
		_, err := rewriter.Write([]byte(big[:len(big)/2]))
		Expect(err).NotTo(HaveOccurred())
		rewriter.Discard()
		rewriter.Discard()
		Expect(rewriter.Report().Blockers).To(BeEmpty())
	})
}
