package origin_test

import (
	"net/url"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/origin"
)

func TestAnOriginIsOneServer(t *testing.T) {
	g := NewWithT(t)
	for address, want := range map[string]string{
		"https://Cache.example.org/x": "https://cache.example.org:443", "https://cache.example.org:443": "https://cache.example.org:443",
		"HTTP://cache.example.org?x": "http://cache.example.org:80", "http://cache.example.org:8080": "http://cache.example.org:8080",
		"https://cache.example.org:80": "https://cache.example.org:80", "https://[2001:DB8::1]/": "https://[2001:db8::1]:443",
	} {
		u, err := url.Parse(address)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(origin.Of(u)).To(Equal(want), address)
	}
	// As a program may put one together.
	g.Expect(origin.Of(&url.URL{Scheme: "HTTP", Host: "A"})).To(Equal("http://a:80"))
}
