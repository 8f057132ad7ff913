package roots

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
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
		"mod/out": "->/etc", "mod/.git/config": "", "mod/in/own": "o", "none": "", "dir/keep": "k", "link": "->same", "flat": "same", "changed": "y", "lost": "z", "extra/deep/file": "e"})
	git := repository(t, upload)
	blob := func(mode gitfiles.Mode, text string) gitfiles.File {
		return gitfiles.File{Mode: mode, ID: gitfiles.ObjectID("blob", []byte(text), 20)}
	}
	has := map[string]gitfiles.File{
		"link": blob(gitfiles.Symlink, "same"), "flat": blob(gitfiles.Symlink, "same"),
		"none": blob(gitfiles.Executable, ""), "dir/keep": blob(gitfiles.Regular, "k"),
		"same": blob(gitfiles.Regular, "x"), "dos": blob(gitfiles.Regular, "a\n"), "run": blob(gitfiles.Executable, "#!"),
		"mod": {Mode: gitfiles.Submodule}, "empty/mod": {Mode: gitfiles.Submodule},
	}
	var differs fileDiff
	restored := func() (string, error) {
		c, dir := comparison{upload: files{dir: upload, exclude: []string{"lost", "mod/in/own"}}, diff: fileDiff{}}, t.TempDir()
		g.Expect(c.compare(t.Context(), git, has, dir)).To(Succeed())
		differs = c.diff
		return dir, c.lost
	}
	dir, err := restored()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.ReadFile(filepath.Join(dir, "dos"))).To(Equal([]byte("a\n")))
	g.Expect(os.Readlink(filepath.Join(dir, "mod/out"))).To(Equal("/etc"), "it is not followed")
	g.Expect(filepath.Join(dir, "empty/mod")).To(BeADirectory())
	for name, mode := range map[string]os.FileMode{"same": 0o644, "run": 0o755, "none": 0o755, "dir/keep": 0o644, "dir": 0o755} {
		info, err := os.Stat(filepath.Join(dir, name))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(info.Mode().Perm()&0o111).To(Equal(mode&0o111), name)
	}
	g.Expect(filepath.Join(dir, "mod/in")).To(BeADirectory())
	for _, name := range []string{"link", "flat"} {
		g.Expect(os.Readlink(filepath.Join(dir, name))).To(Equal("same"))
	}
	g.Expect(differs).To(Equal(fileDiff{extra: {"changed", "extra/"}, modes: {"flat", "none"}, endings: {"dos"}}))
	for _, name := range []string{"changed", "lost", "extra", "mod/.git", "mod/in/own"} {
		g.Expect(filepath.Join(dir, name)).NotTo(BeAnExistingFile())
	}

	has["changed"] = blob(gitfiles.Regular, "x, which is nowhere")
	dir, err = restored()
	g.Expect(err).To(MatchError(gitfiles.ErrAbsent))
	g.Expect(os.ReadFile(filepath.Join(dir, "dos"))).To(Equal([]byte("a\n")), "the rest is there")
	g.Expect(filepath.Join(dir, "changed")).NotTo(BeAnExistingFile())

	ended, end := context.WithCancel(t.Context())
	end()
	c := comparison{upload: files{dir: upload}, diff: fileDiff{}}
	g.Expect(c.compare(ended, git, has, t.TempDir())).To(MatchError(context.Canceled))
	has["../out"] = blob(gitfiles.Regular, "x")
	_, err = restored()
	g.Expect(err).To(HaveOccurred())
}

// TestSubmodulesOfSubmodulesAreWhatHydraLeavesOut looks at an upload of which nothing can be evaluated.
func TestSubmodulesOfSubmodulesAreWhatHydraLeavesOut(t *testing.T) {
	g := NewWithT(t)
	var log []string
	d := diagnosis{evaluation: evaluation{Finder: Finder{Source: t.TempDir(), Log: func(format string, args ...any) { log = append(log, format) }}}}
	e := &NotCachedError{}
	t.Setenv("TMPDIR", t.TempDir())
	g.Expect(d.upload(t.Context(), e)).To(BeEmpty())
	tree(g, d.Source, map[string]string{".gitmodules": "[submodule \"a\"]\n\tpath = a\n", "a/.gitmodules": "[submodule \"b\"]\n\tpath = b\n", "a/b/file": "x"})
	found := d.upload(t.Context(), e)
	g.Expect(found).To(HaveLen(1))
	g.Expect(found[0].Text).To(Equal("the upload is not what Hydra fetches:\n" +
		"submodules of submodules (Hydra checks submodules out one level deep, and has empty directories in their place): a/b\n" +
		"The caches do not have what that gives, either, so there is another reason, too"))
	g.Expect(found[0].Kinds).To(Equal([]Kind{Submodules}))
	g.Expect(found[0].Proven).To(BeFalse())
	g.Expect(log).To(BeEmpty())
	d.Flake = ".#"
	g.Expect(d.upload(t.Context(), e)).To(BeEmpty(), "a flake has no submodules, or all of them")
	d.Flake = ""

	tree(g, d.Source, map[string]string{".git/HEAD": "", ".git/index": "no index"})
	g.Expect(d.upload(t.Context(), e)).To(HaveLen(1))
	g.Expect(log).To(ConsistOf(HavePrefix("The source cannot be compared with its .git")))
	g.Expect(os.ReadDir(os.TempDir())).To(BeEmpty(), "nothing is left")
}

