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

// BlockedError says that the closure cannot be relocated although it has to be.
type BlockedError struct{ Reasons []Reason }

// Error names the first reasons.
func (e *BlockedError) Error() string {
	const most = 5
	var reasons []string
	for _, r := range e.Reasons[:min(most, len(e.Reasons))] {
		reasons = append(reasons, r.String())
	}
	if more := len(e.Reasons) - most; more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more", more))
	}
	return "relocating closure: " + strings.Join(reasons, "; ")
}

// LimitError is a closure beyond what a build takes: larger than any that is known, or made up by a cache.
type LimitError struct{ What string }

// Error says which limit it is.
func (e *LimitError) Error() string { return "resolving closure: " + e.What }

// MissingError says which reference could not be resolved, and who needs it.
type MissingError struct {
	Chain []storepath.Path // from a root to the path that is missing
	From  string           // the cache whose narinfo refers to it; "" for a root, or where it is known from before
	Err   error            // a *cache.NotFoundError for instance
}

// Error shows the way from the root, and who claims the last step.
func (e *MissingError) Error() string {
	if len(e.Chain) < 2 {
		return fmt.Sprintf("resolving closure: %v", e.Err)
	}
	var names []string
	for _, p := range e.Chain {
		names = append(names, p.Base())
	}
	if len(names) > 8 {
		names = slices.Concat(names[:3], []string{"…"}, names[len(names)-4:])
	}
	claim := ""
	if e.From != "" {
		claim = fmt.Sprintf("narinfo field References of %s at %s: ", names[len(names)-2], e.From)
	}
	return fmt.Sprintf("resolving closure: %s: %s%v", strings.Join(names, " → "), claim, e.Err)
}

// Unwrap gives the cause.
func (e *MissingError) Unwrap() error { return e.Err }

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
