package procfile_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/procfile"
)

// herokuAnswers are Procfiles and what the parser of heroku/buildpacks-procfile makes of each (src/procfile.rs at commit
// bb54a14, compiled and run): the process types in order, none where it refuses, and how many warnings it gives.
var herokuAnswers = []struct {
	text     string
	entries  []string
	warnings int
}{
	{"web: rails s", []string{"web: rails s"}, 0},
	{"web: rails s\nworker: rake sidekiq\n", []string{"web: rails s", "worker: rake sidekiq"}, 0},
	{"Web: x", []string{"web: x"}, 1},
	{"WEB: x", []string{"web: x"}, 1},
	{"my_worker: x", []string{"my-worker: x"}, 1},
	{"My_Worker: x", []string{"my-worker: x"}, 1},
	{"web: a\nweb: b", []string{"web: b"}, 1},
	{"web: a\nWeb: b", []string{"web: b"}, 2},
	{"my_w: a\nmy-w: b\nMY_W: c", []string{"my-w: c"}, 4},
	{"-key: x", nil, 0},
	{"key-: x", nil, 0},
	{"_key: x", nil, 0},
	{"key_: x", nil, 0},
	{"a: x", []string{"a: x"}, 0},
	{"aa: x", []string{"aa: x"}, 0},
	{"0: x", []string{"0: x"}, 0},
	{"a--b: x", []string{"a--b: x"}, 0},
	{"a__b: x", []string{"a--b: x"}, 1},
	{"A: x", []string{"a: x"}, 1},
	{strings.Repeat("a", 63) + ": x", []string{strings.Repeat("a", 63) + ": x"}, 0},
	{strings.Repeat("a", 64) + ": x", nil, 0},
	{strings.Repeat("A", 64) + ": x", nil, 0},
	{": rails -s", nil, 0},
	{"web:", nil, 0},
	{"web: ", nil, 0},
	{"web: \t", nil, 0},
	{"web:x", []string{"web: x"}, 0},
	{"web:\tx", []string{"web: x"}, 0},
	{"&&&&&", nil, 0},
	{"is_w.e.b: x", nil, 0},
	{"worker : x", nil, 0},
	{"w eb: x", nil, 0},
	{"w\u00e9b: x", nil, 0},
	{"W\u00c9B: x", nil, 0},
	{"web\nx: y", nil, 0},
	{"  # c\nweb: x", []string{"web: x"}, 0},
	{"   web: x", []string{"web: x"}, 1},
	{"\tweb: x", []string{"web: x"}, 1},
	{"web: x\r\nworker: y\r\n", []string{"web: x", "worker: y"}, 0},
	{"web: x\r\n\r\n# c\r\nw: y", []string{"web: x", "w: y"}, 0},
	{"web: x\n\r\nw: y", []string{"web: x", "w: y"}, 0},
	{"web: echo foo: bar", []string{"web: echo foo: bar"}, 0},
	{"web: echo # not comment", []string{"web: echo # not comment"}, 0},
	{"#web: x\nw: y", []string{"w: y"}, 0},
	{"web: x # c", []string{"web: x # c"}, 0},
	{"web:: x", []string{"web: : x"}, 0},
	{": : x", nil, 0},
	{"web: :", []string{"web: :"}, 0},
	{"web: \u00e9", []string{"web: \u00e9"}, 0},
	{"web: a\\\nb", nil, 0},
	{"web: a && \\\n  b: c", []string{"web: a && \\", "b: c"}, 1},
	{"\n\n\nweb: a", []string{"web: a"}, 0},
	{"web: a\n\n\n\n", []string{"web: a"}, 0},
	{"web: a\x0bb", []string{"web: a\x0bb"}, 0},
	{"web: a\x0cb", []string{"web: a\x0cb"}, 0},
	{"\x0cweb: a", nil, 0},
	{"web:\x0ca", []string{"web: \x0ca"}, 0},
	{"web: a\u2028b: c", []string{"web: a\u2028b: c"}, 0},
	{"web:\u00a0x", []string{"web: \u00a0x"}, 0},
	{"\u00a0web: x", nil, 0},
	{"web\u00a0: x", nil, 0},
	{"web: \u00a0", []string{"web: \u00a0"}, 0},
	{"web: a\rb", nil, 0},
	{"\r\nweb: x", []string{"web: x"}, 0},
	{"release: x\nweb: y", []string{"release: x", "web: y"}, 0},
	{"web-1: x", []string{"web-1: x"}, 0},
	{"1web: x", []string{"1web: x"}, 0},
	{"web.1: x", nil, 0},
	{"web/1: x", nil, 0},
	{"web: $PORT", []string{"web: $PORT"}, 0},
	{"web: 'a b' \"c\"", []string{"web: 'a b' \"c\""}, 0},
	{"web\n", nil, 0},
	{"web: a\nfoo", nil, 0},
	{"web: a\n: b", nil, 0},
	{"web: a\n#b\n c: d", []string{"web: a", "c: d"}, 1},
	{"K: x", []string{"k: x"}, 1},
	{"web: x\n_: y", nil, 0},
	{"-: x", nil, 0},
	{"--: x", nil, 0},
	{"__: x", nil, 0},
	{"a_: x", nil, 0},
	{"a-b_c-D: x", []string{"a-b-c-d: x"}, 1},
	{"web:\nworker: x", nil, 0},
	{"web: \nworker: x", nil, 0},
	{"worker:\n web: x", nil, 0},
	{"Web_: x", nil, 0},
	{"web: \x1b[31mx", []string{"web: \x1b[31mx"}, 0},
	{"W e b: x", nil, 0},
	{"web  : x", nil, 0},
	{" Web : x", nil, 0},
	{"%web: x", nil, 0},
	{"web=x", nil, 0},
	{"web x", nil, 0},
	{"web:x:y", []string{"web: x:y"}, 0},
	{"web: a\u0085b", []string{"web: a\u0085b"}, 0},
	{"web: x\n# end", []string{"web: x"}, 0},
	{"  \t # a: b\nweb: c", []string{"web: c"}, 0},
	{"web: x\nweb: x", []string{"web: x"}, 1},
	{"web: a \\", []string{"web: a \\"}, 0},
	{"web: \\", []string{"web: \\"}, 0},
	{"K\u212a: x", nil, 0},
	{"\u0130: x", nil, 0},
	{"web: echo a\\ ", []string{"web: echo a\\ "}, 0},
	{"web: \\ ", []string{"web: \\ "}, 0},
}

