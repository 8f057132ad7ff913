package nixinstall

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Impurity is a place in an expression that may give another result on another machine or another day.
type Impurity struct {
	File string // slash-separated, below the directory
	Line int
	Kind ImpurityKind
	// What is written there, for example "builtins.currentTime".
	What string
}

// String names the place.
func (i Impurity) String() string { return fmt.Sprintf("%s:%d: %s", i.File, i.Line, i.What) }

// ImpurityKind is what makes a place impure.
type ImpurityKind int

// What an expression may depend on besides its source.
const (
	Clock       ImpurityKind = iota // builtins.currentTime
	Environment                     // builtins.getEnv
	SearchPath                      // <nixpkgs> and the like
	Unpinned                        // something is fetched without a hash
)

// mutable reports whether the place may give another result in the next build, with the same source and settings: it
// reads the clock, or fetches what is not pinned. No variable of the build reaches an expression, and what is in angle
// brackets is as mutable as the search path.
func (i Impurity) mutable() bool { return i.Kind == Clock || i.Kind == Unpinned }

// impurities are the ways out of a source's own files: a group for each kind but the last, of which there is one for what a name
// stands for. What is fetched is impure where nothing pins it, which is looked
// for in the address, in a set of arguments, or in what a name stands for.
var (
	impurities = regexp.MustCompile(`\bbuiltins\.(?:(currentTime)|(getEnv))\b|` +
		`(<[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*>)|` +
		`\b(?:builtins\.)?(?:fetchTarball|fetchGit|fetchMercurial|fetchTree|fetchurl|getFlake)\s+` +
		`(?:"[^"]*"|https?://\S+|(\w+)\b\s*[;)]|\{)`)
	// A directory is as fixed as the source that it is in.
	pins = regexp.MustCompile(`\b(?:[0-9a-f]{40}|[0-9a-f]{64}|rev|narHash|\w*[hH]ash|sha\d+|md5)\b|` +
		`\btype\s*=\s*"path"|file://\$\{`)
)

const (
	maxImpurities = 20
	maxNixFile    = 1 << 20
)

// Impurities looks through the .nix files of a directory for expressions that do not depend on the source alone, at most
// 20, in the order of files and lines. It reads text: what it finds is a hint, not a proof.
func Impurities(ctx context.Context, dir string) ([]Impurity, error) {
	var found []Impurity
	err := eachImpurity(ctx, dir, nil, func(i Impurity) bool {
		found = append(found, i)
		return len(found) < maxImpurities
	})
	return found, err
}

// FirstMutable looks for the first place that may give another result in the next build, but in the entries to exclude,
// which are relative to dir.
func FirstMutable(ctx context.Context, dir string, exclude []string) (first Impurity, found bool, err error) {
	err = eachImpurity(ctx, dir, exclude, func(i Impurity) bool {
		if found = i.mutable(); found {
			first = i
		}
		return !found
	})
	return first, found, err
}

// eachImpurity shows the impurities of a directory one by one until the function returns false.
func eachImpurity(ctx context.Context, dir string, exclude []string, more func(Impurity) bool) error {
	err := eachNixFile(ctx, dir, exclude, func(name, text string) error {
		goesOn, err := impuritiesOf(ctx, name, text, more)
		if err == nil && !goesOn {
			return fs.SkipAll
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("looking for impurities in %s: %w", dir, err)
	}
	return nil
}

var usesRevCount = regexp.MustCompile(`\bself\.revCount\b`)

// UsesRevCount reports whether an expression of a directory, but for the entries to exclude, may ask for the number of
// commits, which takes long to count. Files behind the first that cannot be read are not looked at.
func UsesRevCount(ctx context.Context, dir string, exclude []string) (uses bool) {
	_ = eachNixFile(ctx, dir, exclude, func(_, text string) error {
		if uses = usesRevCount.MatchString(text); uses {
			return fs.SkipAll
		}
		return nil
	})
	return uses
}

// eachNixFile shows the .nix files of a directory up to 1 MiB, by their slash-separated names in it, but for what git keeps
// for itself and the entries to exclude, which are relative to the directory.
func eachNixFile(ctx context.Context, dir string, exclude []string, show func(name, text string) error) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(dir, path)
		switch {
		case relErr != nil:
			return relErr
		case slices.Contains(exclude, rel) && entry != nil && entry.IsDir():
			return fs.SkipDir
		case slices.Contains(exclude, rel):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case !entry.Type().IsRegular() || !strings.HasSuffix(entry.Name(), ".nix"):
			return nil
		}
		info, err := entry.Info()
		if err != nil || info.Size() > maxNixFile {
			return err
		}
		text, err := regularfile.Read(ctx, path, maxNixFile)
		if err != nil {
			return err
		}
		return show(filepath.ToSlash(rel), string(text))
	})
}

// impuritiesOf shows the impurities of a file one by one, and reports whether there may be more. Each place may take a
// look at the whole file, so that it asks before each whether the build goes on.
func impuritiesOf(ctx context.Context, file, content string, more func(Impurity) bool) (goesOn bool, err error) {
	code := withoutComments(content)
	for _, at := range impurities.FindAllStringSubmatchIndex(code, -1) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		what, name, kind := code[at[0]:at[1]], "", Clock
		for kind < Unpinned && at[2+2*kind] < 0 {
			kind++
		}
		if named := at[2+2*Unpinned:]; named[0] >= 0 {
			name = code[named[0]:named[1]]
		}
		var pinned bool
		switch {
		case kind != Unpinned:
		case name != "":
			pinned = inherited(code[:at[0]]) || isPinned(code, name)
		case strings.HasSuffix(what, "{"):
			what += argumentSet(code[at[1]:])
			pinned = pins.MatchString(what)
		default:
			pinned = pins.MatchString(what)
		}
		if !pinned {
			line := 1 + strings.Count(code[:at[0]], "\n")
			if !more(Impurity{File: file, Line: line, Kind: kind, What: text.Cut(redact.Text(text.Line(what)), 100)}) {
				return false, nil
			}
		}
	}
	return true, nil
}

// inherited reports whether what follows is in a list of inherited names, and not called.
func inherited(before string) bool {
	statement := before[strings.LastIndexAny(before, ";{=")+1:]
	return slices.Contains(strings.Fields(statement), "inherit")
}

// isPinned reports whether a name stands for a text or a set that pins something, or for arguments that must.
func isPinned(code, name string) bool {
	bound := regexp.MustCompile(`\b` + name + `\s*=\s*(?:"[^"]*"|\{[^{}]*\})|` +
		`\{[^{}]*\}\s*@\s*` + name + `\b|\b` + name + `\s*@\s*\{[^{}]*\}`)
	return pins.MatchString(bound.FindString(code))
}

// argumentSet is the rest of a set up to its closing brace.
func argumentSet(rest string) string {
	depth := 1
	for i, r := range rest {
		switch r {
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth == 0 {
			return rest[:i+1]
		}
	}
	return rest
}
