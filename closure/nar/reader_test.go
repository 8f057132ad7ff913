package nar_test

import (
	"errors"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

// opened begins a directory.
func opened() string { return words("(", "type", "directory") }

// malformed is what a Reader refuses.
var malformed = map[string]struct{ text, problem string }{
	"nothing":                 {"", "not a Nix archive"},
	"an HTML page":            {"<!DOCTYPE html><html><body>Please log in</body></html>", "not a Nix archive"},
	"another magic":           {words("nix-archive-2") + file(""), `found "nix-archive-2"`},
	"magic only":              {words(magic), "unexpected EOF"},
	"a long word":             {words(magic) + length(14), "14 bytes, want at most 13"},
	"an unknown type":         {archive(words("(", "type", "socket", ")")), `found "socket"`},
	"no type":                 {archive(words("(", "kind", "regular")), `found "kind", want "type"`},
	"no parenthesis":          {archive(words("[", "type")), `found "[", want "("`},
	"a file without contents": {archive(words("(", "type", "regular", ")")), `found ")", want "contents"`},
	"a directory with contents": {archive(opened() + words("contents",
		"x", ")")), `found "contents", want "entry" or ")"`},
	"a marker with a value": {archive(words("(", "type", "regular", "executable", "1")), "executable marker"},
	"a marker twice": {archive(words("(", "type", "regular", "executable", "", "executable", "")),
		`found "executable", want "contents"`},
	"a symlink without target": {archive(words("(", "type", "symlink", ")")), `want "target"`},
	"an empty target":          {archive(link("")), "symlink target is empty"},
	"a target with a NUL":      {archive(link("a\x00b")), "NUL"},
	"a target too long":        {archive(link(strings.Repeat("t", 4096))), "4096 bytes, want at most 4095"},
	"an empty name":            {archive(dir(entry("", file("")))), "name is empty"},
	"the name .":               {archive(dir(entry(".", file("")))), `name may not be "."`},
	"the name ..":              {archive(dir(entry("..", file("")))), `name may not be ".."`},
	"a name with a slash":      {archive(dir(entry("a/b", file("")))), `has the character '/'`},
	"an absolute name":         {archive(dir(entry("/etc", file("")))), `has the character '/'`},
	"a name with a NUL":        {archive(dir(entry("a\x00", file("")))), `has the character '\x00'`},
	"a name too long": {archive(dir(entry(strings.Repeat("n", 256), file("")))),
		"256 bytes, want at most 255"},
	"a name twice":       {archive(dir(entry("a", file("")), entry("a", file("")))), "strictly increasing"},
	"names out of order": {archive(dir(entry("b", file("")), entry("a", file("")))), "strictly increasing"},
	"symlink then directory": {archive(dir(entry("x", link("/tmp")), entry("x", dir(entry("f", file("")))))),
		"strictly"},
	"order lost after depth": {archive(dir(entry("b", dir(entry("z", file("")))), entry("a", file("")))),
		"strictly"},
	"too many directories":    {nested(nar.MaxDepth + 1), "more than 1024 directories"},
	"an entry without node":   {archive(opened() + words("entry", "(", "name", "a", ")")), `want "node"`},
	"an entry without name":   {archive(opened() + words("entry", "(", "node")), `want "name"`},
	"bytes after the archive": {archive(file("")) + "\x00", "bytes follow the archive"},
	"an archive after it":     {archive(file("")) + archive(file("")), "bytes follow the archive"},
	"a node after the root":   {archive(file("")) + words(")"), "bytes follow the archive"},
	"padding in a word":       {length(13) + magic + "\x00\x00\x01" + file(""), "padding is not zero"},
	"padding in contents":     {strings.Replace(archive(file("abc")), "abc\x00", "abcd", 1), "padding is not zero"},
	"padding in a name": {strings.Replace(archive(dir(entry("abc", file("")))),
		"abc\x00", "abcd", 1), "not zero"},
	"a word of absurd length":    {length(math.MaxUint64), "string of 18446744073709551615 bytes"},
	"a name of absurd length":    {archive(opened() + words("entry", "(", "name") + length(1<<62)), "at most 255"},
	"a size beyond 63 bits":      {archive(words("(", "type", "regular", "contents") + length(1<<63)), "out of range"},
	"a size with nothing behind": {archive(words("(", "type", "regular", "contents") + length(1<<62)), "unexpected EOF"},
}

func testReader(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("gives the entries in order, depth first", func() {
		lines, err := read(archive(dir(
			entry("bin", dir(
				entry("sh", words("(", "type", "regular", "executable", "", "contents", "ELF", ")")),
				entry("zsh", link("sh")),
			)),
			entry("empty", dir()),
			entry("z", file("")),
		)))
		Expect(err).NotTo(HaveOccurred())
		Expect(lines).To(Equal([]string{
			`directory ""`, `directory "bin"`, `regular "bin/sh" 3 executable`, `"ELF"`,
			`symlink "bin/zsh" -> "sh"`, `directory "empty"`, `regular "z" 0`, `end`,
		}))
	})

	it("reads a root that is a file or a symlink", func() {
		lines, err := read(archive(file("hello")))
		Expect(err).NotTo(HaveOccurred())
		Expect(lines).To(Equal([]string{`regular "" 5`, `"hello"`, "end"}))
		lines, err = read(archive(link("/etc")))
		Expect(err).NotTo(HaveOccurred())
		Expect(lines).To(Equal([]string{`symlink "" -> "/etc"`, "end"}))
	})

	it("gives back what it read, however the bytes arrive", func() {
		for name, src := range map[string]io.Reader{
			"at once":         strings.NewReader(all()),
			"byte by byte":    dribble{strings.NewReader(all())},
			"with late error": iotest.DataErrReader(strings.NewReader(all())),
		} {
			var b strings.Builder
			Expect(nar.Copy(nar.NewWriter(&b), nar.NewReader(src), nil)).To(Succeed(), name)
			Expect(b.String() == all()).To(BeTrue(), name)
		}
	})

	it("starts no goroutine", func() {
		before := runtime.NumGoroutine()
		r := nar.NewReader(strings.NewReader(all()))
		for {
			_, err := r.Next()
			Expect(runtime.NumGoroutine()).To(BeNumerically("<=", before))
			if err == io.EOF {
				break
			}
			Expect(err).NotTo(HaveOccurred())
		}
	})

	it("reads through a buffer that was borrowed, and through its own where that is too short", func() {
		for size, want := range map[int]int{8191: 128 << 10, 8192: 8192} {
			var b strings.Builder
			src := &asked{Reader: strings.NewReader(all())}
			Expect(nar.Copy(nar.NewWriter(&b), nar.NewReader(src), make([]byte, size))).To(Succeed())
			Expect(b.String() == all()).To(BeTrue())
			Expect(src.most).To(Equal(want))
		}
	})

	it("reads contents in pieces of any size, and skips what is not read", func() {
		text := archive(dir(entry("a", file("0123456789")), entry("b", file("skipped")), entry("c", file("x"))))
		r := nar.NewReader(strings.NewReader(text))
		for _, want := range []string{"", "0123456789", "", "x"} {
			e, err := r.Next()
			Expect(err).NotTo(HaveOccurred())
			if want == "" {
				continue
			}
			Expect(e.Size).To(BeEquivalentTo(len(want)))
			got, err := io.ReadAll(iotest.OneByteReader(r))
			Expect(err).NotTo(HaveOccurred())
			Expect(string(got)).To(Equal(want))
		}
		for range 2 {
			_, err := r.Next()
			Expect(err).To(Equal(io.EOF))
			n, err := r.WriteTo(io.Discard)
			Expect(err).NotTo(HaveOccurred())
			Expect(n).To(BeZero())
		}
	})

	it("reads a large file straight into a large slice", func() {
		contents := strings.Repeat("abcdefgh", 1<<17)
		r := nar.NewReader(strings.NewReader(archive(file(contents))))
		_, err := r.Next()
		Expect(err).NotTo(HaveOccurred())
		got := make([]byte, len(contents))
		_, err = io.ReadFull(r, got)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(got) == contents).To(BeTrue())
		_, err = r.Next()
		Expect(err).To(Equal(io.EOF))
	})

	it("takes directories as deep as the limit", func() {
		_, err := read(nested(nar.MaxDepth))
		Expect(err).NotTo(HaveOccurred())
	})

	it("takes a path as long as the limit", func() {
		node := file("")
		for range 16 { // with 15 slashes between them, 4095 bytes
			node = dir(entry(strings.Repeat("d", 255), node))
		}
		_, err := read(archive(node))
		Expect(err).NotTo(HaveOccurred())
		_, err = read(archive(dir(entry("d", node))))
		Expect(err).To(MatchError(ContainSubstring("longer than 4095 bytes")))
	})

	for _, name := range names(malformed) {
		bad := malformed[name]
		it("refuses "+name, func() {
			_, err := read(bad.text)
			Expect(err).To(MatchError(ContainSubstring(bad.problem)))
			Expect(err).To(MatchError(HavePrefix("nar: ")))
			Expect(errors.Is(err, io.EOF)).To(BeFalse())
		})
	}

	it("refuses an archive cut short at any byte", func() {
		text := archive(dir(
			entry("a", words("(", "type", "regular", "executable", "", "contents", "abc", ")")),
			entry("b", link("a")), entry("c", dir()),
		))
		for n := range len(text) {
			_, err := read(text[:n])
			Expect(errors.Is(err, io.ErrUnexpectedEOF)).To(BeTrue(), "cut at %d: %v", n, err)
		}
	})

	it("says at which entry, and says it for ever", func() {
		r := nar.NewReader(strings.NewReader(archive(dir(entry("a", dir(entry("b", link(""))))))))
		var err error
		for err == nil {
			_, err = r.Next()
		}
		Expect(err).To(MatchError(`nar: entry "a/b": symlink target is empty`))
		var where *nar.Error
		Expect(errors.As(err, &where)).To(BeTrue())
		Expect(where.Path).To(Equal("a/b"))
		_, again := r.Next()
		Expect(again).To(Equal(err))
		_, again = r.Read(make([]byte, 1))
		Expect(again).To(Equal(err))
	})

	it("passes on what is wrong with the source, also at its end", func() {
		broken := errors.New("connection reset")
		text := archive(dir(entry("a", file("0123456789"))))
		for _, n := range []int{0, 10, 200, len(text)} {
			src := io.MultiReader(strings.NewReader(text[:n]), iotest.ErrReader(broken))
			err := nar.Copy(&events{}, nar.NewReader(src), nil)
			Expect(err).To(Equal(broken), "after %d bytes", n)
		}
	})

	it("gives up on a source that gives nothing a hundred times", func() {
		patient := func(empty int) io.Reader {
			rest := strings.NewReader(archive(file("")))
			return readerFunc(func(p []byte) (int, error) {
				if empty--; empty >= 0 {
					return 0, nil
				}
				return rest.Read(p)
			})
		}
		Expect(nar.Copy(&events{}, nar.NewReader(patient(99)), nil)).To(Succeed())
		Expect(nar.Copy(&events{}, nar.NewReader(patient(100)), nil)).To(MatchError(io.ErrNoProgress))
	})

	it("allocates nothing by a declared size", func() {
		text := archive(words("(", "type", "regular", "contents")+length(1<<62)) + "abc"
		allocated := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = read(text)
			}
		}).AllocedBytesPerOp()
		Expect(allocated).To(BeNumerically("<", 300_000))
	})
}

// asked notes how much was asked for at once.
type asked struct {
	io.Reader
	most int
}

func (a *asked) Read(p []byte) (int, error) {
	a.most = max(a.most, len(p))
	return a.Reader.Read(p)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
