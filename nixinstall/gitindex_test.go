package nixinstall_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testCompareWithGit(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	var dir string

	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.org"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		out, err := cmd.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s", out)
	}
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		file := filepath.Join(dir, name)
		Expect(os.MkdirAll(filepath.Dir(file), 0o755)).To(Succeed())
		Expect(os.WriteFile(file, []byte(text), mode)).To(Succeed())
		Expect(os.Chmod(file, mode)).To(Succeed())
	}
	changes := func() nixinstall.GitChanges {
		t.Helper()
		c, ok, err := nixinstall.CompareWithGit(ctx, dir)
		Expect(err).NotTo(HaveOccurred())
		Expect(ok).To(BeTrue())
		return c
	}
	fill := func(format string) {
		dir = t.TempDir()
		git("init", "--quiet", "--object-format="+format)
		write("default.nix", "{ }", 0o644)
		write("bin/run", "#!/bin/sh", 0o755)
		write("src/deep/main.c", "int main;", 0o644)
		write("src/deep/main.h", "", 0o644)
		write("ü/long-name-"+filepath.Base(dir), "x", 0o644)
		write(".gitignore", "*.o\n", 0o644)
		Expect(os.Symlink("bin/run", filepath.Join(dir, "link"))).To(Succeed())
		git("add", ".")
		git("commit", "--quiet", "--message=one")
	}

	it.Before(func() { RegisterTestingT(t) })

	it("finds nothing in a clean checkout, whatever the index's version", func() {
		for _, format := range []string{"sha1", "sha256"} {
			fill(format)
			Expect(changes()).To(BeZero())
			for _, version := range []string{"2", "3", "4"} {
				git("update-index", "--index-version="+version)
				Expect(changes().IsZero()).To(BeTrue(), "version %s", version)
			}
			git("update-index", "--split-index")
			_, ok, err := nixinstall.CompareWithGit(ctx, dir)
			Expect(err).NotTo(HaveOccurred())
			Expect(ok).To(BeFalse())
		}
	})

	it("lists what is in the folder only, in git only, and different", func() {
		fill("sha1")
		write("src/main.o", "x", 0o644) // ignored, and in the upload all the same
		write("new/file", "x", 0o644)
		Expect(os.MkdirAll(filepath.Join(dir, "src", "empty"), 0o755)).To(Succeed())
		Expect(os.Remove(filepath.Join(dir, "src/deep/main.h"))).To(Succeed())
		write("default.nix", "{ a = 1; }", 0o644)
		write("bin/run", "#!/bin/sh", 0o644)
		Expect(os.Remove(filepath.Join(dir, "link"))).To(Succeed())
		write("link", "bin/run", 0o644)
		Expect(changes()).To(Equal(nixinstall.GitChanges{
			Untracked: []string{"new", "src/empty", "src/main.o"},
			Missing:   []string{"src/deep/main.h"},
			Modified:  []string{"bin/run", "default.nix", "link"},
		}))
	})

	it("makes Hydra's source out of an upload with more in it", func() {
		fill("sha1")
		clean, err := nixinstall.SourcePath(ctx, dir, nixinstall.SourceOptions{})
		Expect(err).NotTo(HaveOccurred())
		write("src/main.o", "x", 0o644)
		Expect(os.MkdirAll(filepath.Join(dir, "empty", "er"), 0o755)).To(Succeed())
		again, err := nixinstall.SourcePath(ctx, dir, nixinstall.SourceOptions{Exclude: changes().Untracked})
		Expect(err).NotTo(HaveOccurred())
		Expect(again).To(Equal(clean))
	})

	it("knows nothing where there is no git", func() {
		_, ok, err := nixinstall.CompareWithGit(ctx, t.TempDir())
		Expect(err).NotTo(HaveOccurred())
		Expect(ok).To(BeFalse())
	})

	it("refuses an index that is cut off", func() {
		fill("sha1")
		index := filepath.Join(dir, ".git", "index")
		data, err := os.ReadFile(index)
		Expect(err).NotTo(HaveOccurred())
		for _, size := range []int{0, 11, 40, 100, 200} {
			Expect(os.WriteFile(index, data[:size], 0o644)).To(Succeed())
			_, _, err := nixinstall.CompareWithGit(ctx, dir)
			Expect(err).To(MatchError(ContainSubstring("reading the git index")))
		}
	})
}
