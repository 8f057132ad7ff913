package cache_test

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
)

func TestLoginFor(t *testing.T) {
	g := NewWithT(t)
	o := cache.Options{
		URLs: []string{"https://url:word@in.example"}, Getenv: func(string) string { return "" },
		Credentials: []cache.Credential{{URL: "https://token.example/x", Token: "t"}, {URL: "https://pass.example", Username: "u", Password: "p:q"}},
		Netrc:       "machine net.example login n password w",
	}
	for address, want := range map[string]cache.Credential{
		"https://token.example":         {URL: "https://token.example", Token: "t"},
		"https://pass.example/hydra":    {URL: "https://pass.example/hydra", Username: "u", Password: "p:q"},
		"http://net.example":            {URL: "http://net.example", Username: "n", Password: "w"},
		"https://in.example":            {URL: "https://in.example", Username: "url", Password: "word"},
		"https://own:secret@me.example": {URL: "https://me.example", Username: "own", Password: "secret"},
		"http://pass.example":           {},
		"https://pass.example:8443":     {},
	} {
		got, ok, err := cache.LoginFor(o, address)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(got).To(Equal(want), address)
		g.Expect(ok).To(Equal(want != cache.Credential{}))
	}
}
