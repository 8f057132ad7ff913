package nixproot

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

func TestExplainCaches(t *testing.T) {
	spec.Run(t, "advice", testExplainCaches)
}

func testExplainCaches(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	// says is what is said of a path that one cache gave this answer for.
	says := func(a cache.Answer) string {
		t.Helper()
		a.URL, a.Why = "https://cache.example", "why not"
		err := explain(fmt.Errorf("a step: %w", &cache.NotFoundError{Path: shop, Asked: []cache.Answer{a}}))
		Expect(err).To(MatchError(And(ContainSubstring(shop.String()), ContainSubstring("https://cache.example: why not"))))
		return err.Error()
	}

	it("gives the line to add for a key that nobody trusts yet, and the only way around", func() {
		trusted, err := narinfo.ParseKeys(defaultKey)
		Expect(err).NotTo(HaveOccurred())
		Expect(says(cache.Answer{Reason: cache.Untrusted, Keys: []string{"mine-1"}, Trusted: trusted})).To(And(
			ContainSubstring(`BP_NIX_TRUSTED_PUBLIC_KEYS="`+defaultKey+` mine-1:<its public key in base64>"`),
			ContainSubstring("BP_NIX_REQUIRE_SIGS=false is the only way")))
		Expect(says(cache.Answer{Reason: cache.Untrusted})).To(And(ContainSubstring("nix store sign"),
			ContainSubstring("BP_NIX_REQUIRE_SIGS=false is the only way")))
	})

	it("does not say to trust what was altered under a trusted key's name", func() {
		trusted, err := narinfo.ParseKeys(defaultKey)
		Expect(err).NotTo(HaveOccurred())
		Expect(says(cache.Answer{Reason: cache.Untrusted, Keys: []string{trusted[0].Name}, Trusted: trusted})).To(And(
			ContainSubstring("whether the path was altered"), Not(ContainSubstring("BP_NIX"))))
	})

	it("says where logins, proxies and caches are set", func() {
		Expect(says(cache.Answer{Reason: cache.Login})).To(And(ContainSubstring("nix-binary-cache"), ContainSubstring("netrc"),
			ContainSubstring("HTTPS_PROXY")))
		Expect(says(cache.Answer{Reason: cache.Down})).To(ContainSubstring("HTTPS_PROXY"))
		Expect(says(cache.Answer{Reason: cache.Absent})).To(ContainSubstring("NIX_EXTRA_BINARY_CACHE"))
		Expect(explain(&cache.OpenError{Asked: []cache.Answer{{Reason: cache.Login}}})).
			To(MatchError(ContainSubstring("nix-binary-cache")))
		Expect(explain(fmt.Errorf("a step: %w", cache.ErrNoKeys))).To(MatchError(And(
			ContainSubstring("BP_NIX_TRUSTED_PUBLIC_KEYS="), ContainSubstring("BP_NIX_REQUIRE_SIGS=false"))))
	})
}
