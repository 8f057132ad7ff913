package relocate_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// script is a text with one reference.
const script = "exec " + string(self) + "/bin/app\n"

// What `xz -9`, `xz --x86 --lzma2=preset=0`, `xz --format=lzma -9` and `bzip2 -9` make of script.
const (
	scriptXZ = "/Td6WFoAAATm1rRGAgAhARwAAAAQz1jMAQBAZXhlYyAvbml4L3N0b3JlLzAwYmdkMDQ1ejBkNGljcGJjMnl5ejRneDQ4YWs0" +
		"NGxhLWFwcC0xLjAvYmluL2FwcAoAAAAAkgjpol/6R60AAVlBMCIkSh+2830BAAAAAARZWg=="
	scriptXZx86 = "/Td6WFoAAATm1rRGAgEEACEBDADWfBivAQBAZXhlYyAvbml4L3N0b3JlLzAwYmdkMDQ1ejBkNGljcGJjMnl5ejRneDQ4YWs0NGxh" +
		"LWFwcC0xLjAvYmluL2FwcAoAAAAAkgjpol/6R60AAVlBMCIkSh+2830BAAAAAARZWg=="
	scriptLZMA = "XQAAAAT//////////wAyngjNrELTLWxAZXAi94tiGQzgRyiRkcBGk63x6suttOSnmGR3L57VvFOEfdENjAFFCT9STMVBLiwD8q" +
		"YXdHOG3f+0X/2D/AA="
	scriptBzip2 = "QlpoOTFBWSZTWTqJmWsAABPZgAAQQAP2QD6t3HAgAFRQAAABoGNNPSbTTKMGU0Co4x6wUfCnUPkNd4hCmrXlKgv5wzBlFgejrq" +
		"8S9MV0iBHVSmHvE+LuSKcKEgdRMy1g"
)

func decoded(b64 string) string {
	b, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// packed is what a compressor makes of text.
func packed(text string, compressor func(io.Writer) io.WriteCloser) string {
	var b bytes.Buffer
	w := compressor(&b)
	if _, err := io.WriteString(w, text); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

func gzipped(text string) string {
	return packed(text, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
}

func zlibbed(text string) string {
	return packed(text, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
}

func zstandard(text string) string {
	return packed(text, func(w io.Writer) io.WriteCloser {
		e, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err)
		}
		return e
	})
}

func brotlied(text string) string {
	return packed(text, func(w io.Writer) io.WriteCloser { return brotli.NewWriter(w) })
}

// zipped is an archive with one member before the one that matters.
func zipped(method uint16, name, text string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, member := range [][2]string{{"META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n"}, {name, text}} {
		m, err := w.CreateHeader(&zip.FileHeader{Name: member[0], Method: method})
		if err == nil {
			_, err = io.WriteString(m, member[1])
		}
		if err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

// storedZip is a stored member as zip(1) writes it, its size before it.
func storedZip(name, text string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	m, err := w.CreateRaw(&zip.FileHeader{Name: name, Method: zip.Store, CompressedSize64: uint64(len(text)),
		UncompressedSize64: uint64(len(text))})
	if err == nil {
		_, err = io.WriteString(m, text)
	}
	if err != nil || w.Close() != nil {
		panic(err)
	}
	return b.String()
}

func tarred(name, text, link string) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}
	if link != "" {
		h.Typeflag, h.Linkname = tar.TypeSymlink, link
	}
	if err := w.WriteHeader(h); err != nil {
		panic(err)
	}
	_, _ = io.WriteString(w, text)
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

func arred(name, text string) string {
	s := "!<arch>\n" + fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(text)) + text
	if len(text)%2 == 1 {
		s += "\n"
	}
	return s
}

// beam is an Erlang module of chunks: id, contents, id, contents.
func beam(chunks ...string) string {
	var body bytes.Buffer
	body.WriteString("BEAM")
	for i := 0; i < len(chunks); i += 2 {
		body.WriteString(chunks[i])
		_ = binary.Write(&body, binary.BigEndian, uint32(len(chunks[i+1])))
		body.WriteString(chunks[i+1])
		body.Write(make([]byte, -len(chunks[i+1])&3))
	}
	return "FOR1" + string(binary.BigEndian.AppendUint32(nil, uint32(body.Len()))) + body.String()
}

// cdb is a table of one pair, of which only the place of the first hash table is right.
func cdb(key, value string) string {
	little := func(n int) string { return string(binary.LittleEndian.AppendUint32(nil, uint32(n))) }
	tables := 2048 + 8 + len(key) + len(value)
	s := little(tables) + little(1) + strings.Repeat(little(tables+8)+little(0), 255)
	return s + little(len(key)) + little(len(value)) + key + value + little(0) + little(2048)
}

// catalogue is a message catalogue of one text.
func catalogue(original, translated string) string {
	const header = 28
	at := header + 16
	s := ""
	for _, n := range []int{0x950412de, 0, 1, header, header + 8, 0, at, len(original), at, len(translated), at + len(original) + 1} {
		s += string(binary.LittleEndian.AppendUint32(nil, uint32(n)))
	}
	return s + original + "\x00" + translated + "\x00"
}

func size32(text string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(text)))) }

