package integration_test

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// TestRebuilds builds again after all that can have happened in between.
func TestRebuilds(t *testing.T) {
	suite := spec.New("rebuilds", spec.Report(report.Terminal{}), spec.Sequential())
	suite("changes", testChanges)
	suite("moves", testMoves)
	suite("doubts", testDoubts)
	suite("state", testState)
	suite("killed", testKilled)
	suite("many pushes", testManyPushes)
	suite.Run(t)
}

// layersFormat is what a record says of its layers' format.
var layersFormat = fmt.Sprintf(`"format":%d,"prefix"`, closure.Format)

// intact has the buildpack's own verify command prove every path of the image.
func (k *deployment) intact() {
	k.t.Helper()
	k.provenBy(realParts(k.t).key.Public)
}

// provenBy is intact with another key.
func (k *deployment) provenBy(key string) {
	k.t.Helper()
	out, err := exec.Command(filepath.Join(k.bare.Buildpack.Dir, "bin/verify"), "--key", key,
		k.bare.Layers()).CombinedOutput()
	Expect(err).WithOffset(1).NotTo(HaveOccurred(), "%s", out)
}

// runs starts the app.
func (k *deployment) runs(version string) {
	k.t.Helper()
	Expect(k.bare.Start(context.Background(), "shop")).WithOffset(1).To(Equal("shop " + version + "\n"))
}

// chain is an app on a leaf on a library, each with a version.
func chain(app, leaf, library string) map[string]string {
	return map[string]string{
		"shell.nix": pinned + `let
  library = programs "library-` + library + `" { library = "echo library ` + library + `"; };
  leaf = programs "leaf-` + leaf + `" { leaf = "${library}/bin/library; echo leaf ` + leaf + `"; };
  beside = programs "beside" { beside = "${library}/bin/library"; };
in programs "app-` + app + `" { shop = "${leaf}/bin/leaf; ${beside}/bin/beside; echo app ` + app + `"; }
`,
		"Procfile": "web: run_proot.sh shop\n",
	}
}

func testChanges(t *testing.T, _ spec.G, it spec.S) {
	it("fetches the paths that are new and no others, whatever has changed", func() {
		RegisterTestingT(t)
		k := &deployment{t: t, bare: bare(t, "c")}
		moved := func(app, leaf, library string) (nars int, log string) {
			d := source(t, chain(app, leaf, library))
			o := k.builds(d.source, d.env(realParts(t)))
			k.intact()
			said, err := k.bare.Start(context.Background(), "shop")
			must(err)
			Expect(said).To(Equal(fmt.Sprintf("library %s\nleaf %s\nlibrary %s\napp %s\n", library, leaf, library, app)))
			nars, _ = d.server.Traffic(".nar.zst")
			return nars, o.Log
		}
		whole, log := moved("1", "1", "1")
		Expect(log).To(MatchRegexp(everythingFetched))
		n, log := moved("2", "1", "1")
		Expect(n).To(Equal(1))
		Expect(log).To(MatchRegexp(`Closure layers: 1 of \d+ changed`))
		// A small path is grouped with others, which are fetched with it: two or four are new here.
		n, log = moved("2", "2", "1")
		Expect(n).To(And(BeNumerically(">=", 2), BeNumerically("<=", 4)), log)
		n, log = moved("2", "2", "2")
		Expect(n).To(And(BeNumerically(">=", 4), BeNumerically("<", whole/2)), log)
		n, log = moved("1", "1", "1")
		Expect(n).To(And(BeNumerically(">=", 4), BeNumerically("<", whole/2)), log)
	})

	it("says in the end, in two lines, what was reused, fetched and removed, and how many layers changed", func() {
		k := newDeployment(t)
		o := k.builds(k.app.source, nil)
		summary := regexp.MustCompile(`Store paths: \d+ paths? \(.*B\) reused, none fetched, none removed
\s+Closure layers: 0 of \d+ changed\n`)
		Expect(o.Log).To(MatchRegexp(summary.String()))
	})

	it("evaluates again when settings or source have changed, and only then", func() {
		k := newDeployment(t)
		Expect(k.builds(k.app.source, nil).Log).To(ContainSubstring("store paths are taken again"))
		Expect(k.builds(k.changed("README", "x"), nil).Log).To(ContainSubstring("Evaluated shell.nix"))
		Expect(k.builds(k.app.source, map[string]string{"BP_NIX_ATTRS": "shop helper"}).Log).To(ContainSubstring("Evaluated shell.nix"))
	})

	it("does not trust what an earlier build took without signatures, or by a key that is not trusted any more", func() {
		k := newDeployment(t)
		stranger, err := realParts(t).rig.Key(t.Context(), "stranger-1")
		must(err)
		resigned := t.TempDir()
		store, err := realParts(t).rig.Store(t.Context())
		must(err)
		must(store.Cache(t.Context(), resigned, rig.CacheOptions{Key: stranger}, append(k.app.paths, realParts(t).pkgs.Source)...))
		server, err := rig.Serve(resigned, rig.ServeOptions{})
		must(err)
		defer server.Close()
		o := k.builds(k.app.source, map[string]string{
			"BP_NIX_SUBSTITUTERS": server.URL, "BP_NIX_TRUSTED_PUBLIC_KEYS": stranger.Public,
		})
		Expect(o.Log).To(SatisfyAll(MatchRegexp(everythingFetched), ContainSubstring("which is not trusted any more")))
		unsigned := map[string]string{"BP_NIX_TRUSTED_PUBLIC_KEYS": "", "BP_NIX_REQUIRE_SIGS": "false"}
		must(k.bare.NewImage())
		k.builds(k.app.source, unsigned)
		o = k.builds(k.app.source, nil)
		Expect(o.Log).To(SatisfyAll(MatchRegexp(everythingFetched), ContainSubstring("not signed by anybody")))
		k.intact()
	})
}

