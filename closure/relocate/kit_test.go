package relocate_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// The store paths of the tests: self refers to itself and dep, and to nothing else.
const (
	self    = storepath.Path("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app-1.0")
	dep     = storepath.Path("/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-glibc-2.40")
	other   = storepath.Path("/nix/store/3n58xw4373jp0ljirf06d8077j15pc4j-gcc-wrapper")
	viewDir = "/layers/nixproot_nix-hydra/store"
	// The same names in the view.
	selfNow = "/layers/nixproot_nix-hydra/store/00bgd045z0-app-1.0"
	depNow  = "/layers/nixproot_nix-hydra/store/1b9p07z77p-glibc-2.40"
)

// file is an entry of an archive and what it holds.
type file struct {
	nar.Entry
	contents []byte
}

// events records an archive as a Sink gets it.
type events struct{ files []file }

func (e *events) Entry(entry *nar.Entry) error {
	e.files = append(e.files, file{Entry: *entry})
	return nil
}

func (e *events) Write(p []byte) (int, error) {
	last := &e.files[len(e.files)-1]
	last.contents = append(last.contents, p...)
	return len(p), nil
}

func (e *events) Close() error { return nil }

// regular is a file of a path that holds only this file's directory.
func regular(path, contents string) file {
	return file{nar.Entry{Path: path, Kind: nar.Regular, Size: int64(len(contents))}, append([]byte(nil), contents...)}
}

func symlink(path, target string) file {
	return file{Entry: nar.Entry{Path: path, Kind: nar.Symlink, Target: target}}
}

// archive puts the directories before the files, which are in order.
func archive(files ...file) []file {
	if len(files) == 1 && files[0].Path == "" {
		return files
	}
	all := []file{{Entry: nar.Entry{Kind: nar.Directory}}}
	have := map[string]bool{}
	for _, f := range files {
		parts := strings.Split(f.Path, "/")
		for i := 1; i < len(parts); i++ {
			if dir := strings.Join(parts[:i], "/"); !have[dir] {
				have[dir] = true
				all = append(all, file{Entry: nar.Entry{Path: dir, Kind: nar.Directory}})
			}
		}
		all = append(all, f)
	}
	return all
}

// send gives an archive to sink, contents in pieces as long as piece says.
func send(t testing.TB, sink nar.Sink, files []file, piece func() int) {
	t.Helper()
	g := NewWithT(t)
	for _, f := range files {
		g.Expect(sink.Entry(&f.Entry)).To(Succeed())
		for rest := f.contents; len(rest) > 0; {
			n := min(len(rest), piece())
			// The sink may not keep or change what it is given.
			borrowed := bytes.Clone(rest[:n])
			_, err := sink.Write(borrowed)
			g.Expect(err).NotTo(HaveOccurred())
			clear(borrowed)
			rest = rest[n:]
		}
	}
	g.Expect(sink.Close()).To(Succeed())
}

func whole() int { return 1 << 30 }

// pieces of random length, most of them short.
func pieces(r *rand.Rand) func() int {
	return func() int { return 1 + r.IntN(1<<r.IntN(18)) }
}

func view(t testing.TB) relocate.View {
	t.Helper()
	l, err := relocate.NewView(viewDir)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return l
}

// neverTripped makes sure that no file was only refused because something here, or a decoder, panicked at it.
func neverTripped(t testing.TB, report relocate.Report) {
	t.Helper()
	for _, b := range report.Blockers {
		if strings.Contains(b.Detail, "it cannot be read: ") || strings.Contains(b.Detail, "its decoder failed: ") {
			t.Fatalf("a panic: %+v", b)
		}
	}
}

// relocated sends files through a rewriter for self and dep.
func relocated(t testing.TB, files ...file) ([]file, relocate.Report) {
	t.Helper()
	out := &events{}
	rewriter := view(t).Rewrite(self, []storepath.Path{dep}, out)
	send(t, rewriter, archive(files...), whole)
	return out.files, relocate.WithPending(rewriter.Report())
}

// contentsOf is what the file at path holds.
func contentsOf(files []file, path string) string {
	for _, f := range files {
		if f.Path == path {
			return string(f.contents) + f.Target
		}
	}
	return "(no " + path + ")"
}
