package verify

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// maxListed is how many problems of a kind are listed.
const maxListed = 1000

// sort puts problems in order.
func (r *Report) sort() {
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Where, b.Where))
	})
}

// Text writes the report for people: a line per store path and problem, and what the report covers at the end.
func (r *Report) Text(out io.Writer) error {
	var b strings.Builder
	altered, untrusted, signed := 0, 0, false
	for _, p := range r.Paths {
		p.line(&b)
		signed = signed || p.Problem == "" && p.Signed == "" && len(p.Claimed) > 0
		switch {
		case p.Problem != "":
			altered++
		case p.Signed == "":
			untrusted++
		}
	}
	if signed {
		fmt.Fprintln(&b, "if you trust a key that is named here, give it: --key NAME:BASE64")
	}
	intact := len(r.Paths) - altered - untrusted
	counts := map[Kind]int{}
	for _, f := range r.Problems {
		if counts[f.Kind]++; counts[f.Kind] <= maxListed {
			fmt.Fprintf(&b, "%-9s %s: %s\n", f.Kind, text.Printable(f.Where), text.Printable(f.Why))
		}
	}
	if r.More {
		fmt.Fprintf(&b, "%-9s there are more than %d of these\n", Altered, maxProblems)
	}
	for i, a := range r.Accepted {
		if i == maxListed {
			fmt.Fprintf(&b, "%-9s %d more\n", "accepted", len(r.Accepted)-i)
			break
		}
		fmt.Fprintf(&b, "%-9s %s: %s (%s, --accept %s)\n", "accepted", text.Printable(a.Where), text.Printable(a.Why), a.Kind,
			text.Printable(a.By))
	}
	for _, fact := range r.Facts {
		fmt.Fprintln(&b, text.Printable(fact))
	}
	fmt.Fprintf(&b, "%s: %d intact and signed, %d altered, %d signed by no trusted key, %s belonging to none",
		text.Count(len(r.Paths), "store path"), intact, altered+counts[Altered], untrusted, text.Count(counts[Extra], "file"))
	if counts[Unknown] > 0 {
		fmt.Fprintf(&b, ", %d that this program cannot tell about", counts[Unknown])
	}
	fmt.Fprintf(&b, "\nverified covers every file in the layers directory, the launcher with its configuration, process types, "+
		"entrypoint and environment; not %s\n",
		text.Printable(strings.Join(append(slices.Clone(r.NotCovered), "what the app itself does"), ", not ")))
	_, err := io.WriteString(out, b.String())
	return err
}

// line writes what was found of a store path.
func (p Path) line(b *strings.Builder) {
	layer := text.Printable(p.Layer)
	switch {
	case p.Problem != "":
		fmt.Fprintf(b, "%-9s %s (%s): %s\n", Altered, p.Path, layer, text.Printable(p.Problem))
	case p.Signed == "" && len(p.Claimed) == 0:
		fmt.Fprintf(b, "UNSIGNED  %s (%s)\n", p.Path, layer)
	case p.Signed == "":
		fmt.Fprintf(b, "UNTRUSTED %s (%s) signed by %s\n", p.Path, layer, text.Printable(strings.Join(p.Claimed, ", ")))
	default:
		fmt.Fprintf(b, "intact    %s (%s) %s\n", p.Path, layer, text.Printable(p.Signed))
	}
	for _, o := range p.Overruled {
		fmt.Fprintf(b, "  %q was taken as harmless by BP_NIX_HARMLESS=%q: %q\n", o.File, o.By, o.Detail)
	}
}
