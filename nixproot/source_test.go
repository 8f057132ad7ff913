package nixproot_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixproot"
)

func testSource(t *testing.T, context spec.G, it spec.S) {
	var dir string

	it.Before(func() {
		RegisterTestingT(t)
		if dir = os.Getenv(strangerDir); dir != "" {
			return
		}
		dir = t.TempDir()
		for _, name := range []string{"Procfile", "default.nix", "src/main.c", "public/a.css", "public/deep/b.css", "secrets/key"} {
			Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name), nil, 0o644)).To(Succeed())
		}
		Expect(os.Symlink("/etc", filepath.Join(dir, "src", "link"))).To(Succeed())
		Expect(os.Chmod(filepath.Join(dir, "src"), 0o555)).To(Succeed())
	})

	it.After(func() { _ = os.Chmod(filepath.Join(dir, "src"), 0o755) })

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

	it("never keeps what is named .git, whatever the patterns say", func() {
		for _, name := range []string{".git/config", "vendored/.git", "vendored/code.c", ".gitignore", "public/x.git"} {
			Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name), nil, 0o644)).To(Succeed())
		}
		Expect(trimmed([]string{"**", "*", "**/*", ".git", ".git/config"}, []string{"src", "secrets", "default.nix"})).To(
			ConsistOf("Procfile", ".gitignore", "vendored/code.c", "public/x.git", "public/a.css", "public/deep/b.css"))
		Expect(filepath.Join(dir, ".git")).NotTo(BeADirectory())
	})

	it("removes folders of another user that anybody may write to, and its own that nobody may, without privileges", func() {
		if os.Geteuid() == 0 {
			asStranger(t, dir, "TestNixproot/nixproot/Source/removes_folders")
			return
		}
		Expect(os.MkdirAll(filepath.Join(dir, "own"), 0o755)).To(Succeed())
		for _, name := range []string{"own/a", "own/b"} {
			Expect(os.WriteFile(filepath.Join(dir, name), nil, 0o644)).To(Succeed())
		}
		Expect(os.Chmod(filepath.Join(dir, "own"), 0o555)).To(Succeed())
		Expect(trimmed([]string{"public/*.css", "own/b"}, nil)).To(ConsistOf("Procfile", "public/a.css", "own/b"))
	})

	it("refuses a pattern that does not parse", func() {
		_, err := nixproot.TrimSource(dir, []string{"a[", "b"}, nil)
		Expect(err).To(MatchError(ContainSubstring(`"a["`)))
		Expect(filepath.Join(dir, "default.nix")).To(BeARegularFile())
	})
}

// strangerDir tells a test that is run as another user which folder it is about.
const strangerDir = "NIXPROOT_TEST_DIR"

// asStranger runs a test of this program again, as a user without privileges, on a copy of dir that stays another's
// and that anybody may write to.
func asStranger(t *testing.T, dir, test string) {
	t.Helper()
	place, err := os.MkdirTemp("/tmp", "stranger-")
	Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { Expect(os.RemoveAll(place)).To(Succeed()) })
	source, program := filepath.Join(place, "source"), filepath.Join(place, "test")
	Expect(os.CopyFS(source, os.DirFS(dir))).To(Succeed())
	Expect(filepath.WalkDir(place, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(p, 0o777)
		}
		return err
	})).To(Succeed())
	self, err := os.ReadFile("/proc/self/exe")
	Expect(err).NotTo(HaveOccurred())
	Expect(os.WriteFile(program, self, 0o755)).To(Succeed())
	command := exec.Command(program, "-test.run", test, "-test.v")
	command.Dir = place
	command.Env = append(os.Environ(), "HOME="+place, "TMPDIR="+place, strangerDir+"="+source)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := command.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), string(out))
	Expect(string(out)).To(ContainSubstring("Passed: 1"), string(out))
}