func testMoves(t *testing.T, _ spec.G, it spec.S) {
	var k *deployment
	it.Before(func() { k = newDeployment(t) })

	it("moves between engines", func() {
		for _, engine := range []string{"proot", "relocate", "userns", "auto", "native", "relocate"} {
			o := k.builds(k.app.source, map[string]string{"BP_NIX_ENGINE": engine})
			if engine == "relocate" || engine == "auto" {
				Expect(o.Log).To(ContainSubstring("Engine: relocate"))
				k.runs("1.0")
			}
			k.intact()
		}
	})

	it("moves between layers directories", func() {
		other := bare(t, "o")
		must(os.MkdirAll(other.Layers(), 0o755))
		must(os.CopyFS(filepath.Join(other.Layers(), "record"), os.DirFS(filepath.Join(k.bare.Layers(), "record"))))
		analyzed, err := os.ReadFile(filepath.Join(k.bare.Dir, "analyzed.toml"))
		must(err)
		must(os.WriteFile(filepath.Join(other.Dir, "analyzed.toml"), analyzed, 0o644))
		other.Env, k.bare = k.bare.Env, other
		o := k.builds(k.app.source, nil)
		Expect(o.Log).To(SatisfyAll(MatchRegexp(everythingFetched), MatchRegexp(`not reused: relocated to .*/b/l/view, not to .*/o/l/view`)))
		Expect(strings.Count(o.Log, "not reused")).To(Equal(1))
		k.intact()
		k.runs("1.0")
	})

	it("moves between versions, architectures and records of any kind, with one line that says why", func() {
		system := map[string]string{"amd64": "x86_64-linux", "arm64": "aarch64-linux"}[runtime.GOARCH]
		record := filepath.Join(k.bare.Layers(), "record/build.json")
		for _, move := range []struct{ from, to, says string }{
			{`"format":4`, `"format":5`, "it is in format 5, this version writes 4"},
			{`"system":"` + system + `"`, `"system":"riscv64-linux"`, `it is for "riscv64-linux"`},
			{`"format":`, `format:`, "invalid character"},
			{layersFormat, `"format":0,"prefix"`, "made in format 0"},
			{`"version":2`, `"version":3`, "described in version 3"},
			{`"paths":["`, `"paths":["x`, "parsing store path"},
		} {
			text, err := os.ReadFile(record)
			must(err)
			altered := strings.ReplaceAll(string(text), move.from, move.to)
			Expect(altered).NotTo(Equal(string(text)), "%s: %s", move.from, text)
			must(os.WriteFile(record, []byte(altered), 0o644))
			o := k.builds(k.app.source, nil)
			Expect(o.Log).To(SatisfyAll(MatchRegexp(everythingFetched), ContainSubstring(move.says)), move.to)
			k.intact()
			k.runs("1.0")
			k.stands()
		}
	})

	it("evaluates rightly when what was kept of the last evaluation is damaged, and with a damaged toolchain", func() {
		next := source(t, shop("2.0"))
		damage := func(layer string) {
			must(filepath.WalkDir(filepath.Join(k.bare.Layers(), layer), func(name string, entry fs.DirEntry, err error) error {
				if err != nil || !entry.Type().IsRegular() {
					return err
				}
				info, err := entry.Info()
				if err != nil || info.Size() == 0 {
					return err
				}
				must(os.Chmod(name, 0o644))
				file, err := os.OpenFile(name, os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = file.WriteAt([]byte("damaged"), info.Size()/2)
				return err
			}))
		}
		for layer, says := range map[string]string{
			"eval": "What was kept of earlier evaluations is not used: unpacking", "nix": "The cached Nix cannot be used",
		} {
			damage(layer)
			o := k.builds(next.source, map[string]string{"BP_NIX_SUBSTITUTERS": next.server.URL})
			Expect(o.Log).To(SatisfyAll(ContainSubstring("Evaluated shell.nix"), ContainSubstring(says)))
			k.intact()
			k.runs("2.0")
			k.builds(k.app.source, nil)
		}
	})
}

func testKilled(t *testing.T, _ spec.G, it spec.S) {
	it("builds rightly after a build was killed at any moment", func() {
		k := newDeployment(t)
		next := source(t, shop("2.0"))
		dice := rand.New(rand.NewPCG(1, 2))
		settings := map[string]string{"BP_NIX_SUBSTITUTERS": next.server.URL}
		took := k.builds(next.source, settings).Elapsed
		for i, stopped := 0, 0; stopped < 8; i++ {
			Expect(i).To(BeNumerically("<", 40), "a build that ends before it is killed is not one")
			if i%2 == 0 {
				must(k.bare.NewImage())
			} else {
				k.builds(k.app.source, nil)
			}
			k.bare.KillAfter = time.Duration(dice.Int64N(int64(took))) + time.Millisecond
			o, err := k.bare.Build(t.Context(), next.source, settings)
			must(err)
			k.bare.KillAfter = 0
			if o.Status == 0 { // the machine does less else than when the first was measured
				took = min(took, o.Elapsed)
				continue
			}
			stopped++
			k.builds(next.source, settings)
			k.intact()
			k.runs("2.0")
		}
	})
}

func testManyPushes(t *testing.T, _ spec.G, it spec.S) {
	const pushes = 100
	it("keeps in image and caches what the last of a hundred pushes needs", func() {
		RegisterTestingT(t)
		f := newForge(t, "cache-1", "secret")
		k := &deployment{t: t, bare: bare(t, "m")}
		k.bare.Env = f.env("BP_NIX_MAX_LAYERS", "20")
		// A library for all, six dependencies, of which one changes at every third push, and the app, which always does.
		version := func(push, i int) string { return fmt.Sprintf("dep%d-%d", i, (push+3*i)/18) }
		var apps []string
		for push := range pushes {
			apps = append(apps, fmt.Sprintf("shop-%d", push))
		}
		outputs := outputsOf(t, apps...)
		library := f.forged("library-1", map[string]string{"lib/a": strings.Repeat("library ", 50_000)})
		build := func(push int) *integration.Outcome {
			refs := []storepath.Path{library}
			for i := range 6 {
				refs = append(refs, f.forged(version(push, i), map[string]string{
					"lib/a": strings.Repeat(version(push, i), 20_000), "lib/b": library.String(),
				}, library))
			}
			f.add(outputs[push], map[string]string{"bin/shop": script("push " + fmt.Sprint(push)), "refs": storePaths(refs...)},
				refs...)
			noise := make([]byte, 2<<20)
			_, _ = rand.NewChaCha8([32]byte{byte(push)}).Read(noise)
			return k.builds(sourceOf(t, map[string]string{
				"shell.nix": derivationOf(apps[push]), "noise": string(noise), "Procfile": "web: run_proot.sh shop\n",
			}), nil)
		}
		// What the caches hold, and how many layers of the closure there are.
		sizes := func() (nix, eval int64, layers int) {
			metadata, err := filepath.Glob(filepath.Join(k.bare.Layers(), "closure-*.toml"))
			must(err)
			return directorySize(filepath.Join(k.bare.Layers(), "nix")), directorySize(filepath.Join(k.bare.Layers(), "eval")),
				len(metadata)
		}
		temporary := filepath.Join(k.bare.Dir, "tmp")
		build(0)
		nix, eval, _ := sizes()
		Expect(eval).To(BeNumerically(">", 2<<20), "the source is in there")
		before, err := os.ReadDir(temporary)
		must(err)
		for push := 1; push < pushes; push++ {
			o := build(push)
			Expect(o.Log).To(ContainSubstring("Evaluated shell.nix"))
			nowNix, nowEval, layers := sizes()
			Expect(nowNix).To(Equal(nix))
			Expect(nowEval).To(BeNumerically("<", eval+eval/20), "push %d", push)
			Expect(layers).To(BeNumerically("<=", 20))
		}
		Expect(k.bare.Start(context.Background(), "shop")).To(Equal("push 99\n"))
		k.provenBy(f.public())

		kept, err := filepath.Glob(filepath.Join(k.bare.Layers(), "closure-*/*-*"))
		must(err)
		Expect(kept).To(HaveLen(8), "the app, its six dependencies and the library, each once")
		links, err := os.ReadDir(filepath.Join(k.bare.Layers(), "view"))
		must(err)
		Expect(links).To(HaveLen(len(kept)))
		for _, link := range links {
			Expect(filepath.Join(k.bare.Layers(), "view", link.Name())).To(BeADirectory())
		}
		left, err := os.ReadDir(temporary)
		must(err)
		Expect(left).To(HaveLen(len(before)), "nothing is left in the directory for temporary files")
	})
}

// directorySize is the sum of the sizes of the files below a directory.
func directorySize(dir string) (sum int64) {
	must(filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	}))
	return sum
}
