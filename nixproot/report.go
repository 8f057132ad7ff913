package nixproot

import (
	"fmt"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

// notCachedReport says of outputs that no cache has what was looked at, what was found, and what to do about it.
func notCachedReport(e *roots.NotCachedError) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s, and nothing is compiled here\n", e.Error())
	title := "What may be the reason, the likeliest first"
	if e.Proven() {
		title = "The reason"
	}
	fmt.Fprintf(&s, "\n%s:\n", title)
	for i, finding := range e.Findings {
		fmt.Fprintf(&s, "  %d. %s\n", i+1, indent(finding.Text))
		for _, fix := range findingFixes(finding) {
			fmt.Fprintf(&s, "     → %s\n", indent(fix))
		}
	}
	fmt.Fprintf(&s, "\nWhat was tried: %s", e.Entry)
	if len(e.Names) > 0 {
		fmt.Fprintf(&s, " was evaluated in a source named %s", strings.Join(e.Names, ", "))
	}
	s.WriteString(".\n")
	if len(e.Build) > 0 {
		fmt.Fprintf(&s, "What would have to be built: %s.\n", text.List(e.Build, 10))
	}
	if e.Have > 0 {
		fmt.Fprintf(&s, "What the caches have: %d of the %d outputs wanted.\n", e.Have, e.Have+len(e.Missing))
	}
	s.WriteString("What the caches said:\n")
	for _, a := range e.Asked {
		fmt.Fprintf(&s, "  %s: %s\n", a.URL, a.Why)
	}
	return strings.TrimRight(s.String(), "\n")
}

// indent keeps further lines below the first.
func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n       ") }

// findingFixes are what to do about one finding.
func findingFixes(f roots.Finding) []string {
	fixes := fixesOf(f.Err)
	for _, kind := range f.Kinds {
		fixes = append(fixes, adviceOn(topic(kind), f.Facts...)...)
	}
	return fixes
}
