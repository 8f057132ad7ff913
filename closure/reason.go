package closure

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Undeclared is the kind of Reason for a path that names another one of the closure without referring to it.
const Undeclared relocate.Kind = "reference that its narinfo does not declare"

// Reason says why a closure cannot be relocated.
type Reason struct {
	Path   storepath.Path
	File   string // slash-separated, below the store path; "" where it is about no one file
	Kind   relocate.Kind
	Detail string
	// With are the other paths that it takes for this to matter.
	With []storepath.Path
}

// String says it in one line.
func (r Reason) String() string {
	where := r.Path.String()
	if r.File != "" {
		where += "/" + text.Printable(r.File)
	}
	return fmt.Sprintf("%s: %s: %s", where, r.Kind, text.Printable(r.Detail))
}

// appliesTo reports whether the reason is one for this closure too.
func (r Reason) appliesTo(g *Graph) bool {
	return g.Nodes[r.Path] != nil && !slices.ContainsFunc(r.With, func(p storepath.Path) bool { return g.Nodes[p] == nil })
}

// applicable are those of reasons that are reasons for this closure too.
func applicable(reasons []Reason, g *Graph) []Reason {
	return slices.DeleteFunc(slices.Clone(reasons), func(r Reason) bool { return !r.appliesTo(g) })
}

// sortReasons puts reasons in an order that does not depend on how they were found or remembered: the first of them
// are written into the image.
func sortReasons(reasons []Reason) {
	slices.SortFunc(reasons, func(a, b Reason) int {
		return cmp.Or(strings.Compare(string(a.Path), string(b.Path)), strings.Compare(a.File, b.File),
			strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Detail, b.Detail))
	})
}

// reasonsPerPath bounds how many files of one path are named.
const reasonsPerPath = 4

// blockerReasons are the reasons that relocating one path gave.
func blockerReasons(p storepath.Path, report relocate.Report) []Reason {
	if report.Relocatable() {
		return nil
	}
	var reasons []Reason
	for _, b := range report.Blockers {
		if b.Harmless == "" && len(reasons) < reasonsPerPath {
			file := strings.ToValidUTF8(b.File, "?") // it is kept as JSON
			reasons = append(reasons, Reason{Path: p, File: file, Kind: b.Kind, Detail: b.Detail})
		}
	}
	if more := report.Blocking - len(reasons); more > 0 && len(reasons) > 0 {
		reasons[len(reasons)-1].Detail += fmt.Sprintf(" (and %d more in this path)", more)
	}
	return reasons
}

// graphReasons are the reasons that only the whole closure shows: paths that the view cannot tell apart, and
// references that no narinfo declares.
func graphReasons(g *Graph, view relocate.View) []Reason {
	if view.IsZero() {
		return nil
	}
	var reasons []Reason
	for _, c := range view.Collisions(g.Paths()) {
		reasons = append(reasons, Reason{
			Path: c.Paths[0], Kind: relocate.Ambiguous, Detail: c.String(), With: c.Paths[1:],
		})
	}
	short := make(map[string]storepath.Path, len(g.Nodes))
	for p := range g.Nodes {
		short[p.HashPart()[:shortHash]] = p
	}
	for _, n := range g.Sorted() {
		for _, hash := range n.Foreign {
			other, ok := short[hash[:min(shortHash, len(hash))]]
			if ok && other != n.Path && !slices.Contains(n.References, other) {
				reasons = append(reasons, Reason{
					Path: n.Path, Kind: Undeclared, Detail: "it names " + other.String(), With: []storepath.Path{other},
				})
			}
		}
	}
	return reasons
}
