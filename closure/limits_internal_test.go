package closure

import (
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

const (
	limitHash = "00bgd045z0d4icpbc2yyz4gx48ak44la"
	limitPath = storepath.Path("/nix/store/" + limitHash + "-a")
)

func TestWhatIsHeldOfANarInfoAreTheTextsOfItsReferences(t *testing.T) {
	RegisterTestingT(t)
	one := &cache.Found{NarInfo: &narinfo.NarInfo{URL: "12345678", References: []storepath.Path{"1234", "12"}}}
	Expect(heldOf(one)).To(Equal(8 + 16 + 4 + 16 + 2))
}

// Another version of this program reads these lines: where one changes, manifestVersion has to.
func TestALineOfAManifestIsWrittenAsItsVersionHasIt(t *testing.T) {
	g := NewWithT(t)
	m := Manifest{}
	hash := storepath.Hash{1}
	for _, n := range []*Node{
		{Path: limitPath, NarHash: hash, NarSize: 8, References: []storepath.Path{limitPath}, Foreign: []string{"1" + limitHash[1:]}},
		{Path: limitPath, NarHash: hash, NarSize: 8, CA: "fixed:r:sha256:x"},
		{Path: limitPath, NarHash: hash, NarSize: 8, Signature: narinfo.Signature{Name: "k-1", Data: []byte{1}}},
	} {
		m.add(n)
	}
	begin := limitHash + "-a " + storepath.Encode32(hash[:]) + " 8 "
	g.Expect(m.Paths).To(Equal([]string{begin + "- . !10bgd045z0", begin + "+fixed:r:sha256:x", begin + "0:AQ"}))
	g.Expect(m.Keys).To(Equal([]string{"k-1"}))
}

func TestAManifestHas1023ForeignHashesOfAPathAnd32BlockersAndSizesUpTo1TiB(t *testing.T) {
	g := NewWithT(t)
	foreign := func(n int) []string {
		m := Manifest{}
		m.add(&Node{Path: limitPath, NarSize: 8, Foreign: slices.Repeat([]string{limitHash}, n)})
		return strings.Fields(m.Paths[0])[4:]
	}
	g.Expect(foreign(1023)).To(And(HaveLen(1023), HaveEach("!"+limitHash[:10])))
	g.Expect(foreign(1024)).To(And(HaveLen(1024), ContainElement("!*")))

	r := &Result{Graph: &Graph{Nodes: map[storepath.Path]*Node{limitPath: {Path: limitPath, NarSize: 8}}},
		Groups: []Group{{Layer: "l", Paths: []storepath.Path{limitPath}}}, recorded: slices.Repeat([]Blocker{{Path: limitPath}}, 33)}
	g.Expect(r.Manifests()["l"].Blocked).To(HaveLen(32))

	sized := func(size string) error {
		_, _, err := Manifest{}.node(limitPath.Base() + " " + storepath.Encode32(make([]byte, 32)) + " " + size + " -")
		return err
	}
	g.Expect(sized("1099511627776")).To(Succeed())
	g.Expect(sized("1099511627777")).To(MatchError(ContainSubstring("is not one")))
}

func TestFiveBlockersAreTheReason(t *testing.T) {
	g := NewWithT(t)
	says := func(n int) string {
		return (&BlockedError{Blockers: slices.Repeat([]Blocker{{Path: limitPath}}, n)}).Error()
	}
	g.Expect(strings.Count(says(5), "; ")).To(Equal(4))
	g.Expect(says(5)).NotTo(ContainSubstring("more"))
	g.Expect(says(6)).To(HaveSuffix("; and 1 more"))
}

func TestWhatThisBuildHasReadOfAPathCountsBeforeWhatThePreviousImageSays(t *testing.T) {
	g := NewWithT(t)
	info := &narinfo.NarInfo{StorePath: limitPath, NarSize: 8}
	s := &substitution{
		found: map[storepath.Path]*cache.Found{limitPath: {NarInfo: info}}, nodes: map[storepath.Path]*Node{},
		staged: map[storepath.Path]staged{limitPath: {Prefix: storepath.Dir}}, // relocated before, and written back
	}
	s.Previous = &Previous{Nodes: map[storepath.Path]*Node{limitPath: {Foreign: []string{"previous"}}}}
	s.learn()
	g.Expect(s.nodes[limitPath].Foreign).To(Equal([]string{"previous"}))
	s.nodes[limitPath] = &Node{Foreign: []string{"here"}}
	s.learn()
	g.Expect(s.nodes[limitPath].Foreign).To(Equal([]string{"here"}))
}
