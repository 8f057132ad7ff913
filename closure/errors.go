package closure

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// BlockedError says that the closure cannot be relocated although it has to be.
type BlockedError struct{ Blockers []Blocker }

// Error names the first reasons.
func (e *BlockedError) Error() string {
	const most = 5
	var reasons []string
	for _, r := range e.Blockers[:min(most, len(e.Blockers))] {
		reasons = append(reasons, r.String())
	}
	if more := len(e.Blockers) - most; more > 0 {
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

// LoopError says that store paths refer to each other in a circle, which no Nix store can hold.
type LoopError struct {
	Loop []storepath.Path // each refers to the next, and the last one to the first
	From []string         // the caches whose narinfos say so
}

// Error names the circle and who claims it.
func (e *LoopError) Error() string {
	var names []string
	for _, p := range e.Loop {
		names = append(names, p.Base())
	}
	claim := "resolving closure: reference loop: "
	if len(e.From) > 0 {
		claim = "resolving closure: narinfo field References at " + strings.Join(e.From, ", ") + ": reference loop: "
	}
	return claim + strings.Join(append(names, e.Loop[0].Base()), " → ")
}
