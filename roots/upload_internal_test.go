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
		"mod/out": "->/etc", "changed": "y", "lost": "z", "extra/deep/file": "e"})
	r, err := gitfiles.Open(t.Context(), upload)
	g.Expect(err).NotTo(HaveOccurred())
	defer r.Close()
	blob := func(mode gitfiles.Mode, text string) gitfiles.File {
		return gitfiles.File{Mode: mode, ID: gitfiles.ObjectID("blob", []byte(text), 20)}
	}
	s := &gitfiles.Snapshot{Files: map[string]gitfiles.File{
		"same": blob(gitfiles.Regular, "x"), "dos": blob(gitfiles.Regular, "a\n"), "run": blob(gitfiles.Executable, "#!"),
		"mod": {Mode: gitfiles.Submodule}, "empty/mod": {Mode: gitfiles.Submodule},
	}}
	restored := func(ctx context.Context) (string, error) {
		diff, err := compareUpload(t.Context(), upload, []string{"lost"}, s, r.HashSize())
		g.Expect(err).NotTo(HaveOccurred())
		dir := filepath.Join(t.TempDir(), "source")
		return dir, restore(ctx, r, s, diff, files{dir: upload, exclude: []string{"lost"}}, dir)
	}
	dir, err := restored(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.ReadFile(filepath.Join(dir, "dos"))).To(Equal([]byte("a\n")))
	g.Expect(os.Readlink(filepath.Join(dir, "mod/out"))).To(Equal("/etc"), "it is not followed")
	g.Expect(filepath.Join(dir, "empty/mod")).To(BeADirectory())
	for name, mode := range map[string]os.FileMode{"same": 0o644, "run": 0o755} {
		info, err := os.Stat(filepath.Join(dir, name))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(info.Mode().Perm()&0o111).To(Equal(mode&0o111), name)
	}
	for _, name := range []string{"changed", "lost", "extra"} {
		g.Expect(filepath.Join(dir, name)).NotTo(BeAnExistingFile())
	}

	s.Files["changed"] = blob(gitfiles.Regular, "x, which is nowhere")
	dir, err = restored(t.Context())
	g.Expect(err).To(MatchError(gitfiles.ErrAbsent))
	g.Expect(os.ReadFile(filepath.Join(dir, "dos"))).To(Equal([]byte("a\n")), "the rest is there")
	g.Expect(filepath.Join(dir, "changed")).NotTo(BeAnExistingFile())

	ended, end := context.WithCancel(t.Context())
	end()
	_, err = restored(ended)
	g.Expect(err).To(MatchError(context.Canceled))
	s.Files["../out"] = blob(gitfiles.Regular, "x")
	_, err = restored(t.Context())
	g.Expect(err).To(HaveOccurred())
}
