package nar_test

import (
	"errors"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

// call is what a caller does to a Sink: an entry, contents or, if neither, the end.
type call struct {
	e *nar.Entry
	p string
}

func d(path string) call { return call{e: &nar.Entry{Path: path, Kind: nar.Directory}} }
func f(path string, n int) call {
	return call{e: &nar.Entry{Path: path, Kind: nar.Regular, Size: int64(n)}}
}
func l(path, target string) call {
	return call{e: &nar.Entry{Path: path, Kind: nar.Symlink, Target: target}}
}
func p(contents string) call { return call{p: contents} }

var end = call{}

func play(sink nar.Sink, calls []call) error {
	for _, c := range calls {
		var err error
		switch {
		case c.e != nil:
			err = sink.Entry(c.e)
		case c.p != "":
			_, err = sink.Write([]byte(c.p))
		default:
			err = sink.Close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// misuse is what no archive could cause and every Sink refuses.
var misuse = map[string]struct {
	calls   []call
	problem string
}{
	"no root":                    {[]call{end}, "no root"},
	"a root with a name":         {[]call{d("a")}, "root must come first"},
	"two roots":                  {[]call{d(""), d("")}, "root must come first, and once"},
	"an entry below a file":      {[]call{f("", 0), f("a", 0)}, "its parent is a regular"},
	"an entry below a symlink":   {[]call{d(""), l("a", "/tmp"), f("a/b", 0)}, "its parent is a symlink"},
	"an entry out of nowhere":    {[]call{d(""), f("a/b", 0)}, "not an open directory"},
	"an entry of a closed place": {[]call{d(""), d("a"), d("b"), f("a/c", 0)}, "not an open directory"},
	"a lookalike of a directory": {[]call{d(""), d("a"), d("a-"), f("a/c", 0)}, "not an open directory"},
	"names out of order":         {[]call{d(""), d("b"), f("b/z", 0), f("a", 0)}, "strictly increasing"},
	"a name twice":               {[]call{d(""), l("a", "x"), d("a")}, "strictly increasing"},
	"the name ..":                {[]call{d(""), f("..", 0)}, `may not be ".."`},
	"a path through ..":          {[]call{d(""), d("a"), f("a/../../b", 0)}, "not an open directory"},
	"an empty name":              {[]call{d(""), d("a"), f("a/", 0)}, "name is empty"},
	"an absolute path":           {[]call{d(""), f("/etc", 0)}, "path is absolute"},
	"an empty target":            {[]call{d(""), l("a", "")}, "target is empty"},
	"a negative size":            {[]call{f("", -1)}, "out of range"},
	"no kind":                    {[]call{{e: &nar.Entry{}}}, "unknown kind 0"},
	"too little":                 {[]call{d(""), f("a", 3), p("ab"), f("b", 0)}, "1 bytes of contents are missing"},
	"too little at the end":      {[]call{f("", 3), p("ab"), end}, "1 bytes of contents are missing"},
	"too much":                   {[]call{f("", 3), p("ab"), p("cd")}, "1 bytes of contents too many"},
	"contents of a directory":    {[]call{d(""), p("x")}, "too many"},
	"an entry after the end":     {[]call{d(""), end, f("a", 0)}, "already closed"},
	"contents after the end":     {[]call{d(""), end, p("x")}, "already closed"},
	"two ends":                   {[]call{d(""), end, end}, "already closed"},
}

func testWriter(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("closes directories by itself", func() {
		var b strings.Builder
		Expect(play(nar.NewWriter(&b), []call{
			d(""), d("a"), d("a/b"), f("a/b/c", 3), p("x"), p("yz"), d("d"), l("e", "d"), end,
		})).To(Succeed())
		Expect(b.String()).To(Equal(archive(dir(
			entry("a", dir(entry("b", dir(entry("c", file("xyz")))))),
			entry("d", dir()),
			entry("e", link("d")),
		))))
	})

	for _, name := range names(misuse) {
		bad := misuse[name]
		it("refuses "+name, func() {
			err := play(nar.NewWriter(&strings.Builder{}), bad.calls)
			Expect(err).To(MatchError(ContainSubstring(bad.problem)))
		})
	}

	it("keeps its first error", func() {
		full := errors.New("no space left")
		w := nar.NewWriter(failing{full})
		Expect(w.Entry(&nar.Entry{Kind: nar.Directory})).To(Succeed(), "still buffered")
		Expect(errors.Is(w.Close(), full)).To(BeTrue())
		Expect(errors.Is(w.Entry(&nar.Entry{Path: "a", Kind: nar.Directory}), full)).To(BeTrue())
	})
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
