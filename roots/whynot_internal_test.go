package roots

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
)

func TestWhyNot(t *testing.T) {
	suite := spec.New("whynot")
	suite("Looking", testLooking)
	suite.Run(t)
}

// repository opens the .git of a directory, an empty one where it has none.
func repository(t *testing.T, dir string) *gitfiles.Repository {
	g := NewWithT(t)
	g.Expect(os.MkdirAll(filepath.Join(dir, ".git"), 0o755)).To(Succeed())
	g.Expect(os.WriteFile(filepath.Join(dir, ".git/HEAD"), nil, 0o644)).To(Succeed())
	git, err := gitfiles.Open(t.Context(), dir)
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { git.Close() })
	return git
}

func testLooking(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	write := func(files map[string]string) string {
		dir := t.TempDir()
		for name, text := range files {
			full := filepath.Join(dir, name)
			NewWithT(t).Expect(os.MkdirAll(filepath.Dir(full), 0o755)).To(Succeed())
			NewWithT(t).Expect(os.WriteFile(full, []byte(text), 0o644)).To(Succeed())
		}
		return dir
	}

	it("compares an upload with what git has", func() {
		blob := func(text string) string { return gitfiles.ObjectID("blob", []byte(text), 20) }
		dir := write(map[string]string{"same": "x", "changed": "y", "dos": "a\r\n", "extra/deep": "", "new": "",
			"run": "#!", "d/same": "x"})
		c := comparison{upload: files{dir: dir}, diff: fileDiff{}}
		git := repository(t, dir)
		err := c.compare(ctx, git, map[string]gitfiles.File{
			"same": {Mode: gitfiles.Regular, ID: blob("x")}, "d/same": {Mode: gitfiles.Regular, ID: blob("x")},
			"changed": {Mode: gitfiles.Regular, ID: blob("x")}, "dos": {Mode: gitfiles.Regular, ID: blob("a\n")},
			"run":  {Mode: gitfiles.Executable, ID: blob("#!")},
			"gone": {Mode: gitfiles.Regular, ID: blob("")}, "module": {Mode: gitfiles.Submodule},
		}, t.TempDir())
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		lines, kinds := c.diff.describe()
		NewWithT(t).Expect(kinds).To(Equal([]Kind{ExtraFiles, MissingFiles, ChangedFiles, LostModes}))
		NewWithT(t).Expect(lines).To(Equal("in the upload, not in git: extra/, new\n" +
			"in git, not in the upload: gone\ndifferent: changed\ndifferent in line endings: dos\n" +
			"different in the executable bit, or no symbolic link any more: run\n"))
	})

	it("writes and removes nothing outside of its directory, whatever a stranger's .git says", func() {
		g := NewWithT(t)
		elsewhere := write(map[string]string{"x/file": "x", "big/file": "x"})
		source := write(map[string]string{".git/HEAD": "", "mod/.gitmodules": "\tpath = door/x\n"})
		g.Expect(os.Symlink(elsewhere, filepath.Join(source, "door"))).To(Succeed())
		g.Expect(os.Symlink(elsewhere, filepath.Join(source, "mod/door"))).To(Succeed())
		git := repository(t, source)
		restored := func(of map[string]gitfiles.File) (string, error) {
			c, dir := comparison{upload: files{dir: source}, diff: fileDiff{}}, t.TempDir()
			g.Expect(c.compare(ctx, git, of, dir)).To(Succeed())
			return dir, c.lost
		}
		link := gitfiles.File{Mode: gitfiles.Symlink, ID: gitfiles.ObjectID("blob", []byte(elsewhere), 20)}
		for range 20 { // in which order they are written is up to chance
			_, err := restored(map[string]gitfiles.File{"door": link, "door/new": {Mode: gitfiles.Submodule}})
			g.Expect(err).To(HaveOccurred())
			g.Expect(filepath.Join(elsewhere, "new")).NotTo(BeADirectory())
		}
		dir, err := restored(map[string]gitfiles.File{"door": {Mode: gitfiles.Submodule}})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(filepath.Join(dir, "door")).To(BeADirectory())
		g.Expect(filepath.Join(dir, "door/big")).NotTo(BeADirectory())
	})
}
