package nixproot

import (
	"errors"
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

func TestReport(t *testing.T) { spec.Run(t, "report", testReport) }

func testReport(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("says the proven reason, what to do about it, what was tried and what the caches said", func() {
		e := &roots.NotCachedError{
			Entry: "default.nix", Missing: []storepath.Path{shop}, Build: []storepath.Path{shopB + ".drv"},
			Names: []string{"source", "git-export"}, Asked: []cache.Answer{{URL: "https://cache.example.org", Why: "not there"}},
			Findings: []roots.Finding{roots.UploadDiffers{
				Files: roots.FileDiff{roots.Extra: {"x"}}, From: "commit 0123456",
				Restored: []storepath.Path{shopB}, Name: "source",
			}},
			RuledOut: []string{"the moon"},
		}
		err := explain(fmt.Errorf("a step: %w", e))
		Expect(errors.As(err, &e)).To(BeTrue())
		Expect(err.Error()).To(Equal(
			"no binary cache has " + shop.Base() + `, and nothing is compiled here

The reason:
  1. the upload is not what Hydra fetches (compared with commit 0123456):
       in the upload, not in git: x
       Without that difference it is ` + shopB.Base() + `, in a source named source, and the caches have it
     → remove them before the upload (git clean -xd --dry-run lists them), or name them in .dockerignore or ` +
				`project.toml's [io.buildpacks] exclude; or commit them, so that Hydra has them, too

What was tried: default.nix was evaluated in a source named source, git-export.
What would have to be built: ` + shopB.Name() + `.
What the caches said:
  https://cache.example.org: not there`))
	})

	it("says what may be the reason, that Hydra was not asked, and what is none", func() {
		e := &roots.NotCachedError{
			Entry: "evaluation 7 of https://hydra.example.org", Missing: []storepath.Path{shop}, Have: 2,
			Findings: []roots.Finding{roots.Impure{Kind: nixinstall.Environment, Places: []string{"a.nix:1: builtins.getEnv"}}},
			RuledOut: []string{"the upload"},
		}
		text := explain(e).Error()
		Expect(text).To(HavePrefix("no binary cache has " + shop.Base() + `, and nothing is compiled here

What may be the reason, the likeliest first:
  1. variables of the environment are read at a.nix:1: builtins.getEnv; they are empty here, and Hydra's may not be
     → make it an argument with a default, and give its value in BP_NIX_ARGS=name=value
  2. Hydra may not build this at all`))
		Expect(text).To(HaveSuffix(`
What was tried: evaluation 7 of https://hydra.example.org.
What the caches have: 2 of the 3 outputs wanted.
What the caches said:
What is not the reason:
  - the upload`))
		e.HydraAsked = true
		Expect(explain(e).Error()).NotTo(ContainSubstring("Hydra may not build this"))
	})

	build := hydra.Build{ID: 7, Project: "shop", Jobset: "main", Job: "app", Finished: true, URL: "https://h/build/7"}
	for name, c := range sorted(map[string]struct {
		finding roots.Finding
		words   []string
	}{
		"Hydra's own store, signed": {roots.HydraBuild{Build: build, Store: &roots.HydraStore{URL: "https://h",
			Keys: []string{"h-1"}}}, []string{"signed by h-1", "NIX_EXTRA_BINARY_CACHE=https://h", "the public key h-1"}},
		"Hydra's own store, unsigned": {roots.HydraBuild{Build: build, Store: &roots.HydraStore{URL: "https://h"}},
			[]string{"without a signature", "binary_cache_secret_key_file", "BP_NIX_REQUIRE_SIGS=false is the only way"}},
		"an output that was garbage-collected": {roots.HydraBuild{Build: build,
			Store: &roots.HydraStore{URL: "https://h", Collected: true}},
			[]string{"no cache that was asked has it (build 7 of shop/main/app: https://h/build/7)", "garbage-collected", "restart the build"}},
		"an output in no store that is known": {roots.HydraBuild{Build: build}, []string{"name the cache that this Hydra uploads to"}},
		"a build that is not finished": {roots.HydraBuild{Build: hydra.Build{ID: 7, Project: "shop", Jobset: "main", Job: "app"}},
			[]string{"has not finished building it", "BP_NIX_HYDRA_WAIT=30m", "BP_NIX_HYDRA_JOB=shop/main/app"}},
		"a failed build": {roots.HydraBuild{Build: build, Failure: errors.New("step 1 failed")},
			[]string{"Hydra could not build it: step 1 failed", "look at the log"}},
		"Hydra's builds for another system": {roots.OtherSystem{Who: "Hydra builds", Name: "app-1", System: "aarch64-linux",
			Have: []string{"x86_64-linux"}, At: build.URL},
			[]string{"Hydra builds app-1 for x86_64-linux, not for aarch64-linux", "add aarch64-linux to the jobset",
				"build the image for linux/amd64"}},
		"a deep clone": {roots.OtherBuild{Build: build, OfCommit: true, DeepClone: "input src of the jobset is a deep clone (https://git.example/x main 1)"},
			[]string{"input src of the jobset is a deep clone", "BP_NIX_HYDRA_JOB=shop/main/app", "the third word"}},
		"nested submodules": {roots.UploadDiffers{Files: roots.FileDiff{roots.Nested: {"a/b"}}}, []string{"submodules of submodules", ": a/b", "--recursive"}},
		"another derivation": {roots.OtherBuild{Build: build, Commit: "c0ffee", OfCommit: true, Inputs: "flags=-O3"},
			[]string{"Hydra has built this revision", "flags=-O3", "BP_NIX_HYDRA_JOB=shop/main/app"}},
		"a build of another revision": {roots.OtherBuild{Build: build, Name: "app", Commit: "c0ffee", Inputs: "src=aa"},
			[]string{"Hydra has built app, last from src=aa", "not from c0ffee", "push this commit", "BP_NIX_HYDRA_JOB=shop/main/app"}},
		"caches that a source lists": {roots.ConfiguredCaches{ListedCaches: nixinstall.ListedCaches{
			From:              []string{"nixConfig of flake.nix", "nix.conf"},
			Substituters:      []string{"https://a.example", "https://me:secret@b.example"},
			TrustedPublicKeys: []string{"a-1:x="}}},
			[]string{"nixConfig of flake.nix, nix.conf lists", `NIX_EXTRA_BINARY_CACHE="https://a.example https://b.example"`,
				`BP_NIX_TRUSTED_PUBLIC_KEYS="a-1:x="`}},
		"a key that is not trusted": {roots.CacheAnswer{Answer: cache.Answer{URL: "https://c", Reason: cache.Untrusted,
			Why: "the path lacks a signature by a trusted key: signed by b-1", Keys: []string{"b-1"}}},
			[]string{"lacks a signature by a trusted key", `BP_NIX_TRUSTED_PUBLIC_KEYS="b-1:<its public key in base64>"`}},
		"what a builder has to fetch": {roots.Imported{Names: []string{"source"}, Fetched: []string{"source from https://x.tar.gz"},
			Tarball: "https://x.tar.gz", SHA256: "0abc"},
			[]string{`builtins.fetchTarball { url = "https://x.tar.gz"; sha256 = "0abc"; }`, "have Hydra build source, too"}},
		"a search that took too long": {roots.HydraSilent{Err: &hydra.SearchTimeoutError{Text: "x", Problem: "statement timeout"}},
			[]string{"it took too long", "BP_NIX_HYDRA_JOB=project/jobset/job"}},
	}) {
		it("has advice for "+name, func() {
			text := explain(&roots.NotCachedError{Missing: []storepath.Path{shop}, Findings: []roots.Finding{c.finding},
				HydraAsked: true}).Error()
			for _, word := range c.words {
				Expect(text).To(ContainSubstring(word))
			}
			Expect(text).NotTo(ContainSubstring("me:secret"))
			Expect(text).NotTo(MatchRegexp(`\{[a-z]+\}`))
		})
	}
}
