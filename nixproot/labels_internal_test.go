package nixproot

import (
	"strings"
	"testing"

	"github.com/buildpacks/libcnb/v2"
	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

func TestLabelsSayWhereAnImageIsFromAndNoSecret(t *testing.T) {
	g := NewWithT(t)
	a, b := storepath.Path("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-a"), storepath.Path("/nix/store/10bgd045z0d4icpbc2yyz4gx48ak44la-b")
	c := &contents{Engine: "relocate", buildRecord: buildRecord{Roots: roots.Result{Paths: []storepath.Path{a, b}}}}
	s := &labelled{inputs{}, g}
	own := []libcnb.Label{{Key: rootsLabel, Value: string(a + " " + b)}, {Key: engineLabel, Value: "relocate"}}
	g.Expect(s.labels(c)).To(Equal(own))
	s.identity = nixinstall.Identity{URL: "https://git.example.org/shop.git", Rev: "1f"}
	g.Expect(s.labels(c)).To(Equal(append([]libcnb.Label{
		{Key: sourceLabel, Value: "https://git.example.org/shop.git"}, {Key: revisionLabel, Value: "1f"},
	}, own...)))
	s.config.GitURL = "https://user:password@git.example.org/other.git"
	g.Expect(s.labels(c)[0].Value).To(And(ContainSubstring("git.example.org/other.git"), Not(ContainSubstring("password"))))
	s.config.GitURL = "user:password@git.example.org/other.git"
	g.Expect(s.labels(c)[0].Value).To(Equal("https://git.example.org/shop.git"))
	c.CacheURLs = closure.CacheURLs{a: "https://cache.example.org", b: "https://cache.example.org"}
	g.Expect(s.labels(c)).To(ContainElement(libcnb.Label{Key: closure.CachesLabel, Value: `[{"url":"https://cache.example.org"}]`}))
}

// labelled has the labels, without an error.
type labelled struct {
	inputs
	g *WithT
}

func (l *labelled) labels(c *contents) []libcnb.Label {
	labels, err := l.inputs.labels(c)
	l.g.Expect(err).NotTo(HaveOccurred())
	return labels
}

func TestPathsOfLayersThatAreKeptAreFromWhereTheyCameFirst(t *testing.T) {
	g := NewWithT(t)
	path := func(name string) storepath.Path {
		return storepath.Path("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-" + name)
	}
	node := func(url string) *closure.Node { return &closure.Node{CacheURL: url} }
	c := &contents{Result: &closure.Result{
		Graph: &closure.Graph{Nodes: map[storepath.Path]*closure.Node{
			path("new"): node("https://me:secret@b"), path("kept"): node("https://b"), path("anew"): node("https://b"),
			path("known"): node(""), path("unknown"): node("")}},
		Changed: []closure.Group{{Paths: []storepath.Path{path("new"), path("anew"), path("known")}}},
	}}
	g.Expect(c.findCacheURLs(closure.CacheURLs{path("kept"): "https://a", path("anew"): "https://a", path("known"): "https://a",
		path("gone"): "https://a"})).To(Equal(closure.CacheURLs{path("new"): "https://b", path("kept"): "https://a", path("anew"): "https://b",
		path("known"): "https://a", path("unknown"): ""}))
}

func TestTheRevisionOfAnImageIsAWholeCommit(t *testing.T) {
	g := NewWithT(t)
	own, given, evaluated := strings.Repeat("1f", 20), strings.Repeat("2E", 20), strings.Repeat("3d", 20)
	for _, c := range []struct{ setting, ofHydra, want string }{
		{"", "", own}, {"", evaluated, own}, {given, evaluated, strings.ToLower(given)},
		{"latest", evaluated, evaluated}, {"latest", "", ""}, {"3d3d3d3", evaluated, evaluated}, {"1F1f1f1", "", own}, {"2e2e2e2", "", ""},
		{"latest", "no commit", ""},
	} {
		s := &inputs{identity: nixinstall.Identity{Rev: own}}
		s.config.GitRev = c.setting
		g.Expect(s.commit(&contents{buildRecord: buildRecord{Roots: roots.Result{Revision: c.ofHydra}}})).To(Equal(c.want), "%+v", c)
	}
}
