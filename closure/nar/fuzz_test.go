package nar_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	zombiezen "zombiezen.com/go/nix/nar"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

// small has a bit of everything, so that mutations of it stay near what is accepted.
func small() string {
	return archive(dir(
		entry("a", dir(entry("b", words("(", "type", "regular", "executable", "", "contents", "abc", ")")))),
		entry("c", link("../outside")),
		entry("d", dir()),
		entry("\xff", file("12345678")),
	))
}

func seed(f *testing.F) {
	f.Helper()
	for _, text := range []string{
		small(), archive(dir()), archive(file("")), archive(link("/tmp")), "",
		archive(dir(entry("x", link("../outside")), entry("x", dir(entry("file", file("new")))))),
		archive(dir(entry("..", file("")))), archive(dir(entry("../outside/file", file("new")))),
	} {
		f.Add([]byte(text))
	}
	for _, name := range names(malformed) {
		if text := malformed[name].text; len(text) < 2000 {
			f.Add([]byte(text))
		}
	}
}

// FuzzReader: whatever is accepted is what Nix would have dumped, byte for byte, and another implementation reads the
// same in it.
func FuzzReader(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var b bytes.Buffer
		if err := nar.Copy(nar.NewWriter(&b), nar.NewReader(bytes.NewReader(data)), nil); err != nil {
			return
		}
		if !bytes.Equal(b.Bytes(), data) {
			t.Fatalf("%q was accepted, and written as %q", data, b.Bytes())
		}
		ours := &events{}
		if err := nar.Copy(ours, nar.NewReader(bytes.NewReader(data)), nil); err != nil {
			t.Fatal(err)
		}
		theirs, err := oracle(data)
		if err != nil && strings.Contains(err.Error(), "not UTF-8") {
			return
		}
		if err != nil {
			t.Fatalf("%q was accepted, where the other implementation says: %v", data, err)
		}
		if heads := slices.DeleteFunc(ours.lines, func(s string) bool { return s[0] == '"' }); !slices.Equal(heads, theirs) {
			t.Fatalf("%q: read\n%s\nwhere the other implementation reads\n%s", data, heads, theirs)
		}
	})
}

// oracle reads an archive with zombiezen.com/go/nix/nar.
func oracle(data []byte) ([]string, error) {
	r := zombiezen.NewReader(bytes.NewReader(data))
	sink := &events{}
	for {
		h, err := r.Next()
		if err == io.EOF {
			return append(sink.lines, "end"), nil
		}
		if err != nil {
			return nil, err
		}
		e := &nar.Entry{Path: h.Path, Size: h.Size, Target: h.LinkTarget}
		switch {
		case h.Mode.IsDir():
			e.Kind = nar.Directory
		case h.Mode.IsRegular():
			e.Kind, e.Executable = nar.Regular, h.Mode&0o111 != 0
		default:
			e.Kind = nar.Symlink
		}
		if err := sink.Entry(e); err != nil {
			return nil, err
		}
	}
}

// place is a directory with something to destroy beside where a tree goes, and check makes sure that it is still there.
func place(t *testing.T) (dest string, check func()) {
	t.Helper()
	temp := tempDir(t)
	if err := os.Mkdir(filepath.Join(temp, "outside"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(temp, "outside/file"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	list := func() string {
		var b strings.Builder
		for _, name := range []string{temp, filepath.Join(temp, "outside")} {
			entries, err := os.ReadDir(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if info, err := e.Info(); err == nil && e.Name() != "out" {
					fmt.Fprintln(&b, e.Name(), info.Mode(), info.Size(), info.ModTime())
				}
			}
		}
		return b.String()
	}
	// A directory's own size and times change with what is made in it.
	want := list()
	return filepath.Join(temp, "out"), func() {
		if got := list(); got != want {
			t.Fatalf("the tree reached outside itself:\n%s\nbefore:\n%s", got, want)
		}
	}
}

// FuzzTree: nothing is written outside the destination, what is accepted dumps back to the same bytes, and what is
// discarded is gone.
func FuzzTree(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		dest, check := place(t)
		tree := nar.NewTree(dest)
		err := nar.Copy(tree, nar.NewReader(bytes.NewReader(data)), nil)
		check()
		if err == nil {
			var b bytes.Buffer
			if err := nar.Dump(t.Context(), &b, dest); err != nil || !bytes.Equal(b.Bytes(), data) {
				t.Fatalf("%q was unpacked, and dumps as %q, %v", data, b.Bytes(), err)
			}
		}
		discard(t, tree, dest)
		check()
	})
}

// FuzzTreeCalls: a Tree stays inside its destination whoever calls it, and however.
func FuzzTreeCalls(f *testing.F) {
	f.Add("d\nd a\nf a/b 3\np abc\nl c ../outside\nend")
	f.Add("d\nl x ../outside\nf x/file 1\np y\nend")
	f.Add("l  ../outside\nf file 1\np y")
	f.Add("d\nd a\nd a/../../outside\nf a/../../outside/new 0")
	f.Fuzz(func(t *testing.T, script string) {
		dest, check := place(t)
		tree := nar.NewTree(dest)
		for _, line := range strings.Split(script, "\n") {
			word, rest, _ := strings.Cut(line, " ")
			path, last, _ := strings.Cut(rest, " ")
			switch word {
			case "d":
				_ = tree.Entry(&nar.Entry{Path: path, Kind: nar.Directory})
			case "f":
				_ = tree.Entry(&nar.Entry{Path: path, Kind: nar.Regular, Size: int64(len(last))})
			case "l":
				_ = tree.Entry(&nar.Entry{Path: path, Kind: nar.Symlink, Target: last})
			case "p":
				_, _ = tree.Write([]byte(rest))
			case "end":
				_ = tree.Close()
			}
		}
		check()
		discard(t, tree, dest)
		check()
	})
}

func discard(t *testing.T, tree *nar.Tree, dest string) {
	t.Helper()
	if err := tree.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dest); !os.IsNotExist(err) {
		t.Fatalf("%s is still there: %v", dest, err)
	}
}