// gitPack is a pack with one blob.
func gitPack(text string) string {
	head := []byte{3<<4 | byte(len(text)&15)}
	for size := len(text) >> 4; size > 0; size >>= 7 {
		head[len(head)-1] |= 0x80
		head = append(head, byte(size&0x7f))
	}
	p := "PACK" + "\x00\x00\x00\x02" + "\x00\x00\x00\x01" + string(head) + zlibbed(text)
	sum := sha1.Sum([]byte(p))
	return p + string(sum[:])
}

// elf is the head of a 64-bit ELF file and what comes after.
func elf(rest string) string { return "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 57) + rest }

// snapshot is a V8 start-up snapshot as V8 11.3 writes it, with text in its last context.
func snapshot(text string) string {
	var b bytes.Buffer
	section := func(contents string) string {
		s := string(binary.LittleEndian.AppendUint32(nil, 0xc0de05cc)) +
			string(binary.LittleEndian.AppendUint32(nil, uint32(len(contents)))) + contents
		return s + strings.Repeat("\x00", -len(s)&7)
	}
	parts := []string{section("isolate 0123456"), section("read-only"), section("shared heap"), section(text)}
	const header = 88
	_ = binary.Write(&b, binary.LittleEndian, []uint32{1, 1, 0x683c4241})
	b.WriteString("11.3.244.8-node.38" + strings.Repeat("\x00", 64-18))
	at := header
	for _, part := range parts[:3] {
		at += len(part)
		_ = binary.Write(&b, binary.LittleEndian, uint32(at))
	}
	return b.String() + strings.Join(parts, "")
}

func utf16LE(text string) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return string(b)
}

func utf16BE(text string) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = binary.BigEndian.AppendUint16(b, unit)
	}
	return string(b)
}

func utf32BE(text string) string {
	var b []byte
	for _, r := range text {
		b = binary.BigEndian.AppendUint32(b, uint32(r))
	}
	return string(b)
}

// skippable is a frame that decoders of zstd and lz4 skip.
func skippable(text string) string {
	return "\x50\x2a\x4d\x18" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(text)))) + text
}

// dictionaryZlib is a zlib stream for which one needs to have text's first bytes.
func dictionaryZlib(text string) string {
	return packed(text, func(w io.Writer) io.WriteCloser {
		z, err := zlib.NewWriterLevelDict(w, zlib.BestCompression, []byte(text[:min(len(text), 1000)]))
		if err != nil {
			panic(err)
		}
		return z
	})
}

// launcher is a script of size bytes as it stands before a jar.
func launcher(size int) string { return "#!/bin/sh\n" + strings.Repeat("# ", size/2) + "\nexit 0\n" }

