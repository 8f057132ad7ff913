package nixproot

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

func TestLinesOfTheLogFitOrAreOneWord(t *testing.T) {
	g := NewWithT(t)
	path := "/nix/store/" + strings.Repeat("x", 100)
	long, five := strings.Repeat("w", 79), strings.TrimSpace(strings.Repeat("word ", 5))
	for text, want := range map[string]string{
		"": "", "\n": "\n", "short\n": "short\n", long + "w\n": long + "w\n",
		long + " a\n":                                 long + "\n    a\n",
		"    " + path + " is not here\n":              "    " + path + "\n        is not here\n",
		"    see " + path + "\n":                      "    see\n        " + path + "\n",
		"  " + strings.Repeat("word ", 20):            "  " + strings.TrimSpace(strings.Repeat("word ", 15)) + "\n      " + five,
		"a\n" + strings.Repeat("é", 80) + "\n":        "a\n" + strings.Repeat("é", 80) + "\n",
		"\x1b[2m    " + long[:76] + "\x1b[0m\n":       "\x1b[2m    " + long[:76] + "\x1b[0m\n",
		"\x1b[2m    " + long[:71] + " of it\x1b[0m\n": "\x1b[2m    " + long[:71] + " of\n        it\x1b[0m\n",
		long[:78] + "  two\n":                         long[:78] + "\n    two\n",
		long[:78] + " \x1b[0m two\n":                  long[:78] + " \x1b[0m\n    two\n",
		// What goes on is as wide as what begins.
		"  " + long[:78] + " " + long[:70] + " 123 4\n": "  " + long[:78] + "\n      " + long[:70] + " 123\n      4\n",
	} {
		for _, part := range []int{len(text), 7, 1} { // a word stays whole where it comes in one part
			var out strings.Builder
			f := &folding{to: &out}
			for rest := text; rest != ""; {
				cut := min(part, len(rest))
				for cut < len(rest) && part < len(text) && rest[cut-1] != ' ' && rest[cut-1] != '\n' {
					cut++
				}
				n, err := f.Write([]byte(rest[:cut]))
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(n).To(Equal(cut))
				rest = rest[cut:]
			}
			g.Expect(out.String()).To(Equal(want), "%q in parts of %d", text, part)
		}
	}
}
