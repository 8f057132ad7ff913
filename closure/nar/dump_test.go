package nar_test

import (
	"bytes"
	gocontext "context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

func sorted(entries []string) []string {
	slices.SortFunc(entries, func(a, b string) int {
		name := func(e string) string { return e[len(words("entry", "(", "name"))+8:] }
		return strings.Compare(name(a), name(b))
	})
	return entries
}

func testDump(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("sorts names by their bytes and takes the owner's execute bit alone", func() {
		temp := tempDir(t)
		for name, mode := range map[string]os.FileMode{"b": 0o644, "B": 0o711, "a": 0o655, "é": 0o500, "a-": 0o600} {
			path := filepath.Join(temp, name)
			Expect(os.WriteFile(path, []byte(name), 0o600)).To(Succeed())
			Expect(os.Chmod(path, mode)).To(Succeed())
		}
		run := func(contents string) string {
			return words("(", "type", "regular", "executable", "", "contents", contents, ")")
		}
		Expect(dump(t, temp)).To(Equal(archive(dir(
			entry("B", run("B")), entry("a", file("a")), entry("a-", file("a-")), entry("b", file("b")),
			entry("é", run("é")),
		))))
	})

	it("does not follow a symlink, at the root either", func() {
		temp := tempDir(t)
		Expect(os.Symlink("/etc", filepath.Join(temp, "link"))).To(Succeed())
		Expect(dump(t, filepath.Join(temp, "link"))).To(Equal(archive(link("/etc"))))
	})

	it("refuses what no archive holds, by name", func() {
		temp := tempDir(t)
		Expect(unix.Mkfifo(filepath.Join(temp, "pipe"), 0o644)).To(Succeed())
		Expect(nar.Dump(t.Context(), io.Discard, temp)).
			To(MatchError(`nar: entry "pipe": a named pipe cannot be archived`))
		socket := filepath.Join(tempDir(t), "s")
		listener, err := net.Listen("unix", socket)
		Expect(err).NotTo(HaveOccurred())
		defer listener.Close()
		Expect(nar.Dump(t.Context(), io.Discard, socket)).To(MatchError(`nar: root: a socket cannot be archived`))
		Expect(nar.Dump(t.Context(), io.Discard, "/dev/null")).To(MatchError(`nar: root: a device cannot be archived`))
	})

	it("leaves out what it is told to, whatever that is, and does not look into it", func() {
		temp := tempDir(t)
		Expect(unix.Mkfifo(filepath.Join(temp, "pipe"), 0o644)).To(Succeed())
		Expect(os.MkdirAll(filepath.Join(temp, "a/b/c"), 0o755)).To(Succeed())
		var asked []string
		var b bytes.Buffer
		Expect(nar.DumpFiltered(t.Context(), nar.NewWriter(&b), temp, func(path string) bool {
			asked = append(asked, path)
			return path == "a"
		})).To(Succeed())
		Expect(asked).To(Equal([]string{"a", "a/b", "pipe"}))
		Expect(b.String()).To(Equal(archive(dir(entry("a", dir())))))
	})

	it("names what is missing", func() {
		missing := filepath.Join(tempDir(t), "missing")
		err := nar.Dump(t.Context(), io.Discard, missing)
		Expect(errors.Is(err, os.ErrNotExist)).To(BeTrue())
		Expect(err).To(MatchError(ContainSubstring(missing)))
	})

	it("stops when it is told to", func() {
		ctx, cancel := gocontext.WithCancel(t.Context())
		cancel()
		Expect(errors.Is(nar.Dump(ctx, io.Discard, "/usr"), gocontext.Canceled)).To(BeTrue())
	})

	it("passes on what the writer says", func() {
		full := errors.New("no space left")
		Expect(errors.Is(nar.Dump(t.Context(), failing{full}, "/etc/hostname"), full)).To(BeTrue())
	})

	it("sends entries to any sink", func() {
		dest := unpack(t, all())
		direct, events := &events{}, &events{}
		Expect(nar.Copy(direct, nar.NewReader(strings.NewReader(all())), make([]byte, 128<<10))).To(Succeed())
		Expect(nar.DumpTo(t.Context(), events, dest)).To(Succeed())
		heads := func(lines []string) []string {
			return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return line[0] == '"' })
		}
		Expect(heads(events.lines)).To(Equal(heads(direct.lines)))
		var b bytes.Buffer
		Expect(nar.DumpTo(t.Context(), nar.NewWriter(&b), dest)).To(Succeed())
		Expect(b.String() == all()).To(BeTrue())
	})

	it("leaves no file open, nor does what removes a tree", func() {
		dest := unpack(t, all())
		before := openFiles(t)
		Expect(nar.Dump(t.Context(), io.Discard, dest)).To(Succeed())
		Expect(nar.Dump(t.Context(), failing{io.ErrClosedPipe}, dest)).NotTo(Succeed())
		Expect(nar.RemoveAll(dest)).To(Succeed())
		Expect(openFiles(t)).To(Equal(before))
	})
}
