package text_test

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

func TestClipLeavesOneLineOfWholeCharacters(t *testing.T) {
	g := NewWithT(t)
	for given, want := range map[string]string{
		"": "", "short": "short", "  two\n\tlines ": "two lines", "\x1b[31mred\x7f\u009bx": "[31mred x",
		"a\u202egpj\u2066b\u200bc": "a gpj b c",
		"bad \xff byte":            "bad byte", "größer als zehn": "größer als…", "ten chars!": "ten chars!",
	} {
		g.Expect(text.Clip(given, 10)).To(Equal(want), "%q", given)
	}
}

func TestCutKeepsWholeCharacters(t *testing.T) {
	g := NewWithT(t)
	for given, want := range map[string]string{
		"": "", "short": "short", "a\nb": "a\nb", "ten bytes!": "ten bytes!", "eleven byte": "eleven byt…",
		"12345678 €": "12345678 …", "123456 € and": "123456 €…", "\xff\xff": "\xff\xff",
		strings.Repeat("\x80", 12): strings.Repeat("\x80", 7) + "…",
	} {
		g.Expect(text.Cut(given, 10)).To(Equal(want), "%q", given)
	}
}

func TestPrintable(t *testing.T) {
	g := NewWithT(t)
	for given, want := range map[string]string{
		"plain ü": "plain ü", "\x1b[1m": `\x1b[1m`, "a\nb": `a\nb`, "\u202eabc": `\u202eabc`, "\xff": `\xff`, `a"b\`: `a"b\`,
	} {
		g.Expect(text.Printable(given)).To(Equal(want))
	}
}

// TestBlock also asks for the same as Printable where a text has one line.
func TestValid(t *testing.T) {
	g := NewWithT(t)
	for s, want := range map[string]string{"": "", "é\n": "é\n", "a\xff\xfeb": "a??b", "\xe2\x82": "??", "é\xff\ufffd": "é??", "\ufffd": "\ufffd"} {
		g.Expect(text.Valid(s)).To(Equal(want), "%q", s)
	}
}

func TestBlock(t *testing.T) {
	g := NewWithT(t)
	g.Expect(text.Block("a\n\tb \uFFFD ü\x1b[1m\r\n\xff\u202e")).To(Equal("a\n\tb \uFFFD ü\\x1b[1m\\r\n\\xff\\u202e"))
	for _, given := range []string{"plain ü", "\x1b[1m", "\u202eabc", "\xff", `a"b\`} {
		g.Expect(text.Block(given)).To(Equal(text.Printable(given)))
	}
}

func ExampleCount() {
	fmt.Println(text.Count(1, "path"), text.Count(2, "path"))
	// Output: 1 path 2 paths
}

func ExampleBytes() {
	fmt.Println(text.Bytes(512), text.Bytes(3_449_000), text.Bytes(999_950), text.Bytes(-1000))
	// Output: 512 B 3.4 MB 1.0 MB -1.0 kB
}

func ExampleList() {
	fmt.Println(text.List([]string{"a", "b"}, 2))
	fmt.Println(text.List([]string{"a", "b", "c", "d"}, 2))
	// Output:
	// a, b
	// a, b and 2 more
}

func ExampleFiles() {
	fmt.Println(text.Files([]string{"a b", "c\n", "d"}, 2))
	// Output: a b, "c\n" and 1 more
}

func TestDistanceCountsWhatIsPutInLeftOutAndReplaced(t *testing.T) {
	g := NewWithT(t)
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ac", 1}, {"ac", "abc", 1},
		{"abc", "cab", 2}, {"kitten", "sitting", 3},
	} {
		g.Expect(text.Distance(c.a, c.b)).To(Equal(c.want), "%q %q", c.a, c.b)
	}
}
