package nixproot

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// misspeltError says that a variable looks like a setting of this buildpack and is none, so that it would do nothing.
type misspeltError struct {
	// Name is the variable's, Meant the setting that is nearest to it, "" where none is near.
	Name, Meant string
}

// Error names both.
func (e *misspeltError) Error() string {
	if e.Meant == "" {
		return fmt.Sprintf("%s is no setting of this version of the buildpack", e.Name)
	}
	return fmt.Sprintf("%s is no setting of this buildpack; did you mean %s?", e.Name, e.Meant)
}

const (
	// maxMisspelt is how many letters of a setting's name may be wrong, or two that change places.
	maxMisspelt = 2
	// shortName is how long a setting's name is that other programs' variables are near to.
	shortName = 12
)

// checkNames refuses variables that are meant for this buildpack and that it does not know: those that begin as its own
// do, and those of which a setting differs in the plural, or in at most maxMisspelt letters. Others are none of its business.
func checkNames(settings, environ []string) error {
	for _, variable := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(variable, "=")
		if value == "" || slices.Contains(settings, name) {
			continue
		}
		nearly := func(setting string) bool {
			return strings.TrimSuffix(setting, "S") == strings.TrimSuffix(name, "S") ||
				len(setting) > shortName && text.Distance(text.Short(name), setting) <= maxMisspelt
		}
		switch i := slices.IndexFunc(settings, nearly); {
		case i >= 0:
			return &misspeltError{Name: name, Meant: settings[i]}
		case strings.HasPrefix(name, "BP_NIX"), strings.HasPrefix(name, "BPL_NIX"):
			return &misspeltError{Name: name, Meant: nearest(name, settings)}
		}
	}
	return nil
}

// nearest is the setting that is written most like a name, "" where more than a third of the name would have to be
// written anew.
func nearest(name string, settings []string) string {
	best, least := "", len(name)/3+1
	for _, setting := range settings {
		if d := text.Distance(name, setting); d < least {
			best, least = setting, d
		}
	}
	return best
}
