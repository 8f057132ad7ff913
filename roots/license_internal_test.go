package roots

import (
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func TestLicencesOfOutputsAreIdentifiersThatTheExpressionGives(t *testing.T) {
	g := NewWithT(t)
	const app, doc = storepath.Path("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app"),
		storepath.Path("/nix/store/7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-app-doc")
	found := rootsOf(attempt{result: nixinstall.Result{Outputs: []nixinstall.Output{
		{Path: app, Licenses: []string{"MIT", "GPL-2.0-or-later", "MIT", "see the file", "", "x\x1b", strings.Repeat("a", 65)}},
		{Path: doc, Licenses: []string{"no licence"}},
	}}})
	g.Expect(found.Licenses).To(Equal(map[storepath.Path][]string{app: {"MIT", "GPL-2.0-or-later"}}))
	g.Expect(found.LicensesAreValid()).To(BeTrue())
	many := make([]string, 0, 100)
	for i := range 100 {
		many = append(many, "L-"+strings.Repeat("i", i%50+1))
	}
	g.Expect(licenseIDs(many)).To(HaveLen(20))
	for _, wrong := range []map[storepath.Path][]string{{"x": {"MIT"}}, {app: {"a b"}}, {app: {"MIT", "MIT"}}, {app: many}} {
		g.Expect(Result{Paths: []storepath.Path{app}, Licenses: wrong}.LicensesAreValid()).To(BeFalse())
	}
	g.Expect(slices.Contains(found.Paths, doc)).To(BeTrue())
}
