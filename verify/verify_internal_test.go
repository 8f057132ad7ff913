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

// TestAReportSaysHowAKeyIsTrusted says it where a key is named that is not among those given, and nowhere else.
func TestAReportSaysHowAKeyIsTrusted(t *testing.T) {
	g := NewWithT(t)
	const says = "\nif you trust a key that is named here, give it: --key NAME:BASE64\n"
	for _, c := range []struct {
		path  Path
		wants bool
	}{
		{Path{Claimed: []string{"cache.example.org-1"}}, true},
		{Path{}, false},
		{Path{Signed: "cache.example.org-1", Claimed: []string{"cache.example.org-1"}}, false},
		{Path{Claimed: []string{"cache.example.org-1"}, Problem: "other bytes"}, false},
	} {
		var out strings.Builder
		g.Expect((&Report{Paths: []Path{c.path}}).Text(&out)).To(Succeed())
		g.Expect(strings.Contains(out.String(), says)).To(Equal(c.wants), out.String())
	}
}
