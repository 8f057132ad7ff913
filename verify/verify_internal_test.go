package verify

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

func TestAReportIsNoLongerThanItsBoundAndSaysSo(t *testing.T) {
	g := NewWithT(t)
	r := &Report{}
	for i := range maxProblems {
		r.add(Extra, fmt.Sprint(i), "it belongs to nothing")
	}
	g.Expect(r.More).To(BeFalse())
	r.add(Altered, "/layers", "it is the last one")
	g.Expect(r.More).To(BeTrue())
	g.Expect(r.Problems).To(HaveLen(maxProblems))
	r.Problems = nil // as all of them are somebody's who answers for them
	g.Expect(r.Intact()).To(BeFalse())
	var out strings.Builder
	g.Expect(r.Text(&out)).To(Succeed())
	g.Expect(out.String()).To(ContainSubstring("ALTERED   there are more than 50000 of these"))
}