// noise does not compress and has no reference.
func noise(size int) string {
	r := rand.New(rand.NewPCG(7, 8))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// artefact is a file that hides a reference.
type artefact struct {
	name, contents string
	kind           relocate.Kind
	detail         string
}

// artefacts hide text, which has a reference, in everything that can be made here.
func artefacts(text string) []artefact {
	const (
		pkcs12   = "\x30\x82\x04\xc2\x02\x01\x03\x30\x82\x04\x6c\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0\x82\x04\x5d\x04\x82\x04\x59"
		makeself = "#!/bin/sh\n# This script was generated using Makeself 2.5.0\nCRCsum=\"3140213\"\nMD5=\"9c7416150424e826b7109344980ee3b4\"\nskip=\"6\"\n\n"
	)
	const compressed, checksummed = relocate.Compressed, relocate.Checksummed
	return []artefact{
		{"run.gz", gzipped(text), compressed, "gzip: the hash of"},
		{"two.gz", gzipped("first\n") + gzipped(text), compressed, "gzip: the hash of"},
		{"objects/5f", zlibbed("blob 9\x00" + text), compressed, "zlib: the hash of"},
		{"run.zst", zstandard(text), compressed, "zstd: the hash of"},
		{"run.pzst", skippable("size") + skippable("") + zstandard(text), compressed, "zstd: the hash of"},
		{"late.pzst", skippable(noise(9000)) + zstandard(text), compressed, "zstd: the hash of"},
		{"app.js.br", brotlied(text), compressed, "brotli: the hash of"},
		{"app.jar", zipped(zip.Deflate, "app.properties", text), compressed, `zip member "app.properties"`},
		{"stored.jar", storedZip("app.properties", text), checksummed, "zip"},
		{"streamed.jar", zipped(zip.Store, "x.gz", gzipped(text)), compressed, `zip member "x.gz": gzip`},
		{"app.jmod", "JM\x01\x00" + zipped(zip.Deflate, "classes/x", text), compressed, `jmod member "classes/x"`},
		{"app.pyz", "#!/bin/sh\n" + zipped(zip.Deflate, "__main__.py", text), compressed, `member "__main__.py"`},
		{"boot.jar", launcher(20<<10) + zipped(zip.Deflate, "BOOT-INF/x", text), compressed, `member "BOOT-INF/x"`},
		{"stored.boot.jar", launcher(20<<10) + storedZip("BOOT-INF/x", text), checksummed, "zip behind a script"},
		{"omni.ja", "\x00\x00\x00\x00PK\x01\x02" + strings.Repeat("\x00", 42) + zipped(zip.Deflate, "x.js", text),
			compressed, `zip member "x.js"`},
		{"fat.jar", zipped(zip.Deflate, "lib/inner.jar", zipped(zip.Deflate, "a.txt", text)), compressed,
			`zip member "lib/inner.jar": zip member "a.txt"`},
		{"lib.tar.gz", gzipped(tarred("etc/x", text, "")), compressed, "gzip"},
		{"lib.tar", tarred("etc/x.gz", gzipped(text), ""), compressed, `tar member "etc/x.gz": gzip`},
		{"picture.tar", tarred("a.png", "\x89PNG\r\n\x1a\n"+text, ""), checksummed, `tar member "a.png": PNG`},
		{"link.tar", tarred("x", "", string(self)+"/bin"), checksummed, `tar member "x": header`},
		{"x.deb", arred("data.tar.zst/", zstandard(tarred("etc/x", text, ""))), compressed,
			`ar member "data.tar.zst": zstd`},
		{"old.beam", beam("AtU8", "\x00\x00\x00\x00", "LitT", size32(text)+zlibbed(text)), compressed,
			`chunk "LitT": zlib`},
		{"term.beam", beam("Attr", "\x83P"+size32(text)+zlibbed(text)), compressed, `chunk "Attr": zlib`},
		{"packed.beam", gzipped(beam("LitT", "\x00\x00\x00\x00"+text)), compressed, "gzip"},
		{"pack-1.pack", gitPack(text), compressed, "git pack: the hash of"},
		{"R/app.rdb", size32("first") + zlibbed("first") + size32(text) + zlibbed(text), compressed,
			"R lazy-load database: the hash of"},
		{"modules", "\xda\xda\xfe\xca" + strings.Repeat("\x00", 1000) + "\xfa\xfa\xfe\xca" +
			strings.Repeat("\x00", 25) + zlibbed(text), compressed, "jimage: resource"},
		{"snapshot_blob.bin", snapshot(text), checksummed, "V8 start-up snapshot (V8 11.3.244.8-node.38)"},
		{"a.png", "\x89PNG\r\n\x1a\n" + text, checksummed, "PNG"},
		{"a.db-wal", "\x37\x7f\x06\x82" + text, checksummed, "write-ahead log"},
		{"a.db-journal", "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + text, checksummed, "rollback journal"},
		{"rpm.db", strings.Repeat("\x00", 12) + "\x62\x31\x05\x00" + text, relocate.HashKeyed, "B-tree"},
		{"data.mdb", strings.Repeat("\x00", 16) + "\xde\xc0\xef\xbe\x01\x00\x00\x00" + text, relocate.HashKeyed, "LMDB"},
		{"keys.gdbm", "\xcf\x9a\x57\x13" + text, relocate.HashKeyed, "GDBM"},
		{"keys.tdb", "TDB file\n" + text, relocate.HashKeyed, "TDB"},
		{"keys.cdb", cdb(text, "value"), relocate.HashKeyed, "cdb"},
		{"app.mo", catalogue(text, "translated"), relocate.HashKeyed, "message catalogue"},
		{"index", "DIRC\x00\x00\x00\x02" + text, checksummed, "git index"},
		{"data/a.i", "\x00\x03\x00\x01" + strings.Repeat("\x00", 20) + strings.Repeat("\xff", 8) + strings.Repeat("\x00", 32) + "u" + text,
			checksummed, "Mercurial"},
		{"_0.fdt", "\x3f\xd7\x6c\x17" + text, checksummed, "Lucene"},
		{"dump.rdb", "REDIS0011" + text, checksummed, "Redis"},
		{"valkey.rdb", "VALKEY080" + text, checksummed, "Valkey"},
		{"collection-0.wt", "\x41\xd8\x01\x00\x01\x00\x00\x00" + text, checksummed, "WiredTiger"},
		{"plugin.MAI", "\xfe\xfe\x09\x03" + text, checksummed, "Aria"},
		{"db/revs/0/1", "DELTA\nSVN\x02\x00\x00A\x03B\x02\x80AA" + text, checksummed, "Subversion"},
		{"db/revs/0/2", "PLAIN\nK 1\na\nV 51\n" + text, checksummed, "Subversion"},
		{"db/revs/0.pack/pack", "PLAIN\nEND\nENDREP\n" + text, checksummed, "Subversion"},
		{"a.duckdb", "checksumDUCK\x40\x00\x00\x00\x00\x00\x00\x00" + text, checksummed, "DuckDB"},
		{"a.jks", "\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01\x00\x3e" + text, checksummed, "Java key store"},
		{"a.jceks", "\xce\xce\xce\xce\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01\x00\x3e" + text, checksummed, "Java key store"},
		{"a.p12", pkcs12 + text, checksummed, "Java key store"},
		{"wide.p12", pkcs12 + utf16BE(text), checksummed, "in UTF-16 in Java key store"},
		{"a.run", makeself + tarred("setup.sh", text, ""), checksummed, "Makeself archive"},
		{"a.sz", "\xff\x06\x00\x00sNaPpY" + text, checksummed, "Snappy"},
		{"new.h5", "\x89HDF\r\n\x1a\n\x02OHDR" + text, checksummed, "HDF5"},
		{"wide.gz", gzipped(utf16LE(text)), compressed, "in UTF-16"},
		{"url", strings.ReplaceAll(text, "/", "%2F"), relocate.BareHash, "the hash of"},
		{"root.squashfs", "hsqs\x01\x00\x00\x00" + text, relocate.Opaque, "squashfs"},
		{"app.AppImage", "\x7fELF\x02\x01\x01\x00AI\x02" + text, relocate.Opaque, "AppImage"},
		{"app", elf("UPX!" + text), relocate.Opaque, "UPX"},
		{"R/xz.rdb", "\x00\x00\x10\x00Z\xfd7zXZ\x00", relocate.Opaque, "not zlib streams"},
		{"run.lz4", "\x02\x21\x4c\x18\x00", relocate.Opaque, "lz4"},
		{"skip.lz4", skippable("size") + "\x04\x22\x4d\x18", relocate.Opaque, "lz4"},
		{"known.zlib", dictionaryZlib(text), relocate.Opaque, "zlib: it needs a dictionary"},
		{"late.boot.jar", launcher(70<<10) + zipped(zip.Deflate, "a", text), relocate.Opaque, "a zip archive behind"},
		{"bin/sfx", elf(zipped(zip.Deflate, "a", text)), relocate.Opaque, "a zip archive behind"},
		{"sfx.exe", "MZ" + storedZip("a", text), relocate.Opaque, "a zip archive behind"},
		{"a.7z", "7z\xbc\xaf\x27\x1c", relocate.Opaque, "7z"},
	}
}

func testBlockers(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	check := func(a artefact) {
		_, report := relocated(t, regular(a.name, a.contents))
		Expect(report.Relocatable()).To(BeFalse(), a.name)
		Expect(report.Blockers).To(ContainElement(And(
			HaveField("File", a.name), HaveField("Kind", a.kind), HaveField("Harmless", ""),
			HaveField("Detail", ContainSubstring(a.detail)),
		)), a.name)
	}

	it("finds a reference in whatever hides it", func() {
		for _, a := range artefacts(script) {
			check(a)
		}
		for name, contents := range map[string]string{
			"run.xz": scriptXZ, "run-x86.xz": scriptXZx86, "run.bz2": scriptBzip2, "run.xz.gz": gzipped(decoded(scriptXZ)),
		} {
			if !strings.HasSuffix(name, ".gz") {
				contents = decoded(contents)
			}
			check(artefact{name, contents, relocate.Compressed, "the hash of " + string(self)})
		}
		check(artefact{"run.lzma", decoded(scriptLZMA), relocate.Compressed, "lzma: the hash of"})
	})

	it("finds it in files much larger than its memory", func() {
		for _, a := range artefacts(noise(300<<10) + "\n" + script + noise(100<<10)) {
			check(a)
		}
	})

	it("reports the same, however contents are cut", func() {
		r := rand.New(rand.NewPCG(9, 10))
		for _, a := range artefacts(noise(200<<10) + "\n" + script) {
			want, wantReport := relocated(t, regular(a.name, a.contents))
			out := &events{}
			rewriter := view(t).Rewrite(self, []storepath.Path{dep}, out)
			send(t, rewriter, archive(regular(a.name, a.contents)), pieces(r))
			Expect(relocate.WithPending(rewriter.Report())).To(Equal(wantReport), a.name)
			Expect(contentsOf(out.files, a.name) == contentsOf(want, a.name)).To(BeTrue(), a.name)
		}
	})

	it("has nothing against the same files without a reference", func() {
		for _, a := range artefacts(strings.ReplaceAll(noise(200<<10)+script, self.HashPart(), other.HashPart())) {
			_, report := relocated(t, regular(a.name, a.contents))
			if a.kind != relocate.Opaque && a.name != "link.tar" {
				Expect(report.Blockers).To(BeEmpty(), a.name)
			}
		}
	})

	it("leaves a file alone that rewriting would break", func() {
		for _, a := range artefacts(script) {
			switch a.kind {
			case relocate.Checksummed, relocate.HashKeyed, relocate.Compressed:
				if strings.HasSuffix(a.name, ".tar") {
					continue
				}
				out, report := relocated(t, regular(a.name, a.contents))
				Expect(contentsOf(out, a.name) == a.contents).To(BeTrue(), a.name)
				Expect(report.References).To(BeZero(), a.name)
			}
		}
	})

	it("finds it before garbage, which some readers pass over, and before a container's end is missing", func() {
		for name, contents := range map[string]string{
			"run.gz": gzipped(script), "run.zst": zstandard(script), "objects/5f": zlibbed(script), "run.xz": decoded(scriptXZ),
			"run.bz2": decoded(scriptBzip2),
		} {
			check(artefact{name, contents + "garbage", relocate.Compressed, "the hash of"})
			check(artefact{name, contents + strings.Repeat("\x00", 100), relocate.Compressed, "the hash of"})
			if name != "run.bz2" && name != "run.zst" { // whose blocks are nothing without a checksum
				check(artefact{name, contents[:len(contents)-2], relocate.Compressed, "the hash of"})
			}
		}
	})

	it("names foreign store paths in compressed data too", func() {
		_, report := relocated(t, regular("x.gz", gzipped("see "+string(other)+"/bin")))
		Expect(report.Foreign).To(Equal([]string{other.HashPart()}))
	})

	it("rewrites what is plain in a container", func() {
		for name, contents := range map[string]string{
			"x.pyz": "#!" + string(self) + "/bin/python\n" + zipped(zip.Deflate, "__main__.py", "print()\n"),
			"x.run": "#!" + string(self) + "/bin/sh\nMD5=\"9c7416150424e826b7109344980ee3b4\"\nskip=\"3\"\n" + tarred("a", "nothing", ""),
		} {
			out, report := relocated(t, regular(name, contents))
			Expect(report.Blockers).To(BeEmpty(), name)
			Expect(report.References).To(BeNumerically(">", 0), name)
			Expect(contentsOf(out, name)).To(Equal(strings.ReplaceAll(contents, string(self), selfNow)), name)
		}
	})

	it("does not take text for a compressed file", func() {
		for _, text := range []string{
			"x^2 + y^2: ", "x = 1; k3s ", "x   ", "x}", "BZh9 is a prefix; ", "FOR1 ", "PACK ", "070702 was a day; ", "REDIS0 is a name; ", "VALKEY0 is a name; ", "No more DUCKs than these; ", "sqsh is a shell; ", "0\x80\x02\x01\x03, 06 09 and so on; ",
		} {
			out, report := relocated(t, regular("notes", text+script))
			Expect(report.Blockers).To(BeEmpty(), text)
			Expect(contentsOf(out, "notes")).To(ContainSubstring(selfNow), text)
		}
		dir, report := fixedTree(t, regular("messages.br", "in Breton: "+script)) // whose name is that of brotli
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "messages.br")).To(ContainSubstring(selfNow))
	})

	it("knows a zip archive at a program's end by the record that ends it, comment included", func() {
		archived := zipped(zip.Store, "a", "no reference")
		for comment := range map[string]bool{"": true, "made by hand": true, noise(1<<16 - 1): true} {
			size := binary.LittleEndian.AppendUint16(nil, uint16(len(comment)))
			end := archived[:len(archived)-2] + string(size) + comment
			for _, before := range []int{0, 1000, 128<<10 - 70, 128<<10 - 700, 1 << 20} {
				program := elf(strings.Repeat("\xcc", before))
				_, report := relocated(t, regular("bin/x", program+end))
				Expect(report.Blockers).To(ConsistOf(HaveField("Kind", relocate.Opaque)), "%d %d", before, len(comment))
				if len(comment) == 1<<16-1 {
					continue // there is no room for anything behind it
				}
				_, report = relocated(t, regular("bin/x", program+end+"something else"))
				Expect(report.Blockers).To(ConsistOf(HaveField("Kind", relocate.Opaque)), "%d %d", before, len(comment))
				none := strings.Replace(end, "PK\x01\x02", "PK\x01\x00", 1)
				_, report = fixedTree(t, regular("bin/x", program+none+"something else"))
				Expect(report.Blockers).To(BeEmpty(), "%d %d", before, len(comment))
			}
		}
	})

	it("says so where it cannot look", func() {
		encrypted := []byte(zipped(zip.Deflate, "secret", script))
		for at := range encrypted[:len(encrypted)-8] {
			if string(encrypted[at:at+4]) == "PK\x03\x04" {
				encrypted[at+6] |= 1
			}
		}
		deep := script
		for range 8 {
			deep = gzipped(deep)
		}
		for name, contents := range map[string]string{
			"encrypted.zip": string(encrypted),
			"deep.gz":       deep,
			"bomb.zst":      strings.Repeat(zstandard(string(make([]byte, 32<<20))), 50),
		} {
			_, report := relocated(t, regular(name, contents))
			Expect(report.Blockers).To(ContainElement(HaveField("Kind", relocate.Opaque)), name)
		}
	})

	it("survives containers that end early", func() {
		for _, a := range artefacts(noise(140<<10) + script) {
			for _, n := range []int{1, 5, 13, 40, 600, len(a.contents) / 2, len(a.contents) - 1} {
				contents := a.contents[:min(n, len(a.contents))]
				out, _ := relocated(t, regular(a.name, contents))
				Expect(contentsOf(out, a.name)).To(HaveLen(len(contents)), a.name)
			}
		}
	})
}
