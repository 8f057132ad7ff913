package nixproot

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

func TestLinesOfTheLogFitOrAreOneWord(t *testing.T) {
	g := NewWithT(t)
	path := "/nix/store/" + strings.Repeat("x", 100)
	for text, want := range map[string]string{
		"": "", "\n": "\n", "short\n": "short\n", strings.Repeat("w", 80) + "\n": strings.Repeat("w", 80) + "\n",
		strings.Repeat("w", 79) + " a\n":                       strings.Repeat("w", 79) + "\n  a\n",
		"    " + path + " is not here\n":                       "    " + path + "\n      is not here\n",
		"    see " + path + "\n":                               "    see\n      " + path + "\n",
		"  " + strings.Repeat("word ", 20) + "end":             "  " + strings.Repeat("word ", 14) + "word\n    " + strings.Repeat("word ", 5) + "end",
		"a\n" + strings.Repeat("é", 80) + "\nb\n":              "a\n" + strings.Repeat("é", 80) + "\nb\n",
		"\x1b[2m" + strings.Repeat("w", 79) + "\x1b[0m" + "\n": "\x1b[2m" + strings.Repeat("w", 79) + "\x1b[0m\n",
		strings.Repeat("w", 78) + "  two\n":                    strings.Repeat("w", 78) + " \n  two\n",
	} {
		var out strings.Builder
		n, err := folding{&out}.Write([]byte(text))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(n).To(Equal(len(text)))
		g.Expect(out.String()).To(Equal(want))
	}
}
