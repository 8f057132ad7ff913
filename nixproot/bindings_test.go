package nixproot_test

import (
	"testing"

	"github.com/buildpacks/libcnb/v2"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixproot"
)

func testBindings(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	binding := func(secret map[string]string) libcnb.Bindings {
		return libcnb.Bindings{
			{Name: "db", Type: "postgresql", Secret: map[string]string{"uri": "x"}},
			{Name: "mine", Type: "Nix-Binary-Cache", Secret: secret},
		}
	}

	it("reads a private cache and leaves other bindings alone", func() {
		caches, err := nixproot.ReadCacheBindings(binding(map[string]string{
			"url": "https://cache.example.org", "public-key": testKey, "username": "u", "password": "p",
		}))
		Expect(err).NotTo(HaveOccurred())
		Expect(caches).To(Equal([]nixproot.CacheBinding{{
			Name: "mine", URL: "https://cache.example.org", PublicKeys: testKey, Username: "u", Password: "p",
		}}))
	})

	it("accepts a token, or a netrc without a URL", func() {
		_, err := nixproot.ReadCacheBindings(binding(map[string]string{"url": "https://c", "token": "t"}))
		Expect(err).NotTo(HaveOccurred())
		_, err = nixproot.ReadCacheBindings(binding(map[string]string{"netrc": "machine c login u password p"}))
		Expect(err).NotTo(HaveOccurred())
	})

	it("refuses what would silently do nothing, without showing a secret", func() {
		for _, c := range []struct {
			secret  map[string]string
			message string
		}{
			{map[string]string{"url": "https://c", "pasword": "hunter2"}, `has "pasword"; it may have url`},
			{map[string]string{"url": "https://c", "password": "hunter2"}, "needs both username and password"},
			{map[string]string{"token": "hunter2"}, "has no url"},
		} {
			_, err := nixproot.ReadCacheBindings(binding(c.secret))
			Expect(err).To(MatchError(ContainSubstring(c.message)))
			Expect(err.Error()).NotTo(ContainSubstring("hunter2"))
		}
	})
}
