package closure

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestNineBlockersOfAPathAreNamedAndTheOthersCounted(t *testing.T) {
	RegisterTestingT(t)
	report := relocate.Report{Blocking: 20}
	for i := range 20 {
		report.Blockers = append(report.Blockers, relocate.Blocker{File: fmt.Sprint("file-", i), Detail: "it is signed"})
	}
	named := pathBlockers("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x", report)
	Expect(named).To(HaveLen(9))
	Expect(named[7].Detail).To(Equal("it is signed"))
	Expect(named[8].Detail).To(Equal("it is signed (and 11 more in this path)"))
	report.Blocking, report.Blockers = 2, []relocate.Blocker{{File: "\xff", Detail: "it is signed"}}
	Expect(pathBlockers("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x", report)).To(ConsistOf(And(
		HaveField("File", "?"), HaveField("Detail", "it is signed (and 1 more in this path)"))))
}

func TestPathsThatAViewCannotTellApartAreNamed(t *testing.T) {
	RegisterTestingT(t)
	g := &Graph{Nodes: map[storepath.Path]*Node{}}
	for _, end := range []string{"2", "0", "1"} {
		p := storepath.Path("/nix/store/00bgd045z0d4" + strings.Repeat(end, 20) + "-x")
		g.Nodes[p] = &Node{Path: p}
	}
	view, err := relocate.NewView("/layers/nixproot_nix-hydra/view")
	Expect(err).NotTo(HaveOccurred())
	all := g.Paths()
	Expect(g.Blockers(view)).To(ConsistOf(And(HaveField("Path", all[0]), HaveField("With", all[1:]),
		HaveField("Kind", relocate.Ambiguous))))
}
