package relocate

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// TestFilesThatItTripsOver has a mistake in this package end no build: the file stands in the way, and those behind it are
// looked at as ever.
func TestFilesThatItTripsOver(t *testing.T) {
	g := NewWithT(t)
	v, err := NewView("/layers/nixproot_nix-hydra/store")
	g.Expect(err).NotTo(HaveOccurred())
	self := storepath.Path("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app-1.0")
	s := v.Rewrite(self, nil, (*kept)(v.Inspect(self, nil, t.TempDir())))
	send := func(file, contents string) {
		g.Expect(s.Entry(&nar.Entry{Path: file, Kind: nar.Regular, Size: int64(len(contents))})).To(Succeed())
		_, err := s.Write([]byte(contents))
		g.Expect(err).NotTo(HaveOccurred())
	}
	scan := s.scan
	s.scan = nil
	send("a", string(self))
	s.scan = scan
	send("b", string(self))
	g.Expect(s.Close()).To(Succeed())
	g.Expect(s.Report().References).To(Equal(1))
	g.Expect(s.Report().Blockers).To(ConsistOf(And(HaveField("File", "a"), HaveField("Kind", Opaque), HaveField("Detail", HavePrefix("it cannot be read: ")))))
}
