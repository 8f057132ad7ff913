package nar_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

func TestNAR(t *testing.T) {
	suite := spec.New("nar", spec.Report(report.Terminal{}))
	suite("Reader", testReader)
	suite("Writer", testWriter)
	suite("Tree", testTree)
	suite("Dump", testDump)
	suite("RemoveAll", testRemoveAll)
	suite("Move", testMove)
	suite.Run(t)
}

// names are a table's, in one order: spec runs a suite's function anew for each of its specs.
func names[V any](table map[string]V) []string { return slices.Sorted(maps.Keys(table)) }

// words serializes strings as a NAR does.
func words(list ...string) string {
	var b strings.Builder
	for _, word := range list {
		b.WriteString(length(uint64(len(word))))
		b.WriteString(word)
		b.Write(make([]byte, -len(word)&7))
	}
	return b.String()
}

func length(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }

const magic = "nix-archive-1"

func file(contents string) string {
	return words("(", "type", "regular", "contents", contents, ")")
}

func link(target string) string { return words("(", "type", "symlink", "target", target, ")") }

func dir(entries ...string) string {
	return words("(", "type", "directory") + strings.Join(entries, "") + words(")")
}

func entry(name, node string) string {
	return words("entry", "(", "name", name, "node") + node + words(")")
}

func archive(node string) string { return words(magic) + node }

// nested is an archive of n directories within each other.
func nested(n int) string {
	node := dir()
	for range n - 1 {
		node = dir(entry("d", node))
	}
	return archive(node)
}

// events is a Sink that writes down what it gets.
type events struct{ lines []string }

func (s *events) Entry(e *nar.Entry) error {
	line := fmt.Sprintf("%v %q", e.Kind, e.Path)
	switch {
	case e.Kind == nar.Symlink:
		line += fmt.Sprintf(" -> %q", e.Target)
	case e.Kind == nar.Regular:
		line += fmt.Sprintf(" %d", e.Size)
		if e.Executable {
			line += " executable"
		}
	}
	s.lines = append(s.lines, line)
	return nil
}

func (s *events) Write(p []byte) (int, error) {
	s.lines = append(s.lines, fmt.Sprintf("%q", p))
	return len(p), nil
}

func (s *events) Close() error {
	s.lines = append(s.lines, "end")
	return nil
}

// all is an archive with something of everything: every kind, every padding, names that are not UTF-8 or sort oddly,
// a name as long as may be, empty directories and files, and a large file.
func all() string {
	return archive(dir(
		entry("\x01", file("")),
		entry(" ", link("a\nb")),
		entry("A", dir()),
		entry("a", dir(
			entry("b", dir(entry("c", words("(", "type", "regular", "executable", "", "contents", "#!/bin/sh\n", ")")))),
			entry("c", file("1234567")),
			entry("d", file("12345678")),
		)),
		entry("a-", file("123456789")),
		entry("a.b", link("../../etc/passwd")),
		entry("big", file(strings.Repeat("0123456789abcde\n", 100_000))),
		entry(strings.Repeat("n", nar.MaxNameLen), file("long")),
		entry("\xc3\x28\xff", file("not UTF-8")),
		entry("\xff", dir(entry("x", link(strings.Repeat("t", nar.MaxTargetLen))))),
	))
}

func read(text string) ([]string, error) {
	sink := &events{}
	err := nar.Copy(sink, nar.NewReader(strings.NewReader(text)), nil)
	return sink.lines, err
}

// unpack writes an archive to a new place.
func unpack(t *testing.T, text string) string {
	t.Helper()
	dest := filepath.Join(tempDir(t), "out")
	NewWithT(t).Expect(nar.Copy(nar.NewTree(dest), nar.NewReader(strings.NewReader(text)), nil)).To(Succeed())
	return dest
}

// tempDir is a directory that is cleared by RemoveAll, as the one of package testing is stopped by read-only
// directories where the tests run as somebody else than root.
func tempDir(t *testing.T) string {
	t.Helper()
	temp, err := os.MkdirTemp("", "nar")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { NewWithT(t).Expect(nar.RemoveAll(temp)).To(Succeed()) })
	return temp
}

// asNobody runs f without root's rights over files, below a directory that belongs to whom it runs as. A thread's
// user for files is its own in Linux, so that the rest of the tests stay what they are.
func asNobody(t *testing.T, f func(temp string)) {
	t.Helper()
	temp := tempDir(t)
	if os.Geteuid() != 0 {
		f(temp)
		return
	}
	const nobody = 65534
	NewWithT(t).Expect(os.Chown(temp, nobody, nobody)).To(Succeed())
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	NewWithT(t).Expect(unix.Setfsuid(nobody)).To(Succeed())
	defer func() { NewWithT(t).Expect(unix.Setfsuid(0)).To(Succeed()) }()
	_, err := os.ReadDir("/root")
	NewWithT(t).Expect(err).To(HaveOccurred(), "still root over files")
	f(temp)
}

// dribble gives a byte at a time.
type dribble struct{ r io.Reader }

func (d dribble) Read(p []byte) (int, error) { return d.r.Read(p[:min(1, len(p))]) }

func dump(t *testing.T, path string) string {
	t.Helper()
	var b bytes.Buffer
	NewWithT(t).Expect(nar.Dump(t.Context(), &b, path)).To(Succeed())
	return b.String()
}
