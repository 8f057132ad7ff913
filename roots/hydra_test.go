package roots_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

func TestAskingHydra(t *testing.T) { spec.Run(t, "a Hydra job", testAskingHydra) }

// testAskingHydra asks the stand-in for store paths that are only names: nothing is evaluated, and of caches only
// narinfos are read.
func testAskingHydra(t *testing.T, _ spec.G, it spec.S) {
	const (
		repository = "https://git.example.org/shop.git"
		system     = "x86_64-linux"
	)
	var (
		h        *hydratest.Server
		eval     *hydratest.Eval
		binaries string // the directory of the cache that is asked
		log      []string
		ctx      = context.Background()
	)
	revision := hydratest.Revision("shop")
	job := func(name, system string, outputs ...string) hydratest.Job {
		paths := map[string]string{}
		for _, output := range outputs {
			paths[output] = hydratest.StorePath(name+system+output, name+"-1.0")
		}
		return hydratest.Job{Name: name + "." + system, System: system, Outputs: paths}
	}
	// has writes narinfos.
	has := func(dir string, paths ...storepath.Path) {
		for _, p := range paths {
			text := fmt.Sprintf("StorePath: %s\nURL: nar/x.nar.xz\nCompression: xz\nNarHash: sha256:%s\nNarSize: 120\nReferences: \n",
				p, "1"+strings.Repeat("0", 51))
			Expect(os.WriteFile(filepath.Join(dir, p.HashPart()+".narinfo"), []byte(text), 0o644)).To(Succeed())
		}
	}
	// signed adds a signature to all narinfos of a directory.
	signed := func(dir string) {
		files, err := filepath.Glob(filepath.Join(dir, "*.narinfo"))
		Expect(err).NotTo(HaveOccurred())
		for _, file := range files {
			text, err := os.ReadFile(file)
			Expect(err).NotTo(HaveOccurred())
			text = fmt.Appendf(text, "Sig: a-1:%s==\n", strings.Repeat("A", 86))
			Expect(os.WriteFile(file, text, 0o644)).To(Succeed())
		}
	}
	output := func(job string) storepath.Path { return storepath.Path(eval.Build(job).Outputs()["out"]) }
	find := func(change ...func(*roots.Finder)) (roots.Result, error) {
		f := roots.Finder{
			Settings: roots.Settings{HydraURL: h.URL, HydraJob: "shop/main/web worker", System: system},
			Identity: nixinstall.Identity{Rev: revision, URL: repository},
			Servers:  cache.Options{Getenv: func(string) string { return "" }},
			Caches: func() (*cache.Set, error) {
				return cache.Open(ctx, cache.Options{URLs: []string{"file://" + binaries}})
			},
			Log: func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) },
		}
		for _, c := range change {
			c(&f)
		}
		return f.Find(ctx)
	}
	notCached := func(err error) *roots.NotCachedError {
		t.Helper()
		var typed *roots.NotCachedError
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		return typed
	}
	it.Before(func() {
		RegisterTestingT(t)
		h, log, binaries = hydratest.New(), nil, t.TempDir()
		Expect(os.WriteFile(filepath.Join(binaries, "nix-cache-info"), []byte("StoreDir: /nix/store\n"), 0o644)).To(Succeed())
		eval = h.Project("shop").Jobset("main").Evaluate(hydratest.Evaluation{
			Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: revision}},
			Jobs: []hydratest.Job{job("web", system, "out", "dev"), job("worker", system, "out", "bin"),
				job("heroku-compile-hook", system, "out"), job("only", "aarch64-linux", "out")},
		}).Succeed()
	})
	it.After(func() { h.Close() })

	it("takes of each build the programs, else the default output, and separates the hook", func() {
		bin := storepath.Path(eval.Build("worker." + system).Outputs()["bin"])
		has(binaries, output("web."+system), bin, output("heroku-compile-hook."+system))
		found, err := find(func(f *roots.Finder) { f.Settings.HydraJob = "shop/main/web worker heroku-compile-hook" })
		Expect(err).NotTo(HaveOccurred())
		Expect(found.Paths).To(Equal([]storepath.Path{output("web." + system), bin}))
		Expect(found.Hook).To(Equal(output("heroku-compile-hook." + system)))
		Expect(strings.Join(log, "\n")).To(ContainSubstring(fmt.Sprintf("build %d, web-1.0", eval.Build("web."+system).ID)))
	})

	it("asks for nothing without a revision, and by the one that the settings name", func() {
		has(binaries, output("web."+system))
		web := func(f *roots.Finder) {
			f.Settings.HydraJob = "shop/main/web"
			f.Identity = nixinstall.Identity{}
		}
		_, err := find(web)
		Expect(err).To(MatchError(roots.ErrNoRevision))
		Expect(h.Requests()).To(BeEmpty())
		for _, given := range []string{strings.ToUpper(revision), revision[:8], "latest", "latest-finished"} {
			found, err := find(web, func(f *roots.Finder) { f.Settings.GitRev = given })
			Expect(err).NotTo(HaveOccurred(), given)
			Expect(found.Paths).To(HaveLen(1))
		}
	})

	it("asks nobody by a job or an address that is none", func() {
		_, err := find(func(f *roots.Finder) { f.Settings.HydraJob = "shop" })
		Expect(err).To(MatchError(ContainSubstring(`"shop"`)))
		_, err = find(func(f *roots.Finder) { f.Settings.HydraURL = "ftp://hydra" })
		Expect(err).To(MatchError(ContainSubstring("reading Hydra's address")))
		Expect(h.Requests()).To(BeEmpty())
	})

	it("fails where only the hook is asked for, and where there are no caches", func() {
		_, err := find(func(f *roots.Finder) { f.Settings.HydraJob = "shop/main/heroku-compile-hook" })
		Expect(err).To(MatchError(ContainSubstring("has no outputs for shop/main/heroku-compile-hook")))
		none := errors.New("none")
		_, err = find(func(f *roots.Finder) { f.Caches = func() (*cache.Set, error) { return nil, none } })
		Expect(err).To(MatchError(none))
	})

	it("takes an output once that two jobs have", func() {
		eval = h.Project("shop").Jobset("main").Evaluate(hydratest.Evaluation{
			Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: revision}},
			Jobs: []hydratest.Job{{Name: "web", System: system, Outputs: map[string]string{"out": hydratest.StorePath("same", "same")}},
				{Name: "worker", System: system, Outputs: map[string]string{"out": hydratest.StorePath("same", "same")}}},
		}).Succeed()
		has(binaries, output("web"))
		found, err := find()
		Expect(err).NotTo(HaveOccurred())
		Expect(found.Paths).To(HaveLen(1))
	})

	it("says before anything is downloaded that a job is there for another system only", func() {
		_, err := find(func(f *roots.Finder) { f.Settings.HydraJob = "shop/main/only" })
		var typed *hydra.SystemError
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(typed.Have).To(Equal([]string{"aarch64-linux"}))
	})

	it("says which of several outputs the caches lack, and what Hydra's own store has", func() {
		has(binaries, output("web."+system))
		built := func() roots.Finding {
			e := notCached(errOf(find()))
			Expect(e.Have).To(Equal(1))
			Expect(e.Missing).To(Equal([]storepath.Path{storepath.Path(eval.Build("worker." + system).Outputs()["bin"])}))
			Expect(e.Proven()).To(BeTrue())
			Expect(e.Findings).To(HaveLen(1))
			return e.Findings[0]
		}
		Expect(built().Kinds).To(Equal([]roots.Kind{roots.Uploaded}))
		own := t.TempDir()
		h.Store(own)
		collected := built()
		Expect(collected.Kinds).To(Equal([]roots.Kind{roots.Collected}))
		Expect(collected.Text).To(HaveSuffix("); it has been garbage-collected from Hydra's own store"))

		has(own, notCached(errOf(find())).Missing...)
		unsigned := built()
		Expect(unsigned.Kinds).To(Equal([]roots.Kind{roots.HydraUnsigned}))
		Expect(unsigned.Text).To(HaveSuffix("); Hydra serves it itself, without a signature"))
		Expect(unsigned.Facts).To(Equal([]string{"hydra", h.URL}))

		signed(own)
		serves := built()
		Expect(serves.Kinds).To(Equal([]roots.Kind{roots.HydraServes}))
		Expect(serves.Text).To(HaveSuffix("); Hydra serves it itself, signed by a-1"))
		Expect(serves.Facts).To(Equal([]string{"hydra", h.URL, "key", "a-1"}))
	})

	it("names the caches that the source lists for Nix where Hydra has built it", func() {
		source := t.TempDir()
		Expect(os.WriteFile(filepath.Join(source, "flake.nix"), []byte(`{ nixConfig.extra-substituters = [ "https://a.example"
			"file://`+binaries+`" ]; nixConfig.extra-trusted-public-keys = [ "a-1:x=" ]; outputs = _: { }; }`), 0o644)).To(Succeed())
		in := func(f *roots.Finder) {
			f.Source, f.Servers.Getenv = source, func(name string) string {
				return map[string]string{"NIX_CONFIG": "extra-substituters = https://b.example"}[name]
			}
		}
		findings := notCached(errOf(find(in))).Findings
		Expect(findings).To(HaveLen(1))
		Expect(findings[0].Kinds).To(Equal([]roots.Kind{roots.Uploaded, roots.Configured}))
		Expect(findings[0].Text).To(HaveSuffix(")\nnixConfig of flake.nix, NIX_CONFIG lists what is not obeyed here"))
		Expect(findings[0].Facts[2:]).To(Equal([]string{"caches", "https://a.example https://b.example", "keys", "a-1:x="}))
		h.Store(t.TempDir())
		Expect(notCached(errOf(find(in))).Findings).To(ConsistOf(HaveField("Kinds", []roots.Kind{roots.Collected})))
	})

	it("does not say that no cache has it where one could not be asked", func() {
		source := t.TempDir()
		Expect(os.WriteFile(filepath.Join(source, "nix.conf"), []byte("substituters = https://a.example"), 0o644)).To(Succeed())
		asked := func(f *roots.Finder) {
			f.Source = source
			f.Caches = func() (*cache.Set, error) {
				return cache.Open(ctx, cache.Options{URLs: []string{"file://" + binaries, h.URL}})
			}
		}
		h.Store(t.TempDir())
		h.OnRequest(func(_ int, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".narinfo") {
				h.Fail(hydratest.Fault{Status: 401, Body: "no"})
			}
		})
		e := notCached(errOf(find(asked)))
		Expect(e.Proven()).To(BeFalse(), "%v", e.Findings)
		Expect(e.Findings[0].Text).To(ContainSubstring("401"))
		Expect(e.Findings[1].Kinds).To(Equal([]roots.Kind{roots.Uploaded}))
		Expect(e.Findings[2].Kinds).To(Equal([]roots.Kind{roots.Configured}))
	})

	it("repeats no control characters of Hydra's in the log", func() {
		odd := "evil\r\x1b[2K\nEngine: relocate\u0085"
		eval = h.Project("shop").Jobset("main").Evaluate(hydratest.Evaluation{
			Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: revision}},
			Jobs:   []hydratest.Job{{Name: odd, NixName: odd, System: system, Outputs: map[string]string{"out": hydratest.StorePath("odd", "odd")}}},
		}).Succeed()
		has(binaries, output(odd))
		_, err := find(func(f *roots.Finder) { f.Settings.HydraJob = "shop/main" })
		Expect(err).NotTo(HaveOccurred())
		Expect(strings.Join(log, "")).To(And(ContainSubstring("evil"), Not(MatchRegexp(`[[:cntrl:]]|\x{85}`))))
	})

	it("takes no path on Hydra's word that only its content address proves", func() {
		sum := sha256.Sum256([]byte("what an attacker would have run"))
		p, err := storepath.Make("source", sum, "web-1.0")
		Expect(err).NotTo(HaveOccurred())
		text := fmt.Sprintf("StorePath: %s\nURL: nar/x.nar\nCompression: none\nNarHash: %s\nNarSize: 120\nReferences: \nCA: fixed:r:%[2]s\n",
			p, storepath.Hash(sum))
		Expect(os.WriteFile(filepath.Join(binaries, p.HashPart()+".narinfo"), []byte(text), 0o644)).To(Succeed())
		h.Project("shop").Jobset("main").Evaluate(hydratest.Evaluation{
			Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: revision}},
			Jobs:   []hydratest.Job{{Name: "web", System: system, Outputs: map[string]string{"out": p.String()}}},
		}).Succeed()
		key := ed25519.NewKeyFromSeed(sum[:]).Public().(ed25519.PublicKey)
		_, err = find(func(f *roots.Finder) {
			f.Settings.HydraJob = "shop/main/web"
			f.Caches = func() (*cache.Set, error) {
				return cache.Open(ctx, cache.Options{URLs: []string{"file://" + binaries}, RequireSigs: true,
					Keys: narinfo.Keys{{Name: "hydra-1", Key: key}}})
			}
		})
		var typed *roots.UnsignedRootError
		Expect(errors.As(err, &typed)).To(BeTrue(), "%v", err)
		Expect(typed.Path).To(Equal(p))
		Expect(err).To(MatchError(And(ContainSubstring(h.URL), ContainSubstring("lacks a signature by a trusted key"))))
		found, err := find(func(f *roots.Finder) { f.Settings.HydraJob = "shop/main/web" })
		Expect(err).NotTo(HaveOccurred(), "where none is required")
		Expect(found.Paths).To(Equal([]storepath.Path{p}))
	})

	it("looks into a private Hydra's own store with the login of its host", func() {
		h.Private("deploy", "hunter2")
		h.Store(t.TempDir())
		login := func(f *roots.Finder) {
			f.Servers.Credentials = []cache.Credential{{URL: h.URL, Username: "deploy", Password: "hunter2"}}
		}
		Expect(notCached(errOf(find(login))).Findings[0].Kinds).To(Equal([]roots.Kind{roots.Collected}))
		logins := 0
		for _, r := range h.Requests() {
			if r.Method == http.MethodPost {
				logins++
			}
		}
		Expect(logins).To(Equal(2), "one for its pages, one for its store")
		_, err := find()
		var refused *hydra.LoginError
		Expect(errors.As(err, &refused)).To(BeTrue(), "%v", err)
	})
}

func errOf(_ roots.Result, err error) error { return err }
