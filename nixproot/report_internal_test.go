package nixproot

import (
	"errors"
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

func TestReport(t *testing.T) { spec.Run(t, "report", testReport) }

func testReport(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("says the proven reason, what to do about it, what was tried and what the caches said", func() {
		e := &roots.NotCachedError{
			Entry: "default.nix", Missing: []storepath.Path{shop}, Build: []string{shopB.Name()},
			Names: []string{"source", "git-export"}, Asked: []cache.Answer{{URL: "https://cache.example.org", Why: "not there"}},
			Findings: []roots.Finding{{Text: "the upload is not what Hydra fetches:\nand this", Proven: true, Kinds: []roots.Kind{roots.ExtraFiles, roots.LostModes}}},
		}
		err := explain(fmt.Errorf("a step: %w", e))
		Expect(errors.As(err, &e)).To(BeTrue())
		Expect(err.Error()).To(Equal(
			"no binary cache has " + shop.Base() + `, and nothing is compiled here

The reason:
  1. the upload is not what Hydra fetches:
       and this
     → remove them before the upload (git clean -xd --dry-run lists them), or name them in ` +
				`project.toml's [io.buildpacks] exclude; or commit them, so that Hydra has them, too
     → upload in a way that keeps modes and links: from a checkout, not from an archive

What was tried: default.nix was evaluated in a source named source, git-export.
What would have to be built: ` + shopB.Name() + `.
What the caches said:
  https://cache.example.org: not there`))
	})

	it("says what may be the reason", func() {
		e := &roots.NotCachedError{
			Entry: "evaluation 7 of https://hydra.example.org", Missing: []storepath.Path{shop}, Have: 2,
			Findings: []roots.Finding{{Text: "a variable is read", Kinds: []roots.Kind{roots.Environment}}, {Text: "another"}},
		}
		text := explain(e).Error()
		Expect(text).To(HavePrefix("no binary cache has " + shop.Base() + `, and nothing is compiled here

What may be the reason, the likeliest first:
  1. a variable is read
     → make it an argument with a default, and give its value in BP_NIX_ARGS=name=value
  2. another
`))
		Expect(text).To(HaveSuffix(`
What was tried: evaluation 7 of https://hydra.example.org.
What the caches have: 2 of the 3 outputs wanted.
What the caches said:`))
	})

	for name, c := range sorted(map[string]struct {
		finding roots.Finding
		words   []string
	}{
		"Hydra's own store, signed": {roots.Finding{Kinds: []roots.Kind{roots.HydraServes}, Facts: []string{"hydra", "https://h", "key", "h-1"}},
			[]string{"NIX_EXTRA_BINARY_CACHE=https://h", "the public key h-1"}},
		"Hydra's own store, unsigned": {roots.Finding{Kinds: []roots.Kind{roots.HydraUnsigned}, Facts: []string{"hydra", "https://h"}},
			[]string{"NIX_EXTRA_BINARY_CACHE=https://h", "binary_cache_secret_key_file", "BP_NIX_REQUIRE_SIGS=false is the only way"}},
		"a build that is not finished": {roots.Finding{Kinds: []roots.Kind{roots.Unfinished}, Facts: []string{"job", "shop/main/app"}},
			[]string{"BP_NIX_HYDRA_WAIT=30m", "BP_NIX_HYDRA_JOB=shop/main/app"}},
		"a failed build": {roots.Finding{Err: &hydra.BuildFailedError{}}, []string{"look at the log"}},
		"Hydra's builds for another system": {roots.Finding{Err: &hydra.SystemError{System: "aarch64-linux", Have: []string{"x86_64-linux"}}},
			[]string{"add aarch64-linux to the jobset", "build the image for linux/amd64"}},
		"a build of another revision": {roots.Finding{Kinds: []roots.Kind{roots.OtherRevision}, Facts: []string{"job", "shop/main/app"}},
			[]string{"push this commit", "BP_NIX_HYDRA_JOB=shop/main/app"}},
		"a name that nothing builds": {roots.Finding{Kinds: []roots.Kind{roots.NeverBuilt}, Facts: []string{"name", "shop", "file", "app.nix"}},
			[]string{"shop = import ./app.nix { };"}},
		"caches that a source lists": {roots.Finding{Kinds: []roots.Kind{roots.Uploaded, roots.Configured},
			Facts: []string{"hydra", "https://h", "caches", "https://a https://b", "keys", "a-1:x="}},
			[]string{"name the cache that this Hydra uploads to", `NIX_EXTRA_BINARY_CACHE="https://a https://b"`, `BP_NIX_TRUSTED_PUBLIC_KEYS="a-1:x="`}},
		"caches that a source lists without a key": {roots.Finding{Kinds: []roots.Kind{roots.Configured}, Facts: []string{"caches", "https://a", "keys", ""}},
			[]string{`NIX_EXTRA_BINARY_CACHE="https://a"`, `BP_NIX_TRUSTED_PUBLIC_KEYS="<keys>"`}},
		"a key that is not trusted": {roots.Finding{Err: &cache.NotFoundError{Asked: []cache.Answer{{Reason: cache.Untrusted, Keys: []string{"b-1"}}}}},
			[]string{`BP_NIX_TRUSTED_PUBLIC_KEYS="b-1:<its public key in base64>"`}},
		"what a builder has to fetch": {roots.Finding{Kinds: []roots.Kind{roots.Fetched}, Facts: []string{"names", "source", "url", "https://x.tar.gz", "hash", "0abc"}},
			[]string{`builtins.fetchTarball { url = "https://x.tar.gz"; sha256 = "0abc"; }`, "have Hydra build source, too"}},
		"a search that took too long": {roots.Finding{Err: &hydra.SearchTimeoutError{Text: "x", Problem: "statement timeout"}},
			[]string{"BP_NIX_HYDRA_JOB=project/jobset/job"}},
	}) {
		it("has advice for "+name, func() {
			text := explain(&roots.NotCachedError{Missing: []storepath.Path{shop}, Findings: []roots.Finding{c.finding}}).Error()
			for _, word := range c.words {
				Expect(text).To(ContainSubstring(word))
			}
			Expect(text).NotTo(MatchRegexp(`\{[a-z]+\}`))
		})
	}
}
