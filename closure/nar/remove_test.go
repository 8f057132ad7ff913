package nar_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

func testRemoveAll(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("removes trees of read-only directories, even ones that nobody may read", func() {
		asNobody(t, func(temp string) {
			dest := filepath.Join(temp, "out")
			Expect(nar.Copy(nar.NewTree(dest), nar.NewReader(strings.NewReader(all())), nil)).To(Succeed())
			Expect(os.Chmod(filepath.Join(dest, "a/b"), 0)).To(Succeed())
			Expect(nar.RemoveAll(dest)).To(Succeed())
			_, err := os.Lstat(dest)
			Expect(os.IsNotExist(err)).To(BeTrue())
		})
	})

	it("never follows a symlink", func() {
		asNobody(t, func(temp string) {
			keep := filepath.Join(temp, "keep")
			Expect(os.MkdirAll(filepath.Join(keep, "dir"), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(keep, "dir/file"), nil, 0o644)).To(Succeed())
			Expect(os.Chmod(keep, 0o555)).To(Succeed())
			gone := filepath.Join(temp, "gone")
			Expect(os.Mkdir(gone, 0o755)).To(Succeed())
			Expect(os.Symlink(keep, filepath.Join(gone, "link"))).To(Succeed())
			Expect(os.Symlink("link/dir", filepath.Join(gone, "further"))).To(Succeed())
			root := filepath.Join(temp, "root")
			Expect(os.Symlink(keep, root)).To(Succeed())
			Expect(nar.RemoveAll(gone)).To(Succeed())
			Expect(nar.RemoveAll(root)).To(Succeed())
			Expect(gone).NotTo(BeAnExistingFile())
			Expect(filepath.Join(keep, "dir/file")).To(BeARegularFile())
			info, err := os.Stat(keep)
			Expect(err).NotTo(HaveOccurred())
			Expect(info.Mode().Perm()).To(BeEquivalentTo(0o555))
		})
	})

	it("is content with nothing", func() {
		Expect(nar.RemoveAll(filepath.Join(tempDir(t), "missing"))).To(Succeed())
	})

	it("names what it could not remove", func() {
		asNobody(t, func(temp string) {
			locked := filepath.Join(temp, "locked")
			Expect(os.MkdirAll(filepath.Join(locked, "dir"), 0o755)).To(Succeed())
			Expect(os.Chmod(locked, 0o555)).To(Succeed())
			err := nar.RemoveAll(filepath.Join(locked, "dir"))
			Expect(os.IsPermission(err)).To(BeTrue())
			Expect(err).To(MatchError(ContainSubstring("locked/dir")))
		})
	})
}

func testMove(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("moves a finished tree to another directory, as anybody", func() {
		asNobody(t, func(temp string) {
			for name, text := range map[string]string{"dir": all(), "file": archive(file("x")), "link": archive(link("x"))} {
				from := filepath.Join(temp, name)
				to := filepath.Join(temp, name+"-layer", "x")
				Expect(os.Mkdir(filepath.Dir(to), 0o755)).To(Succeed())
				Expect(nar.Copy(nar.NewTree(from), nar.NewReader(strings.NewReader(text)), nil)).To(Succeed())
				Expect(nar.Move(from, to)).To(Succeed())
				canonical(t, to)
				Expect(dump(t, to) == text).To(BeTrue())
			}
		})
	})

	it("leaves the tree as it was when it cannot", func() {
		asNobody(t, func(temp string) {
			from := filepath.Join(temp, "out")
			Expect(nar.Copy(nar.NewTree(from), nar.NewReader(strings.NewReader(all())), nil)).To(Succeed())
			Expect(nar.Move(from, filepath.Join(temp, "missing", "x"))).NotTo(Succeed())
			canonical(t, from)
		})
	})
}
