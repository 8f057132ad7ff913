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

// Undeclared is the kind of Blocker of a path that names another one of the closure without referring to it.
const Undeclared relocate.Kind = "reference that its narinfo does not declare"

// Blocker is what keeps a closure from being relocated: one of a file, as relocate.Blocker is, or one that only the whole
// closure shows.
type Blocker struct {
	Path   storepath.Path `json:"path"`
	File   string         `json:"file,omitempty"` // slash-separated, below the store path; "" where it is about no one file
	Kind   relocate.Kind  `json:"kind"`
	Detail string         `json:"detail"`
	// With are the other paths that it takes for this to matter.
	With []storepath.Path `json:"with,omitempty"`
}

// String says it in one line.
func (b Blocker) String() string {
	where := b.Path.String()
	if b.File != "" {
		where += "/" + text.Printable(b.File)
	}
	return fmt.Sprintf("%s: %s: %s", where, b.Kind, text.Printable(b.Detail))
}

// Overrulable reports whether somebody may take it as harmless.
func (b Blocker) Overrulable() bool { return b.Kind != Undeclared && b.Kind.Overrulable() }

// appliesTo reports whether this closure has all that it takes.
func (b Blocker) appliesTo(g *Graph) bool {
	return g.Nodes[b.Path] != nil && !slices.ContainsFunc(b.With, func(p storepath.Path) bool { return g.Nodes[p] == nil })
}

// applicable are those of blockers that keep this closure from being relocated, too.
func applicable(blockers []Blocker, g *Graph) []Blocker {
	return slices.DeleteFunc(slices.Clone(blockers), func(b Blocker) bool { return !b.appliesTo(g) })
}

// sortBlockers puts blockers in an order that does not depend on how they were found or remembered: the first of them
// are written into the image.
func sortBlockers(blockers []Blocker) {
	slices.SortFunc(blockers, func(a, b Blocker) int {
		return cmp.Or(strings.Compare(string(a.Path), string(b.Path)), strings.Compare(a.File, b.File),
			strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Detail, b.Detail))
	})
}

// blockersPerPath bounds how many files of one path are named: one more than the advice names.
const blockersPerPath = 9

// pathBlockers are those that relocating one path gave.
func pathBlockers(p storepath.Path, report relocate.Report) []Blocker {
	if report.Relocatable() {
		return nil
	}
	var blockers []Blocker
	for _, overrulable := range []bool{false, true} { // where nobody can overrule one of a file, the others are of no interest
		for _, b := range report.Blockers {
			file := text.Valid(b.File) // it is kept as JSON
			named := slices.ContainsFunc(blockers, func(other Blocker) bool { return other.File == file })
			if b.Harmless == "" && b.Kind.Overrulable() == overrulable && !named && len(blockers) < blockersPerPath {
				blockers = append(blockers, Blocker{Path: p, File: file, Kind: b.Kind, Detail: b.Detail})
			}
		}
	}
	if more := report.Blocking - len(blockers); more > 0 && len(blockers) > 0 {
		blockers[len(blockers)-1].Detail += fmt.Sprintf(" (and %d more in this path)", more)
	}
	return blockers
}

// Blockers are those that only the whole closure shows: paths that the view cannot tell apart, and references that no
// narinfo declares.
func (g *Graph) Blockers(view relocate.View) []Blocker {
	if view.IsZero() {
		return nil
	}
	var blockers []Blocker
	for _, c := range view.Collisions(g.Paths()) {
		blockers = append(blockers, Blocker{
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
				blockers = append(blockers, Blocker{
					Path: n.Path, Kind: Undeclared, Detail: "it names " + other.String(), With: []storepath.Path{other},
				})
			}
		}
	}
	return blockers
}