// gitIndex is an index of regular files with these contents (git: Documentation/gitformat-index.txt, version 2).
func gitIndex(files map[string]string) string {
	index := binary.BigEndian.AppendUint32([]byte("DIRC\x00\x00\x00\x02"), uint32(len(files)))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		entry := binary.BigEndian.AppendUint32(make([]byte, 24), uint32(gitfiles.Regular))
		id := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(files[name]), files[name]))
		entry = append(append(entry, make([]byte, 12)...), id[:]...)
		entry = append(binary.BigEndian.AppendUint16(entry, uint16(len(name))), name...)
		index = append(index, append(entry, make([]byte, 8-len(entry)%8)...)...)
	}
	sum := sha1.Sum(index)
	return string(append(index, sum[:]...))
}

func TestAnUploadIsComparedWithWhatGitHas(t *testing.T) {
	g := NewWithT(t)
	d := diagnosis{evaluation: evaluation{Finder: Finder{Source: t.TempDir(), Log: t.Logf, Identity: nixinstall.Identity{Rev: commitOfGit}}}}
	tree(g, d.Source, map[string]string{".git/HEAD": "", "a": "x", "b/c/d": "y",
		".git/index": gitIndex(map[string]string{"a": "x", "b/c/d": "y"})})
	e := &NotCachedError{}
	g.Expect(d.upload(t.Context(), e)).To(BeEmpty())

	tree(g, d.Source, map[string]string{"c": "z"})
	found := d.upload(t.Context(), e)
	g.Expect(found).To(HaveLen(1))
	g.Expect(found[0].Text).To(Equal("the upload is not what Hydra fetches (compared with the index):\nin the upload, not in git: c\n" +
		"The caches do not have what that gives, either, so there is another reason, too"))
	tree(g, d.Source, map[string]string{"a": "changed"})
	found = d.upload(t.Context(), e)
	g.Expect(found[0].Text).To(HaveSuffix("different: a\n(What git has could not be restored completely from .git, so that this is not proven)"))
	g.Expect(found[0].Kinds).To(Equal([]Kind{ExtraFiles, ChangedFiles}))
	g.Expect(found[0].Proven).To(BeFalse())

	lost := map[string]string{}
	for _, name := range []string{"e", "f", "g", "h", "i", "j"} {
		lost[name] = "lost"
	}
	tree(g, d.Source, map[string]string{".git/index": gitIndex(lost)})
	g.Expect(d.upload(t.Context(), e)[0].Text).To(ContainSubstring("in git, not in the upload: e, f, g, h, i, j\n"))
}

func TestFilesOf32MiBAreComparedAndHashesOfBothKinds(t *testing.T) {
	g := NewWithT(t)
	file := filepath.Join(t.TempDir(), "file")
	g.Expect(os.WriteFile(file, []byte("x"), 0o644)).To(Succeed())
	for _, hashSize := range []int{sha1.Size, sha256.Size} {
		git := gitfiles.File{Mode: gitfiles.Regular, ID: gitfiles.ObjectID("blob", []byte("x"), hashSize)}
		differs, _ := compareFile(t.Context(), file, git, hashSize)
		g.Expect(differs).To(Equal(difference{}))
	}
	g.Expect(os.Truncate(file, 32<<20)).To(Succeed())
	content, err := readAny(t.Context(), file)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(len(content)).To(Equal(32 << 20))
	g.Expect(os.Truncate(file, 32<<20+1)).To(Succeed())
	_, err = readAny(t.Context(), file)
	g.Expect(err).To(HaveOccurred())
}
