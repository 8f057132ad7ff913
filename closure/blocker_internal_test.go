package closure

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
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
}
