package nar_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

// canonical fails unless everything at path has the modes and times that Nix gives.
func canonical(t *testing.T, path string) {
	t.Helper()
	g := NewWithT(t)
	g.Expect(filepath.WalkDir(path, func(name string, _ fs.DirEntry, err error) error {
		g.Expect(err).NotTo(HaveOccurred())
		info, err := os.Lstat(name)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(info.ModTime().UnixNano()).To(BeEquivalentTo(1e9), name)
		switch {
		case info.IsDir():
			g.Expect(info.Mode().Perm()).To(BeEquivalentTo(0o555), name)
		case info.Mode().IsRegular():
			g.Expect(info.Mode().Perm()).To(Or(BeEquivalentTo(0o444), BeEquivalentTo(0o555)), name)
		}
		return nil
	})).To(Succeed())
}

func testTree(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("takes no more entries than it is told to", func() {
		tree := nar.NewTree(filepath.Join(t.TempDir(), "tree"))
		tree.Limit(2)
		Expect(tree.Entry(&nar.Entry{Kind: nar.Directory})).To(Succeed())
		Expect(tree.Entry(&nar.Entry{Kind: nar.Symlink, Path: "a", Target: "b"})).To(Succeed())
		Expect(tree.Entry(&nar.Entry{Kind: nar.Symlink, Path: "b", Target: "b"})).To(MatchError(ContainSubstring("more than 2 entries")))
		Expect(tree.Discard()).To(Succeed())
	})

	it("leaves a tree as Nix would, that dumps back to the same archive", func() {
		dest := unpack(t, all())
		canonical(t, dest)
		Expect(dump(t, dest) == all()).To(BeTrue())
		info, err := os.Stat(filepath.Join(dest, "a/b/c"))
		Expect(err).NotTo(HaveOccurred())
		Expect(info.Mode().Perm()).To(BeEquivalentTo(0o555))
	})

	it("writes a root that is a file, an executable or a symlink", func() {
		for _, text := range []string{
			archive(file("hello")), archive(file("")), archive(link("nowhere")),
			archive(words("(", "type", "regular", "executable", "", "contents", "x", ")")),
		} {
			dest := unpack(t, text)
			info, err := os.Lstat(dest)
			Expect(err).NotTo(HaveOccurred())
			Expect(info.ModTime().UnixNano()).To(BeEquivalentTo(1e9))
			Expect(dump(t, dest)).To(Equal(text))
		}
	})

	it("leaves times as they come where it is told to, and all else as Nix would", func() {
		dest := filepath.Join(tempDir(t), "out")
		began := time.Now().Add(-time.Minute)
		tree := nar.NewTree(dest)
		tree.LeaveTimes()
		Expect(nar.Copy(tree, nar.NewReader(strings.NewReader(all())), nil)).To(Succeed())
		Expect(dump(t, dest) == all()).To(BeTrue())
		Expect(filepath.WalkDir(dest, func(name string, _ fs.DirEntry, err error) error {
			Expect(err).NotTo(HaveOccurred())
			info, err := os.Lstat(name)
			Expect(err).NotTo(HaveOccurred())
			Expect(info.ModTime()).To(BeTemporally(">", began), name)
			if info.Mode()&fs.ModeSymlink == 0 {
				Expect(info.Mode().Perm()|0o111).To(BeEquivalentTo(0o555), name)
			}
			return nil
		})).To(Succeed())
	})

	it("works as somebody else than root, to the end and back", func() {
		asNobody(t, func(temp string) {
			dest := filepath.Join(temp, "out")
			tree := nar.NewTree(dest)
			Expect(nar.Copy(tree, nar.NewReader(strings.NewReader(all())), nil)).To(Succeed())
			canonical(t, dest)
			Expect(dump(t, dest) == all()).To(BeTrue())
			Expect(tree.Discard()).To(Succeed())
			Expect(dest).NotTo(BeAnExistingFile())
		})
	})

	it("gives the modes whatever the umask", func() {
		dest := filepath.Join(tempDir(t), "out")
		before := unix.Umask(0o077)
		err := nar.Copy(nar.NewTree(dest), nar.NewReader(strings.NewReader(all())), nil)
		unix.Umask(before)
		Expect(err).NotTo(HaveOccurred())
		canonical(t, dest)
		Expect(dump(t, dest) == all()).To(BeTrue())
	})

	it("puts together contents that come in pieces", func() {
		var text strings.Builder
		for i := range 40_000 {
			text.WriteString(strings.Repeat(string(rune('a'+i%26)), i%7))
		}
		dest := filepath.Join(tempDir(t), "out")
		tree := nar.NewTree(dest)
		contents := text.String()
		calls := []call{f("", len(contents))}
		for i := 0; contents != ""; i++ {
			n := min(len(contents), 1+i*37%(50<<10))
			calls = append(calls, p(contents[:n]))
			contents = contents[n:]
		}
		Expect(play(tree, append(calls, end))).To(Succeed())
		got, err := os.ReadFile(dest)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(got) == text.String()).To(BeTrue())
	})

	it("holds thousands of entries in a directory, and directories as deep as may be", func() {
		entries := make([]string, 0, 3000)
		for i := range 3000 {
			entries = append(entries, entry(strings.Repeat("x", i/100+1)+string(rune('0'+i%100)), file("")))
		}
		wide := archive(dir(sorted(entries)...))
		Expect(dump(t, unpack(t, wide)) == wide).To(BeTrue())
		deep := nested(nar.MaxDepth)
		Expect(dump(t, unpack(t, deep)) == deep).To(BeTrue())
	})

	for _, name := range names(misuse) {
		bad := misuse[name]
		it("refuses "+name, func() {
			temp := tempDir(t)
			tree := nar.NewTree(filepath.Join(temp, "out"))
			Expect(play(tree, bad.calls)).To(MatchError(ContainSubstring(bad.problem)))
			Expect(tree.Discard()).To(Succeed())
			left, err := os.ReadDir(temp)
			Expect(err).NotTo(HaveOccurred())
			Expect(left).To(BeEmpty())
		})
	}

	context("when something is at the destination", func() {
		it("refuses, and leaves it alone", func() {
			for _, text := range []string{archive(dir()), archive(file("new")), archive(link("new"))} {
				for _, make := range []func(string) error{
					func(dest string) error { return os.Mkdir(dest, 0o755) },
					func(dest string) error { return os.WriteFile(dest, []byte("old"), 0o644) },
					func(dest string) error { return os.Symlink(filepath.Dir(dest), dest) },
					func(dest string) error { return os.Symlink("nowhere", dest) },
				} {
					dest := filepath.Join(tempDir(t), "out")
					Expect(make(dest)).To(Succeed())
					tree := nar.NewTree(dest)
					err := nar.Copy(tree, nar.NewReader(strings.NewReader(text)), nil)
					Expect(errors.Is(err, fs.ErrExist)).To(BeTrue(), "%v", err)
					Expect(err).To(MatchError(ContainSubstring(dest)))
					Expect(tree.Discard()).To(Succeed())
					_, err = os.Lstat(dest)
					Expect(err).NotTo(HaveOccurred())
				}
			}
		})
	})

	it("discards what was written when the archive breaks off, also within read-only directories", func() {
		text := all()
		for _, n := range []int{100, 1000, 4000, 1_000_000, len(text) - 1} {
			asNobody(t, func(temp string) {
				tree := nar.NewTree(filepath.Join(temp, "out"))
				Expect(nar.Copy(tree, nar.NewReader(strings.NewReader(text[:n])), nil)).NotTo(Succeed())
				Expect(tree.Discard()).To(Succeed())
				Expect(tree.Discard()).To(Succeed())
				left, err := os.ReadDir(temp)
				Expect(err).NotTo(HaveOccurred())
				Expect(left).To(BeEmpty())
			})
		}
	})

	it("leaves no file open", func() {
		before := openFiles(t)
		unpack(t, all())
		tree := nar.NewTree(filepath.Join(tempDir(t), "out"))
		Expect(play(tree, []call{d(""), d("a"), f("a/b", 5), p("x")})).To(Succeed())
		Expect(tree.Discard()).To(Succeed())
		Expect(openFiles(t)).To(Equal(before))
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return len(list)
}
