package nixproot

import (
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
)

// harmlessSetting is the value of BP_NIX_HARMLESS that takes all that stands in the way of relocation as harmless,
// quoted for a shell, or "" if that cannot be done.
func harmlessSetting(blockers []closure.Blocker) string {
	const most = 8 // a longer value would be set without being read
	var globs []string
	for _, b := range blockers {
		if !b.Overrulable() {
			return ""
		}
		if glob := relocate.OverruleOf(b.Path, b.File); !slices.Contains(globs, glob) {
			globs = append(globs, glob)
		}
	}
	if len(globs) == 0 || len(globs) > most {
		return ""
	}
	return "'" + strings.Join(globs, " ") + "'"
}
