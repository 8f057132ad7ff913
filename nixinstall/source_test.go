package nixinstall_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testAddSource(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	var dir string

	write := func(name, text string, mode os.FileMode) {
		file := filepath.Join(dir, name)
		Expect(os.MkdirAll(filepath.Dir(file), 0o755)).To(Succeed())
		Expect(os.WriteFile(file, []byte(text), mode)).To(Succeed())
	}

	it.Before(func() {
		RegisterTestingT(t)
		dir = filepath.Join(t.TempDir(), "checkout")
		write("a", "1", 0o644)
		write("run", "#!/bin/sh\n", 0o755)
		write("sub/deep/b", "2", 0o600)
		write("sub.x/c", "3", 0o640)
		write("sub/.gitignore", "*.o\n", 0o644)
		Expect(os.MkdirAll(filepath.Join(dir, "empty"), 0o755)).To(Succeed())
		Expect(os.Symlink("../a", filepath.Join(dir, "sub", "link"))).To(Succeed())
		Expect(os.Symlink("/nowhere", filepath.Join(dir, "dangling"))).To(Succeed())
	})

	it("gives the path that nix-store --add-fixed gave to these directories, with and without Nix", func() {
		for _, c := range []struct{ dir, name, want string }{
			{"app", "git-export", "/nix/store/m0krr6bq1b5mmdwbfgxv50qyhrdx8pdn-git-export"},
			{"app", "source", "/nix/store/w9vc7wizi9n805474fjf5kxxnnqxzg8r-source"},
			{"nixpkgs", "source", "/nix/store/9na33lrksjwckp4ji4w0cws17h3n59yg-source"},
		} {
			o := nixinstall.SourceOptions{Name: c.name}
			computed, err := nixinstall.SourcePath(ctx, testdata(t, c.dir), o)
			Expect(err).NotTo(HaveOccurred())
			Expect(computed).To(BeEquivalentTo(c.want))
			added, err := nix(t).AddSource(ctx, testdata(t, c.dir), o)
			Expect(err).NotTo(HaveOccurred())
			Expect(added).To(Equal(computed))
		}
	})

	it("leaves out what the rule says, and nothing else", func() {
		toolchain := nix(t)
		same := func(o nixinstall.SourceOptions) string {
			t.Helper()
			computed, err := nixinstall.SourcePath(ctx, dir, o)
			Expect(err).NotTo(HaveOccurred())
			added, err := toolchain.AddSource(ctx, dir, o)
			Expect(err).NotTo(HaveOccurred())
			Expect(added).To(Equal(computed), "%+v", o)
			return added.String()
		}
		clean := same(nixinstall.SourceOptions{})
		write(".git/config", "[core]\n", 0o644)
		write("sub/.git", "gitdir: ../.git/modules/sub\n", 0o644)
		Expect(same(nixinstall.SourceOptions{})).To(Equal(clean))
		Expect(same(nixinstall.SourceOptions{Rule: nixinstall.GitKept})).NotTo(Equal(clean))
		old := same(nixinstall.SourceOptions{Rule: nixinstall.GitPrefixed})
		Expect(old).NotTo(Equal(clean))
		Expect(same(nixinstall.SourceOptions{Exclude: []string{"sub/.gitignore"}})).To(Equal(old))
		Expect(same(nixinstall.SourceOptions{Exclude: []string{"a", "sub/deep"}})).NotTo(Equal(clean))
	})

	it("says which file cannot be part of a source", func() {
		Expect(syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644)).To(Succeed())
		_, err := nixinstall.SourcePath(ctx, dir, nixinstall.SourceOptions{})
		Expect(err).To(MatchError(ContainSubstring("a named pipe cannot be archived")))
		_, err = nix(t).AddSource(ctx, dir, nixinstall.SourceOptions{})
		Expect(err).To(MatchError(ContainSubstring("pipe")))
		_, err = nix(t).AddSource(ctx, dir, nixinstall.SourceOptions{Exclude: []string{"pipe"}})
		Expect(err).NotTo(HaveOccurred())
	})

	it("refuses a name that no store path can have", func() {
		_, err := nixinstall.SourcePath(ctx, dir, nixinstall.SourceOptions{Name: "a/b"})
		Expect(err).To(HaveOccurred())
		_, err = nix(t).AddSource(ctx, dir, nixinstall.SourceOptions{Name: "a b"})
		Expect(err).To(HaveOccurred())
	})
}
