package nixproot

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func TestASystemIsMissingOnlyAmongOtherSystems(t *testing.T) {
	g := NewWithT(t)
	for _, c := range []struct {
		missing string
		have    []string
		want    string
	}{
		{"packages.aarch64-linux", []string{"x86_64-linux"}, "aarch64-linux"},
		{"x86_64-linux", []string{"aarch64-darwin", "x86_64-darwin"}, "x86_64-linux"},
		{"packages.aarch64-darwin", []string{"default", "x86_64-linux"}, "aarch64-darwin"},
		{"packages.aarch64-linux", []string{"default"}, ""},
		{"packages.default", []string{"x86_64-linux"}, ""},
		{"aarch64-linux.default", []string{"x86_64-linux"}, ""},
		{"", []string{"x86_64-linux"}, ""},
	} {
		g.Expect(foreignSystem(&nixinstall.MissingAttrError{Missing: c.missing, Have: c.have})).To(Equal(c.want), c.missing)
	}
}

func TestAdviceOnAMissingReferenceDependsOnWhoWasAsked(t *testing.T) {
	g := NewWithT(t)
	const libc = storepath.Path("/nix/store/11bgd045z0d4icpbc2yyz4gx48ak44la-glibc-2.40")
	says := func(chain []storepath.Path, asked ...cache.Answer) string {
		return explain(&closure.MissingError{Chain: chain, Err: &cache.NotFoundError{Path: libc, Asked: asked}}).Error()
	}
	const byDefault = "what comes from nixpkgs unchanged is often in the default cache only"
	both := []storepath.Path{shop, libc}
	own := cache.Answer{URL: "https://own.example", Reason: cache.Absent, Why: "not there"}
	text := says(both, own)
	g.Expect(text).To(ContainSubstring(shop.Name()))
	g.Expect(text).To(ContainSubstring(byDefault))
	text = says(both, own, cache.Answer{URL: "https://cache.nixos.org", Reason: cache.Absent, Why: "not there"})
	g.Expect(text).NotTo(ContainSubstring(byDefault))
	text = says(both, cache.Answer{URL: "https://own.example", Reason: cache.Login, Why: "401"})
	g.Expect(text).To(ContainSubstring("nix-binary-cache"))
	g.Expect(text).NotTo(ContainSubstring(byDefault))
	text = says([]storepath.Path{libc}, own) // a root is no reference
	g.Expect(text).NotTo(ContainSubstring(byDefault))
	g.Expect(text).To(ContainSubstring("NIX_EXTRA_BINARY_CACHE"))
}

func TestAValueOfHarmlessIsOfferedWhereItWouldHelpAndBeRead(t *testing.T) {
	g := NewWithT(t)
	blocker := func(kind relocate.Kind, file string) closure.Blocker {
		return closure.Blocker{Path: shop, File: file, Kind: kind}
	}
	many := func(n int) (blockers []closure.Blocker) {
		for i := range n {
			blockers = append(blockers, blocker(relocate.Opaque, "f"+string(rune('a'+i))))
		}
		return blockers
	}
	g.Expect(harmlessSetting(nil)).To(BeEmpty())
	g.Expect(harmlessSetting([]closure.Blocker{blocker(relocate.Opaque, "a"), blocker(relocate.BareHash, "a")})).
		To(Equal("'" + relocate.OverruleOf(shop, "a") + "'"))
	for _, kind := range []relocate.Kind{relocate.RelocatedName, relocate.Ambiguous, closure.Undeclared} {
		g.Expect(harmlessSetting([]closure.Blocker{blocker(relocate.Opaque, "a"), blocker(kind, "b")})).To(BeEmpty(), string(kind))
	}
	g.Expect(harmlessSetting([]closure.Blocker{blocker(relocate.Opaque, "")})).To(Equal("'*-" + shop.Name() + "'"))
	g.Expect(strings.Fields(harmlessSetting(many(8)))).To(HaveLen(8))
	g.Expect(harmlessSetting(many(9))).To(BeEmpty())
}

func TestAnAddressHasNoBlanks(t *testing.T) {
	g := NewWithT(t)
	for text, want := range map[string]bool{
		"https://h/x": true, "git@h:x": true, "": false, "https://h/a b": false, "https://h/\x7f": false, "https://h/\x1b[m": false,
		"https://h/\u202e": false, strings.Repeat("a", 2048): true, strings.Repeat("a", 2048+1): false,
	} {
		g.Expect(isAddress(text)).To(Equal(want), "%.40q", text)
	}
}

func TestABindingOfNearlyTheRightTypeHasAHint(t *testing.T) {
	g := NewWithT(t)
	for is, hint := range map[string]bool{"nix": true, "Binary-Cache": true, "nix-cache": true, "postgresql": false, "": false} {
		g.Expect(strings.Contains(otherType(is), "binary caches are of type nix-binary-cache")).To(Equal(hint), is)
	}
}

func TestAVariableIsShownWhereItIsASettingWithoutSecrets(t *testing.T) {
	g := NewWithT(t)
	for name, want := range map[string]bool{
		"BP_NIX_FILE": true, "BPL_NIX_ENGINE": true, "BP_LOG_LEVEL": true, "NIX_EXTRA_BINARY_CACHE": true, "BP_INCLUDE_FILES": true,
		argumentsName: false, expressionsName: false, "BP_OTHER": false, "AWS_SECRET_ACCESS_KEY": false, "BPL_OTHER": false,
	} {
		g.Expect(isShown(name)).To(Equal(want), name)
	}
}