// Why a Procfile is read otherwise than Heroku's parser reads it.
const (
	atEnd    = "blanks at the end are no part of a command, unless a backslash makes them one"
	blank    = "its specification allows blank lines and comments at the end; its parser wants a process type behind them"
	carriage = "a carriage return alone ends a line"
)

// herokuDiffers are Procfiles that are read here otherwise than there, and why.
var herokuDiffers = []struct {
	text     string
	entries  []string
	warnings int
	why      string
}{
	{"web:   x   ", []string{"web: x"}, 0, atEnd},
	{"web: x\t\t", []string{"web: x"}, 0, atEnd},
	{"", []string{}, 0, "the build says that nothing is named"},
	{"\n", []string{}, 0, blank},
	{"\n\n  \n", []string{}, 0, blank},
	{"# only\n", []string{}, 0, blank},
	{"web: x\rworker: y\r", []string{"web: x", "worker: y"}, 0, carriage},
	{"\ufeffweb: x", []string{"web: x"}, 0, "a byte order mark is no text"},
	{"web: #x", nil, 0, "a shell is not started for a comment"},
	{"web: a\n  ", []string{"web: a"}, 0, blank},
	{"web: a\n\t", []string{"web: a"}, 0, blank},
	{"web: a\n ", []string{"web: a"}, 0, blank},
	{"web: x\r", []string{"web: x"}, 0, carriage},
	{"web: x\n\rw: y", []string{"web: x", "w: y"}, 0, carriage},
	{" #c\n\t#d\n", []string{}, 0, blank},
	{"# a: b", []string{}, 0, blank},
	{"web: echo a\\\\ ", []string{"web: echo a\\\\"}, 0, atEnd},
	{"web: a\\\t ", []string{"web: a\\\t"}, 0, atEnd},
}

func TestHerokusParserGivesTheSame(t *testing.T) {
	for _, c := range herokuAnswers {
		expectEntries(t, c.text, c.entries, c.warnings, "as Heroku's parser has it")
	}
	for _, c := range herokuDiffers {
		expectEntries(t, c.text, c.entries, c.warnings, c.why)
	}
}

// expectEntries reads a Procfile and compares; nil entries are one that is refused.
func expectEntries(t *testing.T, text string, entries []string, warnings int, why string) {
	t.Helper()
	g := NewWithT(t)
	p, err := procfile.Parse(t.Context(), text)
	if entries == nil {
		g.Expect(err).To(HaveOccurred(), "%q: %s", text, why)
		return
	}
	g.Expect(err).NotTo(HaveOccurred(), "%q: %s", text, why)
	got := []string{}
	for _, e := range p.Entries {
		got = append(got, e.Type+": "+e.Command)
	}
	g.Expect(got).To(Equal(entries), "%q: %s", text, why)
	g.Expect(p.Warnings).To(HaveLen(warnings), "%q: %s", text, why)
	g.Expect(p.Empty).To(Equal(len(entries) == 0), "%q", text)
}
