package roots

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
)

// tree makes a directory of files by their names: "->" begins a symbolic link's target, "#!" a program.
func tree(g *WithT, dir string, files map[string]string) string {
	for name, text := range files {
		full := filepath.Join(dir, name)
		g.Expect(os.MkdirAll(filepath.Dir(full), 0o755)).To(Succeed())
		switch {
		case len(text) > 1 && text[:2] == "->":
			g.Expect(os.Symlink(text[2:], full)).To(Succeed())
		case len(text) > 1 && text[:2] == "#!":
			g.Expect(os.WriteFile(full, []byte(text), 0o755)).To(Succeed())
		default:
			g.Expect(os.WriteFile(full, []byte(text), 0o644)).To(Succeed())
		}
	}
	return dir
}

func TestWhatGitHasIsRestoredFromTheUploadWhereThatHasIt(t *testing.T) {
	g := NewWithT(t)
	upload := tree(g, t.TempDir(), map[string]string{".git/HEAD": "", "same": "x", "dos": "a\r\n", "run": "#!", "mod/file": "m",
		"changed": "y"})
	r, err := gitfiles.Open(t.Context(), upload)
	g.Expect(err).NotTo(HaveOccurred())
	defer r.Close()
	blob := func(mode gitfiles.Mode, text string) gitfiles.File {
		return gitfiles.File{Mode: mode, ID: gitfiles.ObjectID("blob", []byte(text), 20)}
	}
	s := &gitfiles.Snapshot{Files: map[string]gitfiles.File{
		"same": blob(gitfiles.Regular, "x"), "dos": blob(gitfiles.Regular, "a\n"), "run": blob(gitfiles.Executable, "#!"),
	}}
	dir := t.TempDir()
	g.Expect(restore(t.Context(), r, s, upload, dir)).To(BeTrue())
	g.Expect(os.ReadFile(filepath.Join(dir, "dos"))).To(Equal([]byte("a\n")))
	for name, mode := range map[string]os.FileMode{"same": 0o644, "run": 0o755} {
		info, err := os.Stat(filepath.Join(dir, name))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(info.Mode().Perm()&0o111).To(Equal(mode&0o111), name)
	}

	s.Files["changed"], s.Files["mod"] = blob(gitfiles.Regular, "x, which is nowhere"), gitfiles.File{Mode: gitfiles.Submodule}
	dir = t.TempDir()
	g.Expect(restore(t.Context(), r, s, upload, dir)).To(BeFalse())
	g.Expect(filepath.Join(dir, "mod/file")).To(BeAnExistingFile())
	g.Expect(filepath.Join(dir, "changed")).NotTo(BeAnExistingFile())
	from, err := os.OpenRoot(upload)
	g.Expect(err).NotTo(HaveOccurred())
	defer from.Close()
	to, err := os.OpenRoot(t.TempDir())
	g.Expect(err).NotTo(HaveOccurred())
	defer to.Close()
	ended, end := context.WithCancel(t.Context())
	end()
	g.Expect(restoreSubmodule(ended, from, to, "mod")).To(MatchError(context.Canceled))
	g.Expect(os.Symlink("/etc", filepath.Join(upload, "mod/out"))).To(Succeed())
	g.Expect(restoreSubmodule(t.Context(), from, to, "mod")).To(Succeed())
	g.Expect(os.Readlink(filepath.Join(to.Name(), "mod/out"))).To(Equal("/etc"), "it is not followed")
	s.Files["../out"] = blob(gitfiles.Regular, "x")
	_, err = restore(t.Context(), r, s, upload, t.TempDir())
	g.Expect(err).To(MatchError(ContainSubstring("escapes")))
}
