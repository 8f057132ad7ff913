package nixproot_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixproot"
)

func testSource(t *testing.T, context spec.G, it spec.S) {
	var dir string

	it.Before(func() {
		RegisterTestingT(t)
		dir = t.TempDir()
		for _, name := range []string{"Procfile", "default.nix", "src/main.c", "public/a.css", "public/deep/b.css", "secrets/key"} {
			Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name), nil, 0o644)).To(Succeed())
		}
		Expect(os.Symlink("/etc", filepath.Join(dir, "src", "link"))).To(Succeed())
		Expect(os.Chmod(filepath.Join(dir, "src"), 0o555)).To(Succeed())
	})

	trimmed := func(include, exclude []string) []string {
		kept, err := nixproot.TrimSource(dir, include, exclude)
		Expect(err).NotTo(HaveOccurred())
		var files []string
		Expect(filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				name, _ := filepath.Rel(dir, p)
				files = append(files, name)
			}
			return err
		})).To(Succeed())
		Expect(files).To(HaveLen(kept))
		return files
	}

	it("keeps the Procfile and nothing else", func() {
		Expect(trimmed(nil, nil)).To(ConsistOf("Procfile"))
		Expect(filepath.Join(dir, "src")).NotTo(BeADirectory())
		Expect("/etc/passwd").To(BeARegularFile())
	})

	it("keeps a folder that a pattern names, with all that is in it", func() {
		Expect(trimmed([]string{"public"}, nil)).To(ConsistOf("Procfile", "public/a.css", "public/deep/b.css"))
	})

	it("keeps what matches across folders, less what is excluded", func() {
		Expect(trimmed([]string{"**"}, []string{"secrets", "**/*.nix", "src/link"})).To(
			ConsistOf("Procfile", "src/main.c", "public/a.css", "public/deep/b.css"))
	})

	it("lets * stay within a folder", func() {
		Expect(trimmed([]string{"public/*.css"}, nil)).To(ConsistOf("Procfile", "public/a.css"))
	})

	it("refuses a pattern that does not parse", func() {
		_, err := nixproot.TrimSource(dir, []string{"a[", "b"}, nil)
		Expect(err).To(MatchError(ContainSubstring(`"a["`)))
		Expect(filepath.Join(dir, "default.nix")).To(BeARegularFile())
	})
}
