package roots

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

const commitOfGit = "73b550b0000000000000000000000000000000aa"

func TestTheSourcesIdentityIsWhatTheSettingsSayElseWhatGitHas(t *testing.T) {
	g := NewWithT(t)
	f := Finder{Identity: nixinstall.Identity{Rev: commitOfGit, URL: "https://git/x"}}
	g.Expect([]string{f.revision(), f.commit(), f.gitURL()}).To(Equal([]string{commitOfGit, commitOfGit, "https://git/x"}))
	f.Settings = Settings{GitRev: "C0FFEE1", GitURL: "https://other/x"}
	g.Expect([]string{f.revision(), f.commit(), f.gitURL()}).To(Equal([]string{"c0ffee1", "c0ffee1", "https://other/x"}))
	f.Settings = Settings{GitRev: "Latest"} // a word is Hydra's to understand
	g.Expect([]string{f.revision(), f.commit()}).To(Equal([]string{"Latest", commitOfGit}))
	for text, want := range map[string]bool{"": false, "c0ffee1": true, "feed": false, "latest": false, "latest-finished": false, commitOfGit: true} {
		g.Expect(isRevision(text)).To(Equal(want), text)
	}
}

func TestAnEntryOfTheSearchPathIsPinnedWhereItSaysItsContent(t *testing.T) {
	g := NewWithT(t)
	for entry, want := range map[string]bool{
		"nixpkgs=.": true, "nixpkgs=./nixpkgs": true, "./x": true, ".": true, "x=/nix/store/a-b": true, "/nix/store/a-b": true,
		"nixpkgs=https://h/" + commitOfGit + ".tar.gz": true, "x=https://h/x?narHash=sha256-x": true, "x=https://h/x?a=b&narHash=y": true,
		"nixpkgs=https://h/nixos-unstable.tar.gz": false, "nixpkgs=/home/me": false, "x=": false, ".x": true, "x=nix/x": true,
		"x=../x":                         false,
		"https://h/" + commitOfGit + "0": false,
	} {
		g.Expect(pinnedEntry(entry)).To(Equal(want), entry)
	}
}

func TestAnAnswerIsOnlyKeptWhereNothingChangesByItself(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	g.Expect(os.WriteFile(filepath.Join(dir, "shell.nix"), []byte("{ }"), 0o644)).To(Succeed())
	logged := 0
	key := func(change func(*Finder)) string {
		f := Finder{Source: dir, File: "shell.nix", Log: func(string, ...any) { logged++ }}
		change(&f)
		key, err := f.Key(t.Context(), "toolchain")
		g.Expect(err).NotTo(HaveOccurred())
		return key
	}
	g.Expect(key(func(*Finder) {})).NotTo(BeEmpty())
	g.Expect(logged).To(BeZero())
	g.Expect(key(func(f *Finder) { f.Settings.NixPath = []string{"x=https://h/x"} })).To(BeEmpty())
	g.Expect(logged).To(Equal(1))
	g.Expect(key(func(f *Finder) { f.File, f.Flake, f.Settings.NixPath = "", ".", []string{"x=https://h/x"} })).NotTo(BeEmpty())
	g.Expect(key(func(f *Finder) { f.File, f.Settings.HydraJob = "", "p/j/a" })).To(BeEmpty(), "Hydra's latest")
	g.Expect(key(func(f *Finder) { f.File, f.Settings.HydraJob, f.Settings.GitRev = "", "p/j/a", "c0ffee1" })).NotTo(BeEmpty())

	// Where nothing is evaluated, nothing depends on the source.
	none := func(f *Finder) { f.File = "" }
	before, flake := key(none), key(func(f *Finder) { f.File, f.Flake = "", "." })
	g.Expect(os.WriteFile(filepath.Join(dir, "shell.nix"), []byte("{ x = builtins.currentTime; }"), 0o644)).To(Succeed())
	g.Expect(key(none)).To(Equal(before))
	g.Expect(key(func(f *Finder) { f.File, f.Flake = "", "." })).NotTo(Equal(flake))
	g.Expect(key(func(*Finder) {})).To(BeEmpty(), "it reads the clock")
}

func TestRootsAreTheOutputsAndTheHooksEachOnce(t *testing.T) {
	g := NewWithT(t)
	paths := func(names ...storepath.Path) []storepath.Path { return names }
	g.Expect(Result{Paths: paths("a", "b")}.All()).To(Equal(paths("a", "b")))
	g.Expect(Result{Paths: paths("a", "b"), Hook: "c"}.All()).To(Equal(paths("a", "b", "c")))
	g.Expect(Result{Paths: paths("a", "b"), Hook: "b"}.All()).To(Equal(paths("a", "b")))
	named := Settings{StorePaths: paths("a"), HydraJob: "p/j/x"}
	g.Expect(Finder{Settings: named, File: "default.nix"}.Find(t.Context())).To(Equal(Result{Paths: paths("a")}), "nobody is asked")
}

func TestTheKeyIsOfTheSourceWhereThatIsEvaluatedAndReadsNothingElse(t *testing.T) {
	g := NewWithT(t)
	f := Finder{Source: t.TempDir(), Log: t.Logf, Settings: Settings{NixPath: []string{"lib=./lib", "/nix/store/x"}}}
	key := func(f Finder) string {
		key, err := f.Key(t.Context(), "toolchain")
		g.Expect(err).NotTo(HaveOccurred())
		return key
	}
	file, flake := f, f
	file.File, flake.Flake = "default.nix", ".#"
	before := []string{key(f), key(file), key(flake)}
	tree(g, f.Source, map[string]string{"default.nix": "1"})
	g.Expect(key(f)).To(Equal(before[0]), "nothing is evaluated")
	g.Expect(key(file)).NotTo(Equal(before[1]))
	g.Expect(key(flake)).NotTo(Equal(before[2]))
	file.Settings.NixPath = []string{"lib=https://example.org/lib.tar.gz"}
	g.Expect(key(file)).To(BeEmpty(), "that may be another one tomorrow")
	file.Settings.NixPath = []string{"lib=https://me:secret@example.org/lib.tar.gz"}
	g.Expect(file.mutable(t.Context())).To(Equal("the search path has lib=https://example.org/lib.tar.gz"))
	file.Settings.NixPath = nil
	tree(g, f.Source, map[string]string{"own.nix": "builtins.currentTime"})
	g.Expect(key(file)).To(BeEmpty())
	file.Exclude = []string{"own.nix"}
	without := key(file)
	g.Expect(without).NotTo(BeEmpty())
	tree(g, f.Source, map[string]string{"own.nix": "2"})
	g.Expect(key(file)).To(Equal(without), "what is left out is not read")
	tree(g, f.Source, map[string]string{"default.nix": "builtins.currentTime"})
	g.Expect(key(file)).To(BeEmpty())
	g.Expect(key(flake)).NotTo(BeEmpty(), "it is locked")
	file.Settings.HydraJob, file.File = "p/j/x", ""
	g.Expect(key(file)).To(BeEmpty(), "it is of no commit")
	file.Settings.GitRev = commitOfGit
	g.Expect(key(file)).NotTo(BeEmpty())
}
