package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// families are those of docs/relocation.md, and what each prints at /nix, in a few words: the rest is compared with
// such a run.
var families = map[string][]string{
	"r":          {"shopxz", "shopbzip2", "shopgzip", "shopnone", "a text from the store", "-5.344"},
	"tex":        {"Output written on latex.pdf", "read: a text from the store", "CMR10", "LMRoman10-Regular"},
	"erlang":     {"27 a text from the store", "escript a text", "40\ntext"},
	"guile":      {"a text from the store"},
	"sbcl":       {"a text from the store\n59 a text from the store"},
	"php":        {"phar a text from the store", "started 3"},
	"sqlite":     {"ok", "1000"},
	"node":       {"a text from the store 7 7", "true 300 a text", "Error: on purpose", "started 2", "started 4", "started 3"},
	"java":       {"class: a text", "resource: a text", "inner: a text", "stored: a text"},
	"cds":        {"class: a text"},
	"jdk":        {"compiled 21"},
	"python":     {"zipapp a text", "shopwheel a text", "shopegg a text"},
	"compressed": {"a text from the store", "401"},
	"fontconfig": {"DejaVu Sans"},
}

// onlyWhereAsked skips a test that has QEMU run whole languages, or that needs hundreds of megabytes besides.
func onlyWhereAsked(t *testing.T) {
	t.Helper()
	if os.Getenv("NIX_HYDRA_FAMILIES") == "" {
		untested.Skip(t, "set NIX_HYDRA_FAMILIES=1")
	}
}

// familyWorld is an image with an app of each family.
type familyWorld struct {
	*engineWorld
	image *layered
}

var theFamilies struct {
	sync.Once
	*familyWorld
	err error
}

// newFamilyWorld gives the shared world. Without a Docker engine the test is skipped.
func newFamilyWorld(t *testing.T) *familyWorld {
	t.Helper()
	w := newEngineParts(t)
	theFamilies.Do(func() {
		theFamilies.familyWorld = &familyWorld{engineWorld: w}
		theFamilies.err = theFamilies.makeImage("fa", "")
	})
	if theFamilies.err != nil {
		t.Fatalf("NOT TESTED: %s", theFamilies.err)
	}
	return theFamilies.familyWorld
}

// makeImage builds an app of each family, or of one, by real Nix, and an image of them all.
func (w *familyWorld) makeImage(name, only string) error {
	dir, err := workDir()
	if err != nil {
		return err
	}
	if only == "" || only == "node" {
		if _, err := w.pkgs.Build(w.ctx, "nodejs"); err != nil {
			return err
		}
	}
	pkgs, err := w.rig.Families(w.ctx)
	if err != nil {
		return err
	}
	expression, err := filepath.Abs("testdata/families/families.nix")
	if err != nil {
		return err
	}
	args := []string{"-I", "recent=" + w.pkgs.Source, expression}
	if only != "" {
		args = append(args, "--argstr", "only", only)
	}
	paths, err := pkgs.Realise(w.ctx, args...)
	if err != nil {
		return err
	}
	w.store = pkgs.Store.Real("/nix/store")
	if w.cache, err = w.serve(paths[0]); err != nil {
		return err
	}
	w.source = filepath.Join(dir, name+"-source")
	if err := integration.WriteTree(w.source, map[string]string{"Procfile": "web: families $TASKS\n"}); err != nil {
		return err
	}
	w.image, err = w.build(name, paths[0], map[string]string{"BP_NIX_ENGINE": launch.EngineRelocate})
	return err
}

// TestFamilies runs an app of each family in an empty image that denies ptrace, namespaces and mounts, and takes
// relocation back.
func TestFamilies(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		onlyWhereAsked(t) // a scheduled workflow asks there
	}
	w := newFamilyWorld(t)
	for name := range families {
		t.Run(name, func(t *testing.T) { w.relocates(t, name) })
	}
	t.Run("undo", func(t *testing.T) {
		RegisterTestingT(t)
		Expect(w.intact()).To(BeNumerically(">", 100))
	})
}

// relocates compares what a family prints in an empty image with what it prints at /nix.
func (w *familyWorld) relocates(t *testing.T, name string) {
	RegisterTestingT(t)
	env := func() map[string]string { return map[string]string{launch.EngineEnv: launch.EngineNative} }
	atNix, err := w.giveTasks(w.image, host{image: w.images.Run, store: w.store, env: env()}, []string{name})
	Expect(err).NotTo(HaveOccurred())
	Expect(atNix[name]).NotTo(ContainSubstring("FAILED with"))
	for _, word := range families[name] {
		Expect(atNix[name]).To(ContainSubstring(word))
	}
	relocated := host{image: w.images.RunScratch, confinement: rig.Hostile, env: map[string]string{}}
	if name == "r" {
		relocated.image = w.images.Run // R asks /bin/sh for the system's name when it starts
	}
	got, err := w.giveTasks(w.image, relocated, []string{name})
	Expect(err).NotTo(HaveOccurred())
	Expect(got[name]).To(Equal(atNix[name]), "all of it:\n%s", got[name])
}

// intact has relocation taken back, and gives how many store paths are then as they were signed: all of them.
func (w *familyWorld) intact() int {
	verify := exec.Command(filepath.Join(w.buildpack.Dir, "bin/verify"), "--key", w.key.Public, w.image.Layers())
	out, err := verify.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "%s", out)
	Expect(string(out)).To(ContainSubstring(" 0 altered, 0 signed by no trusted key"))
	return strings.Count(string(out), "intact    /nix/store/")
}
