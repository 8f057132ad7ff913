package relocate_test

import (
	"archive/zip"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"compress/zlib"
	stdcontext "context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// fixedTree writes files relocated and fixed up, and makes sure that they come back byte for byte.
func fixedTree(t testing.TB, files ...file) (dir string, report relocate.Report) {
	t.Helper()
	g := NewWithT(t)
	ctx := stdcontext.Background()
	all := archive(files...)
	dir = filepath.Join(t.TempDir(), "tree")
	t.Cleanup(func() { _ = nar.RemoveAll(dir) })
	o := relocate.Original{Path: self, References: []storepath.Path{dep}, NarHash: sha256.Sum256(archived(t, all))}
	l := view(t)
	rewriter := l.Rewrite(self, o.References, nar.NewTree(dir))
	send(t, rewriter, all, whole)
	report, err := l.FixTree(ctx, dir, o, rewriter.Report())
	g.Expect(err).NotTo(HaveOccurred())
	o.Fixups = report.Fixups
	seen := inspected(t, files...)
	g.Expect(seen.Blocking).To(Equal(report.Blocking))
	g.Expect(seen.Fixups).To(Equal(report.Fixups))
	g.Expect(seen.Fixed).To(Equal(report.Fixed))
	g.Expect(seen.References).To(Equal(report.References))
	if undoable(report) {
		g.Expect(l.VerifyTree(ctx, dir, t.TempDir(), o)).To(Succeed())
	}
	for _, f := range files {
		if f.Kind == nar.Regular {
			info, err := os.Lstat(filepath.Join(dir, f.Path))
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(info.Mode().Perm()).To(BeEquivalentTo(0o444), f.Path)
			g.Expect(info.ModTime().Unix()).To(BeEquivalentTo(1), f.Path)
		}
	}
	return dir, report
}

// made is fixedTree for what an inspection does not look at.
func made(t testing.TB, files ...file) (string, relocate.Report) {
	t.Helper()
	g := NewWithT(t)
	ctx, all, dir := stdcontext.Background(), archive(files...), filepath.Join(t.TempDir(), "tree")
	t.Cleanup(func() { _ = nar.RemoveAll(dir) })
	o := relocate.Original{Path: self, References: []storepath.Path{dep}, NarHash: sha256.Sum256(archived(t, all))}
	rewriter := view(t).Rewrite(self, o.References, nar.NewTree(dir))
	send(t, rewriter, all, whole)
	report, err := view(t).FixTree(ctx, dir, o, rewriter.Report())
	g.Expect(err).NotTo(HaveOccurred())
	o.Fixups = report.Fixups
	g.Expect(view(t).VerifyTree(ctx, dir, t.TempDir(), o)).To(Succeed())
	return dir, report
}

// readBack is what the file holds now.
func readBack(t testing.TB, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return string(b)
}

// lispCore is an SBCL core of parts that are compressed, for a machine with pages of that size.
func lispCore(page int, parts ...string) string {
	words := func(all ...int) (s string) {
		for _, n := range all {
			s += string(binary.LittleEndian.AppendUint64(nil, uint64(n)))
		}
		return s
	}
	padded := func(s string) string { return s + strings.Repeat("\x00", -len(s)&(page-1)) }
	head, body := "LCBS\x00\x00\x00\x00"+words(3860, 3, 1, 3861, 2+5*len(parts)), ""
	for _, part := range parts {
		head += words(9|8, 100, len(body)/page, 1<<30, 1)
		body += padded(part)
	}
	return padded(head+words(3840, 0)) + body
}

// lispParts are a core's parts, each with what stands behind it.
func lispParts(page int, core string) (parts []string) {
	for at := 8 + 24 + 16; binary.LittleEndian.Uint64([]byte(core[at:])) == 9|8; at += 40 {
		parts = append(parts, core[(int(binary.LittleEndian.Uint64([]byte(core[at+16:])))+1)*page:])
	}
	return parts
}

func unpacked(r io.Reader, err error) string {
	if err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func gunzipped(s string) string {
	r, err := gzip.NewReader(strings.NewReader(s))
	return unpacked(r, err)
}

func unzlibbed(s string) string {
	r, err := zlib.NewReader(strings.NewReader(s))
	return unpacked(r, err)
}

// unzipped are an archive's members by name, their checksums checked.
func unzipped(s string) map[string]string {
	r, err := zip.NewReader(strings.NewReader(s), int64(len(s)))
	if err != nil {
		return map[string]string{"": err.Error()}
	}
	members := map[string]string{}
	for _, f := range r.File {
		m, err := f.Open()
		members[f.Name] = unpacked(m, err)
	}
	return members
}

// phar is a PHP archive of one file, with a signature by SHA-512, as PHP 8 writes it.
func phar(name, text string) string {
	return pharWith("<?php Phar::mapPhar(); require 'phar://x'; __HALT_COMPILER(); ?>\r\n", "", name, text)
}

// pharWith is the same with a program before it and with metadata.
func pharWith(stub, metadata, name, text string) string {
	number := func(n int) string { return string(binary.LittleEndian.AppendUint32(nil, uint32(n))) }
	entry := number(len(name)) + name + number(len(text)) + number(1) + number(len(text)) +
		number(int(crc32.ChecksumIEEE([]byte(text)))) + number(0o644) + number(0)
	manifest := number(1) + "\x11\x00" + number(0x10000) + number(0) + number(len(metadata)) + metadata + entry
	s := stub + number(len(manifest)) + manifest + text
	sum := sha512.Sum512([]byte(s))
	return s + string(sum[:]) + number(4) + "GBMB"
}

// zipLZMA is the contents of a zip member of method 14, with a mark at their end or without.
func zipLZMA(text string, mark bool) string {
	var b bytes.Buffer
	w, err := lzma.WriterConfig{SizeInHeader: !mark, Size: int64(len(text)), EOSMarker: mark}.NewWriter(&b)
	Expect(err).NotTo(HaveOccurred())
	_, err = io.WriteString(w, text)
	Expect(err).NotTo(HaveOccurred())
	Expect(w.Close()).To(Succeed())
	file := b.String()
	return "\x13\x00\x05\x00" + file[:5] + file[13:]
}

// zippedMembers is a zip archive of members by name and text.
func zippedMembers(members ...string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(members); i += 2 {
		m, err := w.Create(members[i])
		Expect(err).NotTo(HaveOccurred())
		_, err = io.WriteString(m, members[i+1])
		Expect(err).NotTo(HaveOccurred())
	}
	Expect(w.Close()).To(Succeed())
	return b.String()
}

// chez is Chez Scheme code of one object, plain or LZ4 that comes to size bytes.
func chez(size int, object string) string {
	number := func(n int) string { return string([]byte{byte(n>>7) | 0x80, byte(n & 0x7f)}) }
	head := ",d"
	if size > 0 {
		head = ".d" + number(size)
	}
	return "\x00\x00\x00\x00chez\xc8\x94\x92\x08\"()$" + number(len(head+object)) + head + object
}

// lz4 is a part of a block of LZ4: text, and as many bytes again as n that stand back before.
func lz4(text string, back, n int) string {
	long := func(n int) (int, string) {
		if n < 15 {
			return n, ""
		}
		return 15, string([]byte{byte(n - 15)})
	}
	literals, more := long(len(text))
	if n == 0 {
		return string([]byte{byte(literals << 4)}) + more + text
	}
	copied, even := long(n - 4)
	return string([]byte{byte(literals<<4 | copied)}) + more + text + string([]byte{byte(back), byte(back >> 8)}) + even
}

func testFamilies(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })
	now := strings.ReplaceAll(script, string(self), selfNow)

	it("compresses anew what names store paths, in each format that can be written, and takes it back", func() {
		long := strings.Repeat(noise(300), 20) + script
		for name, f := range map[string]struct {
			pack   func(string) string
			unpack func(string) string
		}{
			"a.gz":       {gzipped, gunzipped},
			"objects/x":  {zlibbed, unzlibbed},
			"a.zst":      {zstandard, func(s string) string { r, err := zstd.NewReader(strings.NewReader(s)); return unpacked(r, err) }},
			"a.br":       {brotlied, func(s string) string { return unpacked(brotli.NewReader(strings.NewReader(s)), nil) }},
			"pdftex.fmt": {gzipped, gunzipped},
			"two.gz":     {func(s string) string { return gzipped("first\n") + gzipped(s) }, func(s string) string { return strings.TrimPrefix(gunzipped(s), "first\n") }},
			"padded.gz":  {func(s string) string { return gzipped(s) + strings.Repeat("\x00", 300) }, gunzipped},
			"twice.gz":   {func(s string) string { return gzipped(zlibbed(s)) }, func(s string) string { return unzlibbed(gunzipped(s)) }},
		} {
			for _, text := range []string{script, long} {
				dir, report := fixedTree(t, regular(name, f.pack(text)))
				Expect(report.Relocatable()).To(BeTrue(), "%s: %v", name, report.Blockers)
				Expect(report.Fixups).NotTo(BeEmpty(), name)
				Expect(f.unpack(readBack(t, dir, name))).To(Equal(strings.ReplaceAll(text, string(self), selfNow)), name)
			}
		}
		dir, report := fixedTree(t, regular("a.xz", decoded(scriptXZ)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		r, err := xz.NewReader(strings.NewReader(readBack(t, dir, "a.xz")))
		Expect(unpacked(r, err)).To(Equal(now))
		dir, report = fixedTree(t, regular("a.bz2", decoded(scriptBzip2)), regular("b.bz2", decoded(scriptBzip2)+decoded(scriptBzip2)),
			regular("c.lzma", decoded(scriptLZMA)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(unpacked(bzip2.NewReader(strings.NewReader(readBack(t, dir, "a.bz2"))), nil)).To(Equal(now))
		Expect(unpacked(bzip2.NewReader(strings.NewReader(readBack(t, dir, "b.bz2"))), nil)).To(Equal(now + now))
		l, err := lzma.NewReader(strings.NewReader(readBack(t, dir, "c.lzma")))
		Expect(unpacked(l, err)).To(Equal(now))
	})

	it("knows compressed data by what it is, and leaves alone what others know the places in", func() {
		term := func(s string) string { return "\x83P" + size32(s) + zlibbed(s) }
		dir, report := fixedTree(t, regular("lzma", decoded(scriptLZMA)),
			regular("skipped.zst", zstandard(script)+"\x50\x2a\x4d\x18\x04\x00\x00\x00skip"), regular("term", term(script)),
			regular("x.tlz", decoded(scriptLZMA)), regular("x86.xz", decoded(scriptXZx86)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		for _, name := range []string{"lzma", "x.tlz"} {
			r, err := lzma.NewReader(strings.NewReader(readBack(t, dir, name)))
			Expect(unpacked(r, err)).To(Equal(now), name)
		}
		r, err := xz.NewReader(strings.NewReader(readBack(t, dir, "x86.xz")))
		Expect(unpacked(r, err)).To(Equal(now))
		got := readBack(t, dir, "term")
		Expect(got[:6]).To(Equal(term(script)[:6]))
		Expect(unzlibbed(got[6:])).To(Equal(now))
		z, err := zstd.NewReader(strings.NewReader(readBack(t, dir, "skipped.zst")))
		Expect(unpacked(z, err)).To(Equal(now))

		const small = "\x18\x19" // a window of 512 bytes
		for name, contents := range map[string]string{
			"seekable.zst": zstandard(script) + "\x5e\x2a\x4d\x18\x09\x00\x00\x00" + "\x00\x00\x00\x00\x00\xb1\xea\x92\x8f",
			"small":        small + zlibbed(script)[2:],
			"a.so":         "\x00\x00\x00\x00chez\xd0\x80" + script,
			"a_rkt.zo":     "#~\x048.16\x0bchez-schemeD" + script,
			"a.ets":        "\x01\x02\x03\x04cXM\x0b\x00\x00\x01\xa6bWLA\x83w\x06md5sum" + script,
			"a.dets":       "\x00\x00\x16\x04\x00\xab\xcd\xef" + script,
		} {
			dir, report := fixedTree(t, regular(name, contents))
			Expect(report.Relocatable()).To(BeFalse(), name)
			Expect(readBack(t, dir, name)).To(Equal(contents), name)
		}
		for _, text := range []string{"8O then a text of " + string(self), "HG " + string(self), "#~ of " + string(self),
			"\x01\x02\x03\x04cXM\x0b\x00\x00\x00HbWLA" + string(self)} {
			_, report := fixedTree(t, regular("text", text))
			Expect(report.References).To(Equal(1), "%v", report.Blockers)
		}
	})

	it("leaves compressed data alone that has something behind it, which would be lost", func() {
		for name, contents := range map[string]string{
			"a.z": zlibbed(script) + "behind", "b.z": zlibbed("nothing to be seen here") + script, "c.z": zlibbed(script) + zlibbed("x"),
			"a.lzma": decoded(scriptLZMA) + "behind", "a.term": "\x83P" + size32(script) + zlibbed(script) + "behind",
			"a.gz": gzipped(script) + "behind", "a.xz": decoded(scriptXZ) + "behind", "a.bz2": decoded(scriptBzip2) + "behind",
		} {
			dir, report := fixedTree(t, regular(name, contents))
			Expect(report.Relocatable()).To(BeFalse(), name)
			Expect(readBack(t, dir, name)).To(Equal(contents), name)
		}
	})

	it("rewrites Chez Scheme code and Racket code, where what is unpacked from LZ4 then is right", func() {
		first := "a text of some length " + string(self) + "/bin/app\x00"
		back, path, prefix, hashLen := len(first)-strings.Index(first, "/nix/"), len(self)+4, len("/nix/store/"), storepath.HashLen
		racket := func(code string) string {
			return "#~\x038.7\x0bchez-schemeB" + strings.Repeat("\x00", 20) + size32(code) + code
		}
		plain := func(first, _ string) string { return chez(0, first) }
		again := func(first, _ string) string { return chez(len(first)+path+2, lz4(first, back, path)+lz4("xy", 0, 0)) }
		another := func(first, hash string) string {
			return chez(len(first)+prefix+len(hash), lz4(first, back, prefix)+lz4(hash, 0, 0))
		}
		for name, code := range map[string]func(first, hash string) string{
			"plain.so": plain, "again.so": again, "another.so": another,
			"shortened.so": func(first, _ string) string { // what is copied is the end of a hash, and a whole one
				hash := back - prefix // from the end of first
				return chez(len(first)+4+6+5+hashLen, lz4(first+"[...", 4+hash-hashLen+6, 6)+lz4("/.../", 4+6+5+hash, hashLen)+lz4("", 0, 0))
			},
			"both.so": func(first, hash string) string { return plain(first, hash) + another(first, hash) },
			"a_rkt.zo": func(first, hash string) string {
				return racket(chez(0, again(first, hash)+"between"+another(first, hash)))
			},
		} {
			dir, report := fixedTree(t, regular(name, code(first, string(dep)[prefix:])))
			Expect(report.Relocatable()).To(BeTrue(), "%s: %v", name, report.Blockers)
			Expect(readBack(t, dir, name)).To(Equal(code(strings.ReplaceAll(first, string(self), selfNow), depNow[prefix:])), name)
		}
		for name, code := range map[string]string{
			"other.so":  another(first, "is a text, too"), // which would begin with /layers/nix
			"half.so":   chez(len(first)+prefix+20, lz4(first, back, prefix+20)+lz4("", 0, 0)),
			"hash.so":   chez(0, dep.HashPart()),
			"dots.so":   chez(len(first)+3+prefix, lz4(first+"...", back+3, prefix)+lz4("", 0, 0)),
			"image.so":  strings.Replace(plain(first, ""), ",d", ",e", 1),
			"broken.so": chez(len(first), lz4(first, 9999, 5)),
			"none.so":   "\x00\x00\x00\x00chez\xc8\x94\x92\x08\"()" + first,
			"beside.zo": racket("beside " + first + chez(0, first)),
		} {
			dir, report := fixedTree(t, regular(name, code))
			Expect(report.Relocatable()).To(BeFalse(), name)
			Expect(readBack(t, dir, name)).To(Equal(code), name)
		}
	})

	it("rewrites the members of zip archives, stored, deflated and nested, with their checksums and places", func() {
		inner := storedZip("lib/a.properties", script)
		for name, c := range map[string]struct{ contents, member string }{
			"app.jar":      {zipped(zip.Deflate, "a.txt", script), "a.txt"},
			"large.jar":    {zipped(zip.Deflate, "a.txt", strings.Repeat(noise(500), 30)+script), "a.txt"},
			"stored.jar":   {storedZip("a.txt", script), "a.txt"},
			"streamed.egg": {zipped(zip.Store, "a.txt", script), "a.txt"},
			"app.jmod":     {"JM\x01\x00" + zipped(zip.Deflate, "classes/a", script), "classes/a"},
			"app.pyz":      {"#!" + string(self) + "/bin/python\n" + zipped(zip.Deflate, "__main__.py", script), "__main__.py"},
			"boot.jar":     {launcher(20<<10) + zipped(zip.Deflate, "BOOT-INF/x", script), "BOOT-INF/x"},
		} {
			dir, report := fixedTree(t, regular(name, c.contents))
			Expect(report.Relocatable()).To(BeTrue(), "%s: %v", name, report.Blockers)
			contents := readBack(t, dir, name)
			before := unzipped(strings.TrimPrefix(c.contents, "JM\x01\x00"))
			members := unzipped(strings.TrimPrefix(contents, "JM\x01\x00"))
			Expect(members).To(HaveLen(len(before)), name)
			for member, text := range before {
				Expect(members[member]).To(Equal(strings.ReplaceAll(text, string(self), selfNow)), name)
			}
			Expect(members[c.member]).To(HaveSuffix(now), name)
			Expect(contents).NotTo(ContainSubstring(string(self)))
		}
		for _, method := range []uint16{zip.Store, zip.Deflate} {
			dir, report := fixedTree(t, regular("spring.jar", zipped(method, "BOOT-INF/lib/inner.jar", inner)))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			outer := unzipped(readBack(t, dir, "spring.jar"))
			Expect(unzipped(outer["BOOT-INF/lib/inner.jar"])["lib/a.properties"]).To(Equal(now))
		}
	})

	it("rewrites a zip archive beside a member of LZMA's, and refuses it where that one names a store path", func() {
		for _, mark := range []bool{true, false} {
			for text, refused := range map[string]bool{strings.Repeat("nothing here\n", 9): false, script: true} {
				var b bytes.Buffer
				w := zip.NewWriter(&b)
				packed := zipLZMA(text, mark)
				header := &zip.FileHeader{Name: "a.txt", Method: 14, CRC32: crc32.ChecksumIEEE([]byte(text)),
					CompressedSize64: uint64(len(packed)), UncompressedSize64: uint64(len(text))}
				if mark {
					header.Flags = 1 << 1
				}
				raw, err := w.CreateRaw(header)
				Expect(err).NotTo(HaveOccurred())
				_, err = io.WriteString(raw, packed)
				Expect(err).NotTo(HaveOccurred())
				m, err := w.Create("b.txt")
				Expect(err).NotTo(HaveOccurred())
				_, err = io.WriteString(m, script)
				Expect(err).NotTo(HaveOccurred())
				Expect(w.Close()).To(Succeed())
				if refused {
					_, report := relocated(t, regular("a.zip", b.String()))
					Expect(report.Blockers).To(ContainElement(HaveField("Detail", ContainSubstring(`a.txt": lzma: the hash of`))))
					continue
				}
				dir, _ := fixedTree(t, regular("a.zip", b.String()))
				r, err := zip.NewReader(strings.NewReader(readBack(t, dir, "a.zip")), int64(len(readBack(t, dir, "a.zip"))))
				Expect(err).NotTo(HaveOccurred())
				f, err := r.Open("b.txt")
				Expect(err).NotTo(HaveOccurred())
				Expect(io.ReadAll(f)).To(BeEquivalentTo(now))
			}
		}
	})

	it("rewrites an archive with gaps between its members", func() {
		archive := zippedMembers("a.txt", "x", "b.txt", strings.Repeat(noise(400), 9)+script)
		at, gap := strings.LastIndex(archive, "PK\x03\x04"), strings.Repeat("\x00", 13)
		moved := func(field int) { // by the gap
			n := binary.LittleEndian.Uint32([]byte(archive[field:]))
			archive = archive[:field] + string(binary.LittleEndian.AppendUint32(nil, n+uint32(len(gap)))) + archive[field+4:]
		}
		moved(strings.LastIndex(archive, "PK\x01\x02") + 42)
		moved(len(archive) - 6)
		dir, report := fixedTree(t, regular("a.zip", archive[:at]+gap+archive[at:]))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(unzipped(readBack(t, dir, "a.zip"))["b.txt"]).To(HaveSuffix(now))
	})

	it("rewrites an archive of more members than 16 bits can count", func() {
		var members []string
		for i := range 1<<16 + 1 {
			members = append(members, strconv.Itoa(i), "x")
		}
		dir, report := fixedTree(t, regular("a.zip", zippedMembers(append(members, "a.txt", strings.Repeat(noise(400), 9)+script)...)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		got := unzipped(readBack(t, dir, "a.zip"))
		Expect(got).To(HaveLen(1<<16 + 2))
		Expect(got["a.txt"]).To(HaveSuffix(now))
		Expect(got["65536"]).To(Equal("x"))
	})

	it("rewrites archives behind programs and long scripts, of which a rewriter has rewritten what stands in plain sight", func() {
		for name, before := range map[string]string{
			"app": elf("a program of " + string(dep)), "sfx.exe": "MZ a program of " + string(dep), "app.run": launcher(80<<10) + string(dep) + "\n",
			"app.dat": "anything of " + string(dep) + "\n",
		} {
			for _, c := range []string{
				zipped(zip.Deflate, "a.txt", script), storedZip("a.txt", script), zipped(zip.Store, "a.txt", script),
				storedZip("inner.jar", storedZip("a.txt", script)), storedZip("inner.jar", zipped(zip.Deflate, "a.txt", script)),
			} {
				dir, report := fixedTree(t, regular(name, before+c))
				Expect(report.Relocatable()).To(BeTrue(), "%s: %v", name, report.Blockers)
				contents := readBack(t, dir, name)
				Expect(contents).To(HavePrefix(strings.ReplaceAll(before, string(dep), depNow)))
				members := unzipped(contents)
				if inner, ok := members["inner.jar"]; ok {
					members = unzipped(inner)
				}
				Expect(members).To(HaveKeyWithValue("a.txt", now), name)
			}
			_, report := fixedTree(t, regular(name, before+strings.Replace(zipped(zip.Deflate, "a.txt", script), "PK\x01\x02", "PK\x01\x00", 1)))
			Expect(report.Relocatable()).To(BeFalse())
		}
	})

	it("rewrites members of such archives that have a checksum or a header of their own, and leaves all of them as they were where one cannot be", func() {
		picture := func(text string) string {
			c := "tEXtComment\x00" + text
			return "\x89PNG\r\n\x1a\n" + size32(c[4:]) + c + string(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(c))))
		}
		uncompressed := func(text string) string {
			return packed(text, func(w io.Writer) io.WriteCloser {
				z, err := gzip.NewWriterLevel(w, gzip.NoCompression)
				Expect(err).NotTo(HaveOccurred())
				return z
			})
		}
		same := func(s string) string { return s }
		for _, before := range []string{elf("a program of " + string(dep)), "anything of " + string(dep) + "\n", launcher(80<<10) + string(dep)} {
			for name, c := range map[string]struct {
				contents, want string
				read           func(string) string
			}{
				"a.gz":  {uncompressed(script), now, gunzipped},
				"a.png": {picture(script), picture(now), same},
				"a.tar": {tarred("x", "", string(self)+"/bin"), tarred("x", "", selfNow+"/bin"), same},
			} {
				dir, report := fixedTree(t, regular("app", before+storedZip(name, c.contents)))
				Expect(report.Relocatable()).To(BeTrue(), "%s: %v", name, report.Blockers)
				contents := readBack(t, dir, "app")
				Expect(contents).To(HavePrefix(strings.ReplaceAll(before, string(dep), depNow)))
				Expect(c.read(unzipped(contents)[name])).To(Equal(c.want), name)
			}
			archive := storedZip("a.txt", utf16LE(script)+script+self.HashPart())
			dir, report := fixedTree(t, regular("app", before+archive))
			Expect(report.Relocatable()).To(BeFalse())
			Expect(readBack(t, dir, "app")).To(Equal(strings.ReplaceAll(before, string(dep), depNow) + archive))
		}
	})

	it("rewrites archives that were compiled into a program", func() {
		before, behind := elf("a program of "+string(dep)), strings.Repeat("code", 40<<10)+string(dep)+"\x00"
		for _, c := range []struct {
			archive     string
			relocatable bool
		}{
			{storedZip("a.txt", script), true}, {zipped(zip.Store, "a.txt", script), true}, {storedZip("a.txt", storedZip("b", script)), true},
			{storedZip("a.txt", script+noise(1<<20)), true}, {storedZip("a.txt", "no reference"), true},
			{storedZip("a.txt", script+self.HashPart()), false}, {storedZip("META-INF/A.SF", script), false},
		} {
			contents := before + storedZip("first", "nothing") + c.archive + behind
			dir, report := fixedTree(t, regular("app", contents), regular("z.tar", tarred("app", contents, "")))
			Expect(report.Relocatable()).To(Equal(c.relocatable), "%v", report.Blockers)
			if !c.relocatable {
				continue
			}
			got := readBack(t, dir, "app")
			Expect(got).To(HaveLen(len(contents)))
			Expect(got).To(HaveSuffix(strings.ReplaceAll(behind, string(dep), depNow)))
			Expect(readBack(t, dir, "z.tar")).To(ContainSubstring(got))
			members := unzipped(strings.TrimSuffix(got, strings.ReplaceAll(behind, string(dep), depNow)))
			if text := members["a.txt"]; strings.HasPrefix(text, "PK") {
				Expect(unzipped(text)["b"]).To(Equal(now))
			} else {
				Expect(text).To(Or(HavePrefix(now), Equal("no reference")))
			}
		}
	})

	it("takes a script that has the mark of an archive's member, and no archive behind it, for text", func() {
		dir, report := fixedTree(t, regular("run", "#!/usr/bin/ocamlrun\n\x04\x00PK\x03\x04\x00\x00"+script))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "run")).To(HaveSuffix(now))
	})

	it("refuses an archive with two directories, as some readers go by one and some by the other", func() {
		long := func(n int) string { return string(binary.LittleEndian.AppendUint64(nil, uint64(n))) }
		short := func(n int) string { return string(binary.LittleEndian.AppendUint32(nil, uint32(n))) }
		directory := func(name string, at, crc int) string {
			return "PK\x01\x02\x14\x00\x14\x00" + strings.Repeat("\x00", 8) + short(crc) + short(len(script)) + short(len(script)) +
				string([]byte{byte(len(name)), 0}) + strings.Repeat("\x00", 12) + short(at) + name
		}
		crc := int(crc32.ChecksumIEEE([]byte(script)))
		member := func(name string) string {
			return "PK\x03\x04\x14\x00" + strings.Repeat("\x00", 8) + short(crc) + short(len(script)) + short(len(script)) +
				string([]byte{byte(len(name)), 0, 0, 0}) + name + script
		}
		members := member("a") + member("b")
		first, second := directory("a", 0, crc), directory("b", len(member("a")), crc)
		end := func(long64 string, at int) string {
			return "PK\x06\x06" + long(44) + "\x2d\x00\x2d\x00" + strings.Repeat("\x00", 8) + long64 +
				"PK\x06\x07\x00\x00\x00\x00" + long(len(members+first+second)) + "\x01\x00\x00\x00" +
				"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00" + short(len(first)) + short(at) + "\x00\x00"
		}
		at := len(members)
		longEnd := long(1) + long(1) + long(len(second)) + long(at+len(first))
		dir, report := fixedTree(t, regular("a.zip", members+first+second+end(longEnd, at+len(first))))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(unzipped(readBack(t, dir, "a.zip"))).To(Equal(map[string]string{"b": now}))
		_, report = fixedTree(t, regular("a.zip", members+first+second+end(longEnd, at)))
		Expect(report.Relocatable()).To(BeFalse())
	})

	it("rewrites an archive with something behind it where nothing moves, else refuses it, as a program of Perl's PAR", func() {
		const behind = "\x00CACHE\x00\x14\x2b\x95\nPAR.pm\n"
		program := elf(strings.Repeat("\x90", 300<<10) + string(dep))
		for archive, ok := range map[string]bool{
			storedZip("lib/PM.pm", script):                   true,
			zipped(zip.Deflate, "lib/PM.pm", script):         false,
			zipped(zip.Deflate, "lib/PM.pm", "no reference"): true,
		} {
			dir, report := fixedTree(t, regular("bin/par", program+archive+behind))
			Expect(report.Relocatable()).To(Equal(ok), "%v", report.Blockers)
			got := readBack(t, dir, "bin/par")
			Expect(got).To(HaveSuffix(behind))
			if members := unzipped(strings.TrimSuffix(got, behind)); ok {
				Expect(members["lib/PM.pm"]).NotTo(ContainSubstring(string(self)))
				Expect(members["lib/PM.pm"]).To(Or(Equal(now), Equal("no reference")))
			}
		}
	})

	it("rewrites the comments, names and other fields of a zip archive", func() {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		Expect(w.SetComment("of " + string(self))).To(Succeed())
		m, err := w.CreateHeader(&zip.FileHeader{Name: "a" + string(dep), Comment: string(self), Method: zip.Deflate})
		Expect(err).NotTo(HaveOccurred())
		_, err = io.WriteString(m, script)
		Expect(err).NotTo(HaveOccurred())
		_, err = w.Create("b" + string(dep))
		Expect(err).NotTo(HaveOccurred())
		Expect(w.Close()).To(Succeed())
		dir, report := fixedTree(t, regular("a.zip", b.String()))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		contents := readBack(t, dir, "a.zip")
		Expect(unzipped(contents)).To(Equal(map[string]string{"a" + depNow: now, "b" + depNow: ""}))
		r, err := zip.NewReader(strings.NewReader(contents), int64(len(contents)))
		Expect(err).NotTo(HaveOccurred())
		Expect(r.Comment + r.File[0].Comment).To(Equal("of " + selfNow + selfNow))
	})

	it("rewrites store paths in the manifest of a jar that go over from one line to the next", func() {
		folded := func(path string, at int, end string) string {
			line := "Class-Path: " + strings.Repeat("x", at) + " file:" + path + "/a.jar " + path + "/b.jar"
			text := line[:70]
			for line = line[70:]; len(line) > 0; line = line[min(69, len(line)):] {
				text += end + " " + line[:min(69, len(line))]
			}
			return "Manifest-Version: 1.0" + end + text + end + "Main-Class: A" + end + end
		}
		for _, end := range []string{"\r\n", "\n", "\r"} {
			for at := range 60 {
				was, want := folded(string(self), at, end), folded(selfNow, at, end)
				dir, report := fixedTree(t, regular("META-INF/MANIFEST.MF", was), regular("a.jar", zipped(zip.Deflate, "META-INF/MANIFEST.MF", was)))
				Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
				Expect(readBack(t, dir, "META-INF/MANIFEST.MF")).To(Equal(want))
				Expect(unzipped(readBack(t, dir, "a.jar"))["META-INF/MANIFEST.MF"]).To(Equal(want))
			}
		}
		_, report := fixedTree(t, regular("META-INF/MANIFEST.MF", "Built-By: "+self.HashPart()+"\n"))
		Expect(report.Relocatable()).To(BeFalse())
	})

	it("takes the last part of a larger archive for no archive, as in the tests of Python 3.13", func() {
		whole := storedZip("a.txt", strings.Repeat(script, 20))
		part := strings.Repeat("\x00", 100) + string(dep) + whole[strings.Index(whole, "PK\x01\x02"):]
		program := elf("a program of " + string(dep))
		dir, report := fixedTree(t, regular("bin/x", program+part), regular("sparse-zip64-c0-0x200000000.part", part))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		now := strings.ReplaceAll(part, string(dep), depNow)
		Expect(readBack(t, dir, "sparse-zip64-c0-0x200000000.part")).To(Equal(now))
		Expect(readBack(t, dir, "bin/x")).To(Equal(strings.ReplaceAll(program, string(dep), depNow) + now))
	})

	it("leaves a signed archive alone, and says so", func() {
		signed := zippedMembers("META-INF/APP.SF", "Signature-Version: 1.0\n", "a.txt", script)
		dir, report := fixedTree(t, regular("app.jar", signed))
		Expect(report.Relocatable()).To(BeFalse())
		Expect(report.Blockers[0].Detail).To(ContainSubstring("signed"))
		Expect(readBack(t, dir, "app.jar")).To(Equal(signed))
	})

	it("leaves an archive alone that others have signed", func() {
		const mark = "APK Sig Block 42"
		end := strings.Index(zippedMembers("a.txt", script), "PK\x01\x02")
		android := zippedMembers("a.txt", script)
		android = android[:end] + mark + android[end:len(android)-6] // and where the directory begins, and no comment
		android += string(binary.LittleEndian.AppendUint32(nil, uint32(end+len(mark)))) + "\x00\x00"
		for name, signed := range map[string]string{
			"a.apk": android, "a.crx": "Cr24\x03\x00\x00\x00" + zippedMembers("a.txt", script),
			"a.nupkg": zippedMembers(".signature.p7s", "signature", "a.txt", script),
			"a.odt":   zippedMembers("META-INF/documentsignatures.xml", "<x/>", "content.xml", script),
		} {
			dir, report := fixedTree(t, regular(name, signed))
			Expect(report.Blockers).To(ContainElement(HaveField("Detail", ContainSubstring("signed"))), name)
			Expect(readBack(t, dir, name)).To(Equal(signed), name)
		}
	})

	it("puts right the checksum over the constants of a program of Nuitka's", func() {
		number := func(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }
		constants := func(text string) string {
			parts := ".bytecode\x00" + number(3) + "\x00\x00." + "\x00" + number(uint32(len(text)+5)) + "\x01\x00u" + text + "\x00."
			return number(crc32.ChecksumIEEE([]byte(parts))) + number(uint32(len(parts))) + parts
		}
		program := func(self, dep string) string {
			return elf("runpath " + dep + "/lib\x00.bytecode\x00" + constants(self+"/share") + "behind " + dep)
		}
		was := program(string(self), string(dep))
		dir, report := fixedTree(t, regular("bin/app", was), regular("z/plain", program("nothing", string(dep))))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "bin/app")).To(Equal(program(selfNow, depNow)))
		Expect(readBack(t, dir, "z/plain")).To(Equal(program("nothing", depNow)))

		// Where the checksum is not right, or the size not to be, these are none: LuaTeX has the word, too.
		word := func(self string) string { return elf("words .bytecode\x00\x01\x00\x00\x00 and " + self + "/share") }
		dir, report = fixedTree(t, regular("bin/app", strings.Replace(was, "/share", "/other", 1)), regular("bin/luatex", word(string(self))))
		Expect(report.Blockers).To(BeEmpty())
		Expect(readBack(t, dir, "bin/app")).To(Equal(strings.Replace(
			strings.ReplaceAll(strings.ReplaceAll(was, string(self), selfNow), string(dep), depNow), "/share", "/other", 1)))
		Expect(readBack(t, dir, "bin/luatex")).To(Equal(word(selfNow)))
	})

	it("puts right the checksum of a V8 start-up snapshot, of either kind, in a file and in a program", func() {
		for _, sum := range []func(string) uint32{adler, fletcher} {
			blob := snapshotWith(sum, "context with "+string(self)+" in it")
			dir, report := fixedTree(t, regular("snapshot_blob.bin", blob),
				regular("z/node", elf(strings.Repeat("\x00", 600<<10)+blob+strings.Repeat("after "+string(dep), 10))))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			want := snapshotWith(sum, "context with "+selfNow+" in it")
			Expect(readBack(t, dir, "snapshot_blob.bin")).To(Equal(want))
			program := readBack(t, dir, "z/node")
			Expect(program[64+600<<10:][:len(want)]).To(Equal(want))
			Expect(program).To(ContainSubstring("after " + depNow))
		}
		// What Node.js makes a single executable of: an app's source, or its snapshot, which begins anywhere.
		for _, sum := range []func(string) uint32{adler, fletcher} {
			app := func(path string) string {
				return "\x20\xda\x43\x01\x02" + snapshotWith(sum, "app with "+path+" and "+utf16LE(path)+"!") + path
			}
			source := func(path string) string { return "\x20\xda\x43\x01\x00open('" + path + "')" }
			before := elf(strings.Repeat("\x00", 600<<10+3))
			dir, report := fixedTree(t, regular("app", before+app(string(self))), regular("app.blob", app(string(self))),
				regular("source.blob", source(string(self))))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			Expect(readBack(t, dir, "app") == before+app(selfNow)).To(BeTrue())
			Expect(readBack(t, dir, "app.blob")).To(Equal(app(selfNow)))
			Expect(readBack(t, dir, "source.blob")).To(Equal(source(selfNow)))
		}
		wrong := []byte(snapshotWith(adler, "context with "+string(self)+" in it"))
		wrong[9]++
		_, report := fixedTree(t, regular("snapshot_blob.bin", string(wrong)))
		Expect(report.Relocatable()).To(BeFalse())
	})

	context("R", func() {
		// lazyLoad is a database of values, and its index.
		lazyLoad := func(values ...string) (files []file) {
			database, index := "", "X\n\x00\x00\x00\x03\x00\x04\x05\x02\x00\x03\x05\x00"
			for _, v := range values {
				index += "\x00\x00\x00\x0d\x00\x00\x00\x02" + string(binary.BigEndian.AppendUint32(nil, uint32(len(database)))) + size32(v)
				database += v
			}
			return []file{regular("R/data.rdb", database), regular("R/data.rdx", gzipped(index))}
		}
		// values are those that the index leads to, inflated.
		values := func(dir string) (texts []string) {
			database := readBack(t, dir, "R/data.rdb")
			for _, place := range strings.Split(gunzipped(readBack(t, dir, "R/data.rdx")), "\x00\x00\x00\x0d\x00\x00\x00\x02")[1:] {
				at, length := binary.BigEndian.Uint32([]byte(place)), binary.BigEndian.Uint32([]byte(place[4:]))
				v := database[at : at+length]
				text, size := "", binary.BigEndian.Uint32([]byte(v))
				switch v[4] {
				case '0':
					text = v[5:]
				case '1':
					text = unzlibbed(v[5:])
				case '2':
					text = unpacked(bzip2.NewReader(strings.NewReader(v[5:])), nil)
				default:
					text = unzlibbed(v[4:])
				}
				Expect(text).To(HaveLen(int(size)))
				texts = append(texts, text)
			}
			return texts
		}
		bzip2Value, plain := size32(script)+"2"+decoded(scriptBzip2), size32("plain")+"0plain"
		long := noise(3000) + script

		it("puts values of every compression that name store paths to a database's end, and makes the index lead there", func() {
			for _, c := range []struct{ was, now []string }{
				{[]string{bzip2Value, plain}, []string{now, "plain"}},
				{[]string{plain, bzip2Value, bzip2Value, plain}, []string{"plain", now, now, "plain"}},
				{[]string{size32(long) + zlibbed(long), size32("x") + zlibbed("x")}, []string{strings.ReplaceAll(long, string(self), selfNow), "x"}},
				{[]string{size32(long) + "1" + zlibbed(long), bzip2Value}, []string{strings.ReplaceAll(long, string(self), selfNow), now}},
				{[]string{size32(script) + "0" + script, plain}, []string{now, "plain"}},
			} {
				files := lazyLoad(c.was...)
				dir, report := fixedTree(t, files...)
				Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
				Expect(values(dir)).To(Equal(c.now))
				recorded := 0
				for _, f := range report.Fixups {
					if f.File == "R/data.rdb" {
						recorded += len(f.Was)
					}
				}
				Expect(recorded).To(BeZero(), "what was there is there still")
			}
		})
		it("blocks where no index has a value that would move", func() {
			for _, other := range [][]file{
				nil, {regular("R/data.rdx", gzipped("X\n"))}, {regular("R/data.rdx", "X\n")}, {regular("R/data.rdx", gzipped("A\n"))},
				{regular("R/data.rdx", gzipped("X\n"+string(self)))},
			} {
				files := append([]file{lazyLoad(bzip2Value)[0]}, other...)
				dir, report := fixedTree(t, files...)
				Expect(report.Relocatable()).To(BeFalse())
				Expect(report.Blockers[0].Detail).To(ContainSubstring("data.rdx"))
				Expect(readBack(t, dir, "R/data.rdb")).To(Equal(contentsOf(files, "R/data.rdb")))
			}
		})
		it("leaves a database alone that names none", func() {
			files := lazyLoad(plain, size32("x")+zlibbed("x"))
			dir, report := fixedTree(t, files...)
			Expect(report.Relocatable()).To(BeTrue())
			Expect(report.Fixups).To(BeEmpty())
			Expect(readBack(t, dir, "R/data.rdx")).To(Equal(contentsOf(files, "R/data.rdx")))
		})
	})

	it("takes a JDK's modules as harmless beside its run-time image only", func() {
		jmod := "JM\x01\x00" + strings.Replace(zipped(zip.Deflate, "lib/x.so", string(self)), "PK\x01\x02", "PK\x01\x00", 1)
		_, report := fixedTree(t, regular("lib/openjdk/jmods/java.base.jmod", jmod),
			regular("lib/openjdk/lib/modules", "\xda\xda\xfe\xca"))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(report.Harmless).To(BeNumerically(">", 0))
		_, report = fixedTree(t, regular("lib/openjdk/jmods/java.base.jmod", jmod), regular("lib/other/lib/modules", "x"))
		Expect(report.Relocatable()).To(BeFalse())
	})

	it("rewrites literals, terms and plain chunks of Erlang modules", func() {
		module := beam("AtU8", "\x00\x00\x00\x00", "LitT", size32(script)+zlibbed(script), "StrT", script)
		dir, report := fixedTree(t, regular("x.beam", module), regular("y.beam", beam("StrT", script)),
			regular("z.beam", gzipped(module)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		now := beam("AtU8", "\x00\x00\x00\x00", "LitT", size32(script)+"ZLIB", "StrT", now)
		Expect(readBack(t, dir, "y.beam")).To(Equal(beam("StrT", strings.ReplaceAll(script, string(self), selfNow))))
		for _, contents := range []string{readBack(t, dir, "x.beam"), gunzipped(readBack(t, dir, "z.beam"))} {
			Expect(binary.BigEndian.Uint32([]byte(contents[4:]))).To(BeEquivalentTo(len(contents) - 8))
			at := strings.Index(contents, "LitT")
			size := int(binary.BigEndian.Uint32([]byte(contents[at+4:])))
			Expect(unzlibbed(contents[at+12 : at+8+size])).To(Equal(strings.ReplaceAll(script, string(self), selfNow)))
			Expect(contents[at+8+size+-size&3:]).To(Equal(now[strings.Index(now, "StrT"):]))
		}
	})

	it("rewrites regular expressions that Erlang modules have in compiled form", func() {
		compiled := func(text string) string { // each character behind its operation
			return "\x1b\x1d" + strings.Join(strings.Split(text, ""), "\x1d") + "\x1d/\x8b"
		}
		exported := func(text string, version byte) string {
			written, code := "^"+text+"/(.*)$", "S2RP"+compiled(string(self))
			return "h\x05w\x13re_exported_patternm\x00\x00\x00\x0ere-PCRE2SUMS" + string([]byte{version}) + "\x00m" + size32(written) + written +
				"jm" + size32(code) + code
		}
		old := "h\x05w\x0are_patterna\x01a\x00a\x00mSIZEERCP"
		selfNowOld := old + compiled(selfNow)
		for before, now := range map[string]string{
			exported(string(self), 1):                                exported(selfNow, 0xff),
			exported(string(self), 1) + exported(string(self), 1):    exported(selfNow, 0xff) + exported(selfNow, 0xff),
			old + compiled(string(self)):                             selfNowOld,
			old + compiled(string(self)) + exported(string(self), 1): selfNowOld + exported(selfNow, 0xff),
			exported(string(self), 1) + old + compiled(string(self)): exported(selfNow, 0xff) + selfNowOld,
		} {
			for _, pad := range []int{0, 131000} { // at the border of what is searched at once
				pad := strings.Repeat("x", pad)
				dir, report := fixedTree(t, regular("a.beam", beam("LitT", "\x00\x00\x00\x00"+pad+before)),
					regular("b.beam", beam("LitT", size32(before)+zlibbed(pad+before))))
				Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
				Expect(readBack(t, dir, "a.beam")).To(Equal(beam("LitT", "\x00\x00\x00\x00"+pad+now)))
				packed := readBack(t, dir, "b.beam")
				Expect(unzlibbed(packed[24 : 20+binary.BigEndian.Uint32([]byte(packed[16:]))])).To(Equal(pad + now))
			}
		}
		for _, bad := range []string{
			compiled(string(self)), old + strings.TrimSuffix(compiled(string(self)), "\x1d/\x8b")[:2*43+2], old + compiled(string(self)[:43]),
			exported("x", 1) + compiled(string(self)),
		} {
			_, report := fixedTree(t, regular("bad.beam", beam("LitT", "\x00\x00\x00\x00"+bad)))
			Expect(report.Relocatable()).To(BeFalse(), "%q", bad)
			Expect(report.Blockers[0].Detail).To(ContainSubstring("in a compiled regular expression"))
		}
	})

	it("rewrites text in UTF-16 and UTF-32 that is whole", func() {
		for name, text := range map[string]func(string) string{
			"app.dll": func(s string) string { return "MZ" + utf16LE(s) }, "be": utf16BE, "sbcl.core": utf32BE,
			"le32": func(s string) string { return wide(s, 4) }, "w.gz": func(s string) string { return gzipped(utf16LE(s)) },
		} {
			dir, report := fixedTree(t, regular(name, text(script)))
			Expect(report.Relocatable()).To(BeTrue(), "%s: %v", name, report.Blockers)
			want, got := text(now), readBack(t, dir, name)
			if name == "w.gz" {
				want, got = gunzipped(want), gunzipped(got)
			}
			Expect(got).To(Equal(want), name)
			_, report = fixedTree(t, regular(name, text(self.HashPart())))
			Expect(report.Relocatable()).To(BeFalse(), name)
		}
	})

	it("rewrites SBCL's cores whose parts are compressed, on machines with pages of either size", func() {
		for name, page := range map[string]int{"amd64": 32 << 10, "arm64": 64 << 10} {
			for _, by := range []struct {
				pack func(string) string
				open func(io.Reader) io.Reader
			}{
				{zlibbed, func(r io.Reader) io.Reader { z, err := zlib.NewReader(r); Expect(err).NotTo(HaveOccurred()); return z }},
				{zstandard, func(r io.Reader) io.Reader { z, err := zstd.NewReader(r); Expect(err).NotTo(HaveOccurred()); return z }},
			} {
				pack, open := by.pack, by.open
				core := lispCore(page, pack(script), pack("nothing"))
				program := elf(strings.Repeat("\xcc", 3*page))
				trailer := string(binary.LittleEndian.AppendUint64(nil, uint64(len(program)))) + core[:8]
				dir, report := fixedTree(t, regular("a.core", core), regular("bin/app", program+core+trailer))
				Expect(report.Relocatable()).To(BeTrue(), "%s: %v", name, report.Blockers)
				now, behind := readBack(t, dir, "a.core"), readBack(t, dir, "bin/app")
				for _, got := range []string{now, strings.TrimSuffix(behind[len(program):], trailer)} {
					parts := lispParts(page, got)
					Expect(parts).To(HaveLen(2))
					for i, want := range []string{strings.ReplaceAll(script, string(self), selfNow), "nothing"} {
						text := make([]byte, len(want))
						_, err := io.ReadFull(open(strings.NewReader(parts[i])), text)
						Expect(err).NotTo(HaveOccurred(), name)
						Expect(string(text)).To(Equal(want), name)
					}
				}
			}
		}
	})

	it("puts right the signature and the checksums of a PHAR", func() {
		dir, report := fixedTree(t, regular("app.phar", phar("index.php", script)), regular("clean.phar", phar("a", "x")),
			regular("stub.phar", strings.Replace(phar("a", "x"), "phar://x", string(self), 1)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "app.phar")).To(Equal(phar("index.php", now)))
		Expect(readBack(t, dir, "clean.phar")).To(Equal(phar("a", "x")))
		stub := readBack(t, dir, "stub.phar")
		sum := sha512.Sum512([]byte(stub[:len(stub)-64-8]))
		Expect(stub[len(stub)-64-8 : len(stub)-8]).To(Equal(string(sum[:])))
	})

	it("finds a PHAR behind any program, and rewrites its metadata", func() {
		for _, stub := range []string{
			"<html>\n<?php Phar::mapPhar(); __HALT_COMPILER(); ?>\n", "\n\n<?PHP Phar::mapPhar(); __halt_compiler();", "__HALT_COMPILER();",
			"#!" + string(self) + "/bin/php\n<?php Phar::mapPhar(); __HALT_COMPILER(); ?>\r\n", "<?= 1; __HALT_COMPILER(); ?>\n",
			"<?php " + noise(200<<10) + "\n__HALT_COMPILER(); ?>\n",
		} {
			archive := func(path string) string {
				return pharWith(strings.ReplaceAll(stub, string(self), path), `a:1:{s:1:"p";s:51:"`+path+`";}`, "a.php", "exec "+path)
			}
			dir, report := fixedTree(t, regular("app.phar", archive(string(self))))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			Expect(readBack(t, dir, "app.phar") == archive(selfNow)).To(BeTrue(), stub[:min(len(stub), 80)])
		}
	})

	it("leaves a PHAR alone that a private key has signed, and says so", func() {
		signed := func(text string) string {
			s := phar("index.php", text)
			return s[:len(s)-64-8] + noise(256) + "\x00\x01\x00\x00\x10\x00\x00\x00GBMB" // by OpenSSL, and how long that is
		}
		stub := func(s string) string { return "#!" + string(self) + "/bin/php\n" + s } // which the signature covers, too
		dir, report := fixedTree(t, regular("app.phar", stub(signed(script))), regular("clean.phar", signed("nothing")))
		Expect(readBack(t, dir, "app.phar")).To(Equal(stub(signed(script))))
		Expect(report.Blockers).NotTo(BeEmpty())
		for _, b := range report.Blockers {
			Expect(b.File).To(Equal("app.phar"))
			Expect(b.Detail).To(ContainSubstring("private key"))
		}
	})

	it("looks into PHARs in containers, where nothing of what they hide is in plain sight", func() {
		hidden := phar("a.gz", gzipped(script))
		dir, report := fixedTree(t, regular("a.phar.gz", gzipped(hidden)), regular("b.jar", zipped(zip.Deflate, "a.phar", hidden)),
			regular("c.tar", tarred("a.phar", hidden, "")), regular("clean.gz", gzipped(phar("a.gz", gzipped("x")))),
			regular("source.gz", gzipped("<?php // __HALT_COMPILER(); is said here\n")))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(report.Fixed).To(HaveLen(3))
		for name, got := range map[string]string{"gz": gunzipped(readBack(t, dir, "a.phar.gz")), "jar": unzipped(readBack(t, dir, "b.jar"))["a.phar"]} {
			at := strings.Index(got, "\x1f\x8b")
			Expect(at).To(BeNumerically(">", 0), name)
			r, err := gzip.NewReader(strings.NewReader(got[at:]))
			Expect(err).NotTo(HaveOccurred())
			r.Multistream(false)
			Expect(unpacked(r, nil)).To(Equal(now), name)
			sum := sha512.Sum512([]byte(got[:len(got)-64-8]))
			Expect(got[len(got)-64-8:len(got)-8]).To(Equal(string(sum[:])), name)
		}
	})

	it("puts right the signature of a PHAR that is a tar archive, and leaves archives with other hashes alone", func() {
		member := func(name, text string) string {
			return strings.TrimSuffix(tarred(name, text, ""), strings.Repeat("\x00", 1024))
		}
		signed := func(text string, kind uint32) string {
			s := member("place.php", text)
			sum := sha512.Sum512([]byte(s))
			return s + tarred(".phar/signature.bin", string(binary.LittleEndian.AppendUint32(nil, kind))+"\x40\x00\x00\x00"+string(sum[:]), "")
		}
		dir, report := fixedTree(t, regular("app.phar.tar", signed(script, 4)), regular("app.phar.tar.gz", gzipped(signed(script, 4))))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "app.phar.tar")).To(Equal(signed(now, 4)))
		Expect(readBack(t, dir, "app.phar.tar.gz")).NotTo(Equal(gzipped(signed(script, 4))))
		for name, contents := range map[string]string{
			"private.phar.tar": signed(script, 0x10),
			"app.phar.zip":     zippedMembers("place.php", script, ".phar/signature.bin", "x"),
			"image.tar":        member("etc/x", script) + tarred("manifest.json", "[]", ""),
			"a-1.0.gem":        member("data.tar.gz", gzipped(tarred("lib/a.rb", script, ""))) + tarred("checksums.yaml.gz", gzipped("---\n"), ""),
			"oci.tar.gz":       gzipped(member("oci-layout", "{}") + tarred("etc/x", script, "")),
		} {
			dir, report := fixedTree(t, regular(name, contents))
			Expect(report.Relocatable()).To(BeFalse(), name)
			Expect(readBack(t, dir, name)).To(Equal(contents), name)
		}
	})

	it("rewrites the members of ar archives, Debian packages and static libraries, and finds nothing in them where there is nothing", func() {
		member := func(name, text string) string {
			return strings.TrimPrefix(arred(name, text)+strings.Repeat("\n", len(text)&1), "!<arch>\n")
		}
		long := strings.Repeat(noise(301), 20) + script
		core, hidden := lispCore(32<<10, zlibbed("nothing")), phar("a", "x")
		dir, report := fixedTree(t,
			regular("broken.a", arred("x.o/", string(dep))+"x"), regular("clean.a", "!<arch>\n"+member("a.phar/", hidden)+member("a.core/", core)),
			regular("lib.a", arred("/", "index of  ")+member("x.o/", elf(string(dep)))+member("y.phar/", phar("a", script))),
			regular("moved.a", arred("/", "index of  ")+member("x.gz/", gzipped(long))),
			regular("x.deb", arred("debian-binary/", "2.0\n")+member("data.tar.gz/", gzipped(tarred("etc/x", long, "")))+member("z/", string(dep))))
		Expect(report.Blockers).To(ConsistOf(HaveField("File", "moved.a")))
		Expect(readBack(t, dir, "broken.a")).To(HaveSuffix(depNow + "x"))
		Expect(readBack(t, dir, "lib.a")).To(ContainSubstring(elf(depNow)))
		Expect(readBack(t, dir, "lib.a")).To(ContainSubstring(phar("a", now)))
		got := readBack(t, dir, "x.deb")
		Expect(got).To(HavePrefix(arred("debian-binary/", "2.0\n")))
		Expect(got).To(HaveSuffix(member("z/", depNow)))
		data := strings.TrimPrefix(got, arred("debian-binary/", "2.0\n"))
		size, err := strconv.Atoi(strings.TrimSpace(data[48:58]))
		Expect(err).NotTo(HaveOccurred())
		Expect(gunzipped(data[60 : 60+size])).To(Equal(tarred("etc/x", strings.ReplaceAll(long, string(self), selfNow), "")))
		Expect(data[60+size+size&1:]).To(Equal(member("z/", depNow)))
	})

	it("puts right the checksums of PNG chunks and of tar headers", func() {
		chunk := func(text string) string {
			c := "tEXt" + text
			return size32(text) + c + string(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(c))))
		}
		picture := func(text string) string {
			return "\x89PNG\r\n\x1a\n" + chunk("x") + chunk("Comment\x00"+text) + chunk("")
		}
		dir, report := fixedTree(t, regular("a.png", picture(script)), regular("link.tar", tarred("x", "", string(self)+"/bin")),
			regular("p.tar", tarred("a.png", picture(script), "")), regular("plain.tar", tarred("etc/x", script, "")),
			regular("z.tar", tarred("etc/x.gz", gzipped(script), "")))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "a.png")).To(Equal(picture(now)))
		Expect(readBack(t, dir, "link.tar")).To(Equal(tarred("x", "", selfNow+"/bin")))
		old := func(s string) string { // before POSIX
			header := []byte(s[:512])
			clear(header[257:])
			copy(header[148:], "        ")
			sum := 0
			for _, c := range header {
				sum += int(c)
			}
			copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
			return string(header) + s[512:]
		}
		dir7, report := fixedTree(t, regular("link.tar", old(tarred("x", "", string(self)+"/bin"))), regular("z.tar", old(tarred("x.gz", gzipped(script), ""))))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir7, "link.tar")).To(Equal(old(tarred("x", "", selfNow+"/bin"))))
		Expect(report.Fixed).To(Equal(map[string]int{"tar": 2}))
		Expect(readBack(t, dir, "p.tar")).To(Equal(tarred("a.png", picture(now), "")))
		Expect(readBack(t, dir, "plain.tar")).To(Equal(tarred("etc/x", now, "")))
		Expect(readBack(t, dir, "z.tar")).To(ContainSubstring("x.gz"))
	})

	it("rewrites JSON with backslashes before slashes, and nothing that only looks like it", func() {
		slashes := strings.NewReplacer("/", `\/`)
		text := `{"a":"` + slashes.Replace(string(self)+"/bin/x") + `","b":["` + slashes.Replace(string(dep)) + `"],"c":"` + string(dep) + `"}`
		parsed := func(text string) (v map[string]any) {
			Expect(json.Unmarshal([]byte(text), &v)).To(Succeed(), text)
			return v
		}
		want := parsed(strings.NewReplacer(slashes.Replace(string(self)), selfNow, slashes.Replace(string(dep)), depNow, string(dep), depNow).Replace(text))
		dir, report := fixedTree(t, regular("a.json", text), regular("b.json.gz", gzipped(text)), regular("c.jar", zipped(zip.Deflate, "c.json", text)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(parsed(readBack(t, dir, "a.json"))).To(Equal(want))
		Expect(readBack(t, dir, "a.json")).To(HaveLen(len(text)))
		Expect(parsed(gunzipped(readBack(t, dir, "b.json.gz")))).To(Equal(want))
		Expect(parsed(unzipped(readBack(t, dir, "c.jar"))["c.json"])).To(Equal(want))
		for name, text := range map[string]string{"x.sed": text, "a.json": "%2Fnix%2Fstore%2F" + self.HashPart(), "b.json": self.HashPart()} {
			_, report := fixedTree(t, regular(name, text))
			Expect(report.Relocatable()).To(BeFalse(), name)
		}
		_, report = fixedTree(t, symlink("link.json", "a"+slashes.Replace(string(dep))+"/b"))
		Expect(report.Fixups).To(BeEmpty(), "one of a symlink is all of its target")
		Expect(report.Relocatable()).To(BeFalse())
	})

	it("rewrites slashes that are numbers in JSON, scripts and pages", func() {
		for name, slash := range map[string]string{"a.json": `\u002f`, "a.js": `\u002F`, "a.html": "&#x2F;", "b.html": "&#x2f;", "a.xml": "&#47;"} {
			all := func(s string) string { return strings.ReplaceAll(s, "/", slash) }
			text := all(string(self)+"/bin/x ") + string(dep)
			dir, report := fixedTree(t, regular(name, text), regular(name+".gz", gzipped(text)))
			Expect(report.Relocatable()).To(BeTrue(), "%s: %v", name, report.Blockers)
			for _, got := range []string{readBack(t, dir, name), gunzipped(readBack(t, dir, name+".gz"))} {
				Expect(got).To(HaveLen(len(text)))
				Expect(strings.ReplaceAll(got, slash, "/")).To(Equal(selfNow + "/bin/x " + depNow))
			}
			_, report = fixedTree(t, regular(name, strings.Replace(text, slash+"store", "/store", 1)))
			Expect(report.Relocatable()).To(BeFalse(), name)
		}
	})

	it("leaves names alone that were made of a store path, as webpack calls the parts of an app", func() {
		name := "nix_store_" + strings.ReplaceAll(self.Base(), ".", "_") + "_lib_index_js"
		text := `const parts = ["` + name + `"], at = "` + string(self) + `"`
		dir, report := fixedTree(t, regular("dist/"+name+".js", text), regular("dist/z.js.gz", gzipped(text)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		want := strings.ReplaceAll(text, string(self), selfNow)
		Expect(readBack(t, dir, "dist/"+name+".js")).To(Equal(want))
		Expect(gunzipped(readBack(t, dir, "dist/z.js.gz"))).To(Equal(want))
	})

	it("leaves paths alone that were shortened to be read", func() {
		text := "x \x00" + string(self) + "/main.rkt\x00.../" + self.Base() + "/main.rkt:3:0\x00[..." + string(self)[37:] + "/main.rkt:4:0\x00"
		dir, report := fixedTree(t, regular("app", elf(text)), regular("text", text), regular("z.gz", gzipped(text)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		want := strings.Replace(text, string(self), selfNow, 1)
		Expect(readBack(t, dir, "app")).To(Equal(elf(want)))
		Expect(readBack(t, dir, "text")).To(Equal(want))
		Expect(gunzipped(readBack(t, dir, "z.gz"))).To(Equal(want))
	})

	it("leaves a file's name that is one of the store, and what names it below its own store path", func() {
		name := dep.Base() + ".conf"
		copied := func() []file { return []file{regular("etc/"+name, "x"), regular("etc/d/"+name+"/y", string(dep))} }
		for _, text := range []string{
			"exec x -c " + string(self) + "/etc/" + name + " -d '" + string(self) + "/etc/d/" + name + "/y'\n",
			elf("\x00" + string(self) + "/etc/" + name + "\x00" + string(self) + "/lib/../etc/d/" + name + "\x00"),
			strings.Repeat("\x00", 132<<10-140) + string(self) + "/etc/" + name + "\n" + string(self) + "/etc/d/" + name + "\n",
		} {
			dir, report := fixedTree(t, append([]file{regular("bin/x", text)}, copied()...)...)
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			Expect(readBack(t, dir, "bin/x")).To(Equal(strings.ReplaceAll(text, string(self), selfNow)))
		}
		dir, report := fixedTree(t, append(copied()[:1], symlink("share/a", "../etc/"+name), symlink("share/b", string(self)+"/etc/"+name))...)
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(os.Readlink(filepath.Join(dir, "share/b"))).To(Equal(selfNow + "/etc/" + name))
		Expect(readBack(t, dir, "share/a")).To(Equal("x"))
		// What is put together as it runs finds no file that has the name of before.
		for _, text := range []string{string(self) + "/etc/", string(self) + "/etc " + name, string(self) + "/lib/" + name, string(dep) + "/etc/" + name} {
			_, report := fixedTree(t, append([]file{regular("bin/x", text)}, copied()[:1]...)...)
			Expect(report.Blockers).To(ContainElement(And(HaveField("File", "etc/"+name), HaveField("Kind", relocate.BareHash))), text)
		}
	})

	it("leaves a path that is relative to its own place as it is", func() {
		for _, text := range []string{`{"sources":["../../../../..` + string(self) + `/src/a.ts"]}`, "// ../.." + string(dep) + "/x\n"} {
			dir, report := fixedTree(t, regular("app.js.map", text), regular("b.gz", gzipped(text)))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			Expect(readBack(t, dir, "app.js.map")).To(Equal(text))
			Expect(gunzipped(readBack(t, dir, "b.gz"))).To(Equal(text))
		}
		_, report := fixedTree(t, regular("x.map", "a.."+string(self)+"/x"))
		Expect(report.References).To(Equal(1))
		_, report = fixedTree(t, regular("x.so", elf("\x00$ORIGIN/../../../.."+string(self)+"/lib\x00")))
		Expect(report.Relocatable()).To(BeFalse())
	})

	it("rewrites what stands in a program behind a text of dots and slashes", func() {
		wasm := func(text string) string { return "\x00asm\x01\x00\x00\x00" + text }
		for _, before := range []string{"\xc0\x00../..", "bin/git..", "share../..", "\x00../", "\x00./../.."} {
			text := before + string(self) + "/share/n.." + string(dep) + "/bin"
			want := strings.NewReplacer(string(self), selfNow, string(dep), depNow).Replace(text)
			for name, format := range map[string]func(string) string{
				"x.so": elf, "x.wasm": wasm, "x.gz": func(s string) string { return gzipped(elf(s)) },
				"x.beam": func(s string) string { return beam("StrT", s) },
			} {
				dir, report := fixedTree(t, regular(name, format(text)))
				Expect(report.Relocatable()).To(BeTrue(), "%s: %v", name, report.Blockers)
				now := readBack(t, dir, name)
				if name == "x.gz" {
					now = gunzipped(now)
				}
				Expect(now).To(ContainSubstring(want), "%s: %q", name, before)
			}
		}
		for _, before := range []string{"\x00$ORIGIN/..", "lib/../..", strings.Repeat("../", 30) + ".."} {
			for name, format := range map[string]func(string) string{"x.so": elf, "x.wasm": wasm} {
				_, report := fixedTree(t, regular(name, format(before+string(self))))
				Expect(report.Blockers).To(ConsistOf(And(HaveField("Kind", relocate.RelativePath), HaveField("Harmless", ""))), before)
			}
		}
	})

	context("SQLite", func() {
		database := func(statements string) string {
			program, err := exec.LookPath("sqlite3")
			if err != nil {
				untested.Skip(t, "there is no sqlite3 here")
			}
			name := filepath.Join(t.TempDir(), "a.db")
			out, err := exec.Command(program, name, statements).CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), string(out))
			b, err := os.ReadFile(name)
			Expect(err).NotTo(HaveOccurred())
			return string(b)
		}
		ask := func(dir, statement string) string {
			out, err := exec.Command("sqlite3", filepath.Join(dir, "a.db"), statement).CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), string(out))
			return strings.TrimSpace(string(out))
		}
		it("rewrites a database whose indexes stay sorted", func() {
			dir, report := fixedTree(t, regular("a.db", database(
				"create table t(p text primary key, n int); create index i on t(n, p);"+
					"insert into t values('"+string(self)+"/a',1),('"+string(dep)+"/b',1),('"+string(self)+"/c',2),('/zzz',3),('/a',1);")))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			Expect(ask(dir, "pragma integrity_check")).To(Equal("ok"))
			Expect(ask(dir, "select n from t where p = '"+selfNow+"/c'")).To(Equal("2"))
		})
		it("refuses one whose index would be out of order", func() {
			for _, neighbour := range []string{"/lib/x", "/mnt/x"} {
				_, report := fixedTree(t, regular("a.db", database("create table t(p text primary key);"+
					"insert into t values('"+string(self)+"/a'),('"+neighbour+"');")))
				Expect(report.Relocatable()).To(BeFalse(), neighbour)
				Expect(report.Blockers[0].Detail).To(ContainSubstring("sorted"))
			}
		})
		it("refuses one whose index would be out of order behind what its collation takes for equal", func() {
			for statements, ok := range map[string]bool{
				"create table t(n text collate nocase, p text, unique(n, p)); insert into t values('App','SELF'),('app','/lib/x');":                         false,
				"create table t(n text collate nocase, p text, primary key(n, p)) without rowid; insert into t values('b','SELF'),('B','/m');":              false,
				"create table t(n text, p text); create index i on t(n collate rtrim, p); insert into t values('a','SELF'),('a ','/lib/x');":                false,
				"pragma encoding='UTF-16le'; create table t(n text collate [NoCase], p text, unique(n, p)); insert into t values('a','SELF'),('A','/lib');": false,
				"create table t(n, p text); create index i on t(n, p); insert into t values(1,'SELF'),(1.0,'/lib/x');":                                      false,
				"create table t(n text collate nocase, p text, unique(n, p)); insert into t values('App','SELF'),('app','DEP'),('x','/lib');":               true,
				"create table t(n text, p text); create index i on t(n, p); insert into t values('App','SELF'),('app','/lib/x');":                           true,
				"create table t(n, p text); create index i on t(n, p); insert into t values(1,'SELF'),(500,'/lib/x'),(null,'/lib/y');":                      true,
				"create table t(p text primary key); insert into t values('SELF'),('/Library/x');":                                                          true,
				"create table t(n text collate rtrim, p text); create index i on t(p); insert into t values('a','SELF'),('b','/Library/x');":                true,
				"create table t(n text collate nocase, p text, unique(n, p)); insert into t values('\u00c9a','SELF'),('\u00e9a','/lib/x');":                 true,
			} {
				statements = strings.NewReplacer("SELF", string(self), "DEP", string(dep)).Replace(statements)
				dir, report := fixedTree(t, regular("a.db", database(statements)))
				Expect(report.Relocatable()).To(Equal(ok), "%s: %v", statements, report.Blockers)
				if ok {
					Expect(ask(dir, "pragma integrity_check")).To(Equal("ok"), statements)
				}
			}
		})
		it("rewrites references that go over from one page to another", func() {
			for _, encoding := range []string{"UTF-8", "UTF-16le", "UTF-16be"} {
				statements := "pragma page_size=512; pragma encoding='" + encoding + "'; create table t(p text, n int); create index i on t(p);"
				for n := range 40 {
					statements += "insert into t values('" + strings.Repeat(string(self)+"/x "+strings.Repeat("y", n), 40) + "'," + strconv.Itoa(n) + ");"
				}
				dir, report := fixedTree(t, regular("a.db", database(statements+"delete from t where n % 5 = 4;")))
				Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
				Expect(report.Fixups).NotTo(BeEmpty())
				Expect(ask(dir, "pragma integrity_check")).To(Equal("ok"))
				Expect(ask(dir, "select count(*) from t where replace(p, '"+selfNow+"', '') not like '%/nix/%'")).To(Equal("32"))
				Expect(ask(dir, "select n from t where p = '"+strings.Repeat(selfNow+"/x yyy", 40)+"'")).To(Equal("3"))
			}
		})
		it("refuses one with a hash alone", func() {
			for _, p := range []string{self.HashPart(), strings.Repeat("x", 5000) + self.HashPart() + strings.Repeat("x", 5000)} {
				_, report := fixedTree(t, regular("a.db", database("create table t(p text); insert into t values('"+p+"');")))
				Expect(report.Relocatable()).To(BeFalse())
			}
		})
		it("refuses one with what is made of a text that has a reference, and knows what is not", func() {
			for statements, ok := range map[string]bool{
				"create virtual table t using fts5(p); insert into t values('SELF/a');":                                                                                                false,
				"create virtual table t using fts4(p); insert into t values('SELF/a');":                                                                                                false,
				"create table s(id integer primary key, p text); create virtual table t using fts5(p, content='s'); insert into s values(1,'SELF/a');":                                 false,
				"create table \"my s\"(id integer primary key, p text); create virtual table t using fts5(p, content='my s'); insert into \"my s\" values(1,'SELF/a');":                false,
				"create table s(id integer primary key, p text); create view v as select * from s; create virtual table t using fts5(p, content=v); insert into s values(1,'SELF/a');": false,
				"create table \"my s\"(id integer primary key, p text); create virtual table t using fts5(p, content='my s'); create table u(p text); insert into u values('SELF/a');": true,
				"create table s(p text); create virtual table t using fts5(p, content=''); insert into s values('SELF/a');":                                                            true,
				"create table s(p text); create index i on s(substr(p, 1, 9)); insert into s values('SELF/a');":                                                                        false,
				"create table s(p text); create index i on s(length(p), lower(p)); insert into s values('SELF/a');":                                                                    true,
				"create table s(p text); create index i on s(json_extract(p, '$.a')); insert into s values('{\"a\":\"SELF/a\"}');":                                                     true,
				"create table s(p text); create index i on s(p ->> '$.a'); insert into s values('{\"a\":\"SELF/a\"}');":                                                                true,
				"create table s(p text, n int); create index i on s(n) where p like '/nix/%'; insert into s values('SELF/a', 1);":                                                      false,
				"create table s(p text, n int); create index i on s(n) where p > '/m'; insert into s values('SELF/a', 1);":                                                             false,
				"create table s(p text, n int); create index i on s(p) where n > 0 and p <> 'x'; insert into s values('SELF/a', 1);":                                                   true,
				"create table s(p text, g text as (substr(p, 1, 9))); create index i on s(g); insert into s values('SELF/a');":                                                         false,
				"create table s(p text, g text generated always as ((p || '/b')) stored); create index i on s(g); insert into s(p) values('SELF/a');":                                  true,
				"create table s(p text); create virtual table t using fts5(p); insert into s values('SELF/a'); insert into t values('a word');":                                        true,
				"create virtual table t using fts5(body, p unindexed); insert into t values('a word', 'SELF/a');":                                                                      true,
				"create virtual table t using FTS5(p UNINDEXED, tokenize=porter, body); insert into t values('SELF/a', 'a word');":                                                     true,
				"create virtual table t using fts5(p unindexed, body); insert into t values('SELF/a', 'a word of SELF/b');":                                                            false,
				"create virtual table t using fts5(body, p unindexed); insert into t values('SELF/a', 'a word');":                                                                      false,
				"create virtual table t using fts5(body, \"p unindexed\"); insert into t values('a word', 'SELF/a');":                                                                  false,
				"create table s(p text); create virtual table t using rtree(id, a, b); insert into s values('SELF/a');":                                                                true,
				"create table s(p text, n text); create index i on s(n); insert into s values('SELF/a', 'x');":                                                                         true,
				"create table s(p text primary key, n) without rowid; create index i on s(n, p); insert into s values('SELF/a', 1), ('DEP/a', 1);":                                     true,
			} {
				statements = strings.NewReplacer("SELF", string(self), "DEP", string(dep)).Replace(statements)
				dir, report := fixedTree(t, regular("a.db", database(statements)))
				Expect(report.Relocatable()).To(Equal(ok), "%s: %v", statements, report.Blockers)
				if ok {
					Expect(ask(dir, "pragma integrity_check")).To(Equal("ok"))
				}
			}
		})
		it("leaves one without references alone", func() {
			_, report := fixedTree(t, regular("a.db", database("create table t(p text primary key); insert into t values('/lib');")))
			Expect(report.Relocatable()).To(BeTrue())
			Expect(report.Fixups).To(BeEmpty())
		})
	})
}

func adler(s string) uint32 {
	a, b := uint32(0), uint32(0)
	for i := range len(s) {
		a = (a + uint32(s[i])) % 65521
		b = (b + a) % 65521
	}
	return b<<16 | a
}

func fletcher(s string) uint32 {
	a, b := uint32(0), uint32(0)
	for i := range len(s) {
		a = (a + uint32(s[i])) % 65535
		b = (b + a) % 65535
	}
	return b<<16 | a
}

// snapshotWith is snapshot(text) with its checksum.
func snapshotWith(sum func(string) uint32, text string) string {
	blob := strings.TrimRight(snapshot(text), "\x00")
	return blob[:8] + string(binary.LittleEndian.AppendUint32(nil, sum(blob[12:]))) + blob[12:]
}

// inspected is what an inspection says of files, written piecemeal.
func inspected(t testing.TB, files ...file) relocate.Report {
	t.Helper()
	i := view(t).Inspect(self, []storepath.Path{dep}, t.TempDir())
	defer i.Discard()
	send(t, i, archive(files...), func() int { return 70_001 })
	return i.Report()
}
