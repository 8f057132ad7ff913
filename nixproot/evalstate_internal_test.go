package nixproot

import (
	"bytes"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/paketo-buildpacks/libpak/v2/log"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestWhatEvaluationKeepsIsOfOneFormatOneNixAndTheSameKeys(t *testing.T) {
	g := NewWithT(t)
	table := func(format, toolchain, trust string) map[string]any {
		return map[string]any{"format": format, "toolchain": toolchain, "trust": trust, "sum": "of what there is"}
	}
	want := table("1", "nix", "keys")
	delete(want, "sum")
	g.Expect(changedCondition(table("1", "nix", "keys"), want)).To(BeEmpty())
	g.Expect(changedCondition(table("2", "nix", "keys"), want)).To(Equal("it is another version's of this buildpack"))
	g.Expect(changedCondition(table("1", "lix", "keys"), want)).To(Equal("it was made by another Nix"))
	g.Expect(changedCondition(table("1", "nix", ""), want)).To(Equal("other keys were trusted, or signatures were not required"))
	g.Expect(changedCondition(map[string]any{}, want)).NotTo(BeEmpty())
}

func TestSettingsTrustTheSameInWhateverOrderTheirKeysAre(t *testing.T) {
	g := NewWithT(t)
	const key = ":6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
	const a, b = "a" + key, "b" + key
	keys, err := narinfo.ParseKeys(b + " " + a)
	g.Expect(err).NotTo(HaveOccurred())
	s := cacheSettings{keys: keys, requireSigs: true, urls: []string{"https://me:secret@c.example.org", "s3://b"}}
	g.Expect(s.trust()).To(Equal([]string{a, b, "true"}))
	g.Expect(s.identity()).To(Equal([]string{"https://c.example.org", "s3://b", a, b, "true"}))
	s.requireSigs = false
	g.Expect(s.trust()).To(Equal([]string{a, b, "false"}))
}

func TestNothingIsEvaluatedWhereSettingsNameStorePathsOrAJob(t *testing.T) {
	g := NewWithT(t)
	var c Config
	g.Expect(c.evaluates()).To(BeTrue())
	c.HydraJob = "p/j/x"
	g.Expect(c.evaluates()).To(BeFalse())
	c.HydraJob, c.StorePaths = "", []storepath.Path{"x"}
	g.Expect(c.evaluates()).To(BeFalse())
}

func TestLayersThatThePreviousImageDoesNotHaveAreMadeAnew(t *testing.T) {
	g := NewWithT(t)
	var said bytes.Buffer
	b := Build{Logger: log.NewPaketoLogger(&said)}
	found := func() *closure.Previous {
		return &closure.Previous{Groups: []closure.Group{{Layer: "b"}, {Layer: "a"}, {Layer: "c"}}}
	}
	all := found()
	b.keepOnly(all, []string{"a", "b", "c", "d"})
	g.Expect(all).To(Equal(found()))
	g.Expect(said.String()).To(BeEmpty())
	b.keepOnly(all, []string{"c"})
	g.Expect(all.Groups).To(Equal([]closure.Group{{Layer: "c"}}))
	g.Expect(said.String()).To(ContainSubstring("2 layers made anew, as the previous image does not have what the last build made of them: a, b"))
}
