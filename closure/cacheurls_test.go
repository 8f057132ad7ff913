package closure_test

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestOriginsAreReadAsTheyWereWritten(t *testing.T) {
	g := NewWithT(t)
	path := func(i int) storepath.Path { return storepath.Path(fmt.Sprintf("/nix/store/%032d-app-%d", i, i)) }
	all := []storepath.Path{path(0), path(1), path(2), path(3), path(4)}
	for _, c := range []struct {
		urls  closure.CacheURLs
		label string
	}{
		{nil, ""}, {closure.CacheURLs{path(0): "", path(1): ""}, ""},
		{closure.CacheURLs{path(0): "https://a", path(1): "https://a"}, `[{"url":"https://a"}]`},
		{closure.CacheURLs{path(0): "https://b", path(1): "https://a", path(2): "https://a", path(3): "https://b", path(4): "https://b"},
			`[{"url":"https://b"},{"url":"https://a","paths":["00000000000000000000000000000001","00000000000000000000000000000002"]}]`},
		{closure.CacheURLs{path(0): "https://b", path(1): "https://a"},
			`[{"url":"https://a"},{"url":"https://b","paths":["00000000000000000000000000000000"]}]`},
		{closure.CacheURLs{path(0): "", path(1): "https://a", path(2): ""},
			`[{},{"url":"https://a","paths":["00000000000000000000000000000001"]}]`},
	} {
		g.Expect(c.urls.Label()).To(Equal(c.label))
		if c.label == "" {
			continue
		}
		read, err := closure.ReadCacheURLs(c.label, all[:len(c.urls)])
		g.Expect(err).NotTo(HaveOccurred())
		for p, url := range c.urls {
			g.Expect(read[p]).To(Equal(url), "%s of %s", p, c.label)
		}
	}
	for _, wrong := range []string{"", "{}", "https://a", `[{"url":1}]`, `[{"paths":"x"}]`} {
		_, err := closure.ReadCacheURLs(wrong, all)
		g.Expect(err).To(MatchError(ContainSubstring("io.nixproot.nix-hydra.caches")), wrong)
	}
	g.Expect(closure.ReadCacheURLs("[]", all)).To(BeEmpty())
}
