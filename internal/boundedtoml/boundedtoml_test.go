package boundedtoml_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/boundedtoml"
)

func TestDecode(t *testing.T) {
	g := NewWithT(t)
	long := strings.Repeat("a.", 40) + "b"
	for what, text := range map[string]string{
		"a key":                       long + " = 1",
		"a key of quoted parts":       strings.Repeat("\"a\" . ", 40) + "b = 1",
		"a table":                     "[" + long + "]",
		"an array of tables":          "[[" + long + "]]",
		"an inline table":             "x = {" + long + " = 1}",
		"a key after a string":        "x = [\"\\\\\", {" + long + " = 1}]",
		"a key after a literal":       "x = ['\\', {" + long + " = 1}]",
		"a key after three quotes":    "x = [\"\"\"\n\\\"\"\"\", {" + long + " = 1}]",
		"a key after five quotes":     "x = [\"\"\"a\"\"\"\"\", {" + long + " = 1}]",
		"a key after three literals":  "x = ['''\n\\''''', {" + long + " = 1}]",
		"a key after an empty string": "x = [\"\", '', {" + long + " = 1}]",
		"a key after a comment":       "x = 1 # \"\n" + long + " = 1",
		"arrays":                      "x = " + strings.Repeat("[", 40) + strings.Repeat("]", 40),
		"inline tables":               "x = " + strings.Repeat("{a=", 40) + "1" + strings.Repeat("}", 40),
		"many keys":                   strings.Repeat("[["+strings.Repeat("a.", 20)+"b]]\n", 4000),
		"arrays over lines":           "x = " + strings.Repeat("[\n", 40) + strings.Repeat("]", 40),
	} {
		var all map[string]any
		_, err := boundedtoml.Decode([]byte(text), &all)
		g.Expect(err).To(MatchError(Or(ContainSubstring("more than 32 parts"), ContainSubstring("more than 65536 parts"), ContainSubstring("deeper than 32 levels"))), what)
	}
	for what, text := range map[string]string{
		"strings":  "x = [\"" + long + "\", '" + long + "']\n",
		"a text":   "x = \"\"\"\n" + long + "\\\"\"\" " + long + "\"\"\"\"\ny = '''" + long + "'' " + long + "'''\n",
		"comments": "# " + long + "\nx = 1.5 # " + long + "\n",
		"lines":    strings.Repeat("[[a.b.c]]\nd.e.f = [[1.5], [2.5]]\n", 100),
	} {
		var all map[string]any
		_, err := boundedtoml.Decode([]byte(text), &all)
		g.Expect(err).NotTo(HaveOccurred(), what)
	}
	var value struct{ X int }
	meta, err := boundedtoml.Decode([]byte("x = 1\ny = 2"), &value)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(value.X).To(Equal(1))
	g.Expect(meta.Undecoded()).To(HaveLen(1))
}

// FuzzDecode has all keys that the decoder sees counted.
func FuzzDecode(f *testing.F) {
	f.Add("[a.b]\n\"c\".'d' = [{e.f = 1}]\n")
	f.Add("x = [\"\"\"\\\"\"\"\"\"\", {a.b = '''''''', c = 1.5}] # \"\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		var all map[string]any
		meta, err := boundedtoml.Decode([]byte(text), &all)
		if err != nil {
			return
		}
		for _, key := range meta.Keys() {
			if len(key) > 33*34 {
				t.Fatalf("%d parts", len(key))
			}
		}
	})
}
