package nixproot

import (
	"fmt"
	"slices"
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
		for _, step := range findingSteps(finding) {
			fmt.Fprintf(&s, "     → %s\n", indent(step))
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

// findingSteps are what to do about one finding.
func findingSteps(f roots.Finding) []string {
	known := facts{}
	for pair := range slices.Chunk(f.Facts, 2) {
		known[pair[0]] = pair[1]
	}
	steps := stepsFor(f.Err)
	for _, kind := range f.Kinds {
		steps = append(steps, adviceOn(func(entry advice) facts { return known.when(entry.finding == kind) })...)
	}
	return steps
}
