package relocate

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Overrules are globs of files whose blockers somebody takes as harmless. A glob names files below any store path
// ("share/foo/**"), or with the store path's base name before them ("*-nodejs-*/bin/node"); a store path that is a file is
// named by its base name alone ("*-foo.jar"). "**" stands for any number of directories, "*" and "?" for characters of one
// name, [a-z] and {a,b} for one of several.
type Overrules []string

// ParseOverrules reads globs, separated by white space.
func ParseOverrules(text string) (Overrules, error) {
	globs := strings.Fields(text)
	for _, glob := range globs {
		if !doublestar.ValidatePattern(glob) || !namesFile(glob) {
			return nil, fmt.Errorf("%q is no glob of files below a store path, such as share/foo/** or *-nodejs-*/bin/node", glob)
		}
	}
	return globs, nil
}

// namesFile reports whether a glob could match a file: not "share/foo/", which means share/foo/**, nor one that still has the quotes
// that a shell would have taken.
func namesFile(glob string) bool {
	return path.Clean("/"+glob) == "/"+glob && !strings.ContainsAny(glob[:1], `'"`)
}

// Match gives the first glob that a file of a store path is taken as harmless by, or "".
func (o Overrules) Match(p storepath.Path, file string) string {
	for _, glob := range o {
		names := []string{file, p.Base() + "/" + file}
		if file == "" {
			names = []string{p.Base()}
		}
		for _, name := range names {
			if ok, err := doublestar.Match(glob, name); ok && err == nil {
				return glob
			}
		}
	}
	return ""
}

// OverruleOf is a glob of one file of a store path and of other builds of it.
func OverruleOf(p storepath.Path, file string) string {
	if file == "" {
		return "*-" + p.Name()
	}
	return "*-" + p.Name() + "/" + strings.Map(func(c rune) rune {
		if c < utf8.RuneSelf && (plainChar(byte(c)) || c == '=' || c == ':') {
			return c
		}
		return '?' // any character
	}, file)
}

// Overruling is the view with globs of what is taken as harmless. What is written does not depend on them.
func (v View) Overruling(o Overrules) View {
	v.overrules = o
	return v
}

// Overrules are the globs that the view takes as harmless.
func (v View) Overrules() Overrules { return v.overrules }

// Overrulable reports whether somebody may take blockers of a kind as harmless: not those that spoil the way back.
func (k Kind) Overrulable() bool { return k != RelocatedName && k != Ambiguous }
