package nixinstall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// nixpkgsVariables are the variables by which a person configures nixpkgs, and the only ones of the build that
// expressions may read.
var nixpkgsVariables = []string{
	"NIXPKGS_ALLOW_UNFREE", "NIXPKGS_ALLOW_INSECURE", "NIXPKGS_ALLOW_BROKEN", "NIXPKGS_ALLOW_UNSUPPORTED_SYSTEM",
	"NIXPKGS_ALLOW_NONSOURCE", nixpkgsConfig,
}

// nixpkgsConfig names the file with nixpkgs' own settings, such as permittedInsecurePackages.
const nixpkgsConfig = "NIXPKGS_CONFIG"

// Variables are those of an environment, as os.Environ gives it, that expressions may read.
func Variables(environment []string) []string {
	var found []string
	for _, entry := range environment {
		if name, value, _ := strings.Cut(entry, "="); value != "" && slices.Contains(nixpkgsVariables, name) {
			found = append(found, entry)
		}
	}
	return found
}

// nixpkgsConfigIn resolves a NIXPKGS_CONFIG that names a file of the source.
func nixpkgsConfigIn(source storepath.Path, environment []string) []string {
	environment = slices.Clone(environment)
	for i, entry := range environment {
		file, ok := strings.CutPrefix(entry, nixpkgsConfig+"=")
		if ok && file != "" && !path.IsAbs(file) {
			environment[i] = nixpkgsConfig + "=" + path.Join(source.String(), file)
		}
	}
	return environment
}

// IsInSource reports whether an entry of the search path names a place in the source: "./directory", "directory", ".". What
// has a colon is an address.
func IsInSource(place string) bool {
	return place != "" && fs.ValidPath(path.Clean(place)) && !strings.ContainsAny(place, ":~")
}

// nixPathIn resolves entries that name a place in the source, as Nix does in its working directory.
func nixPathIn(source storepath.Path, entries []string) []string {
	resolved := make([]string, 0, len(entries))
	for _, entry := range entries {
		name, place, named := strings.Cut(entry, "=")
		if !named {
			name, place = "", entry
		}
		if IsInSource(place) {
			place = path.Join(source.String(), place)
		}
		if named {
			place = name + "=" + place
		}
		resolved = append(resolved, place)
	}
	return resolved
}

// checkArguments reports the first argument that is no Nix expression by itself.
func (t Toolchain) checkArguments(ctx context.Context, exprs map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(exprs)) {
		doing := "reading the expression of argument " + name
		_, err := t.run(ctx, command{
			program: "nix-instantiate", args: []string{"--parse", "--log-format", "internal-json", "-"}, stdin: exprs[name],
			doing: doing,
		})
		var failure *nixError
		if errors.As(err, &failure) { // without its text, which may hold secrets
			summary, _, _ := strings.Cut(failure.last().Raw, "\n")
			return &EvalError{Summary: fmt.Sprintf("argument %s is no Nix expression: %s", name, summary)}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// attrSet writes named expressions as an attribute set.
func attrSet(exprs map[string]string) string {
	var out strings.Builder
	out.WriteString("{")
	for _, name := range slices.Sorted(maps.Keys(exprs)) {
		fmt.Fprintf(&out, " ${%s} = (%s\n);", quoteNix(name), exprs[name])
	}
	return out.String() + " }"
}

// relativePath is a path literal of the Nix language that begins with "./" or "../" (NixOS/nix:
// src/libexpr/lexer.l, PATH).
var relativePath = regexp.MustCompile(`(^|[\s()\[\]{};=,:!?@&|<>*"])(\.\.?(?:/[A-Za-z0-9._+-]+)+/?)`)

// expressionIn writes the relative paths of an expression, outside its comments and strings, as paths of the source.
func expressionIn(source storepath.Path, text string) string {
	code := codeOf(text)
	var out strings.Builder
	done := 0
	for _, at := range relativePath.FindAllStringSubmatchIndex(code, -1) {
		from, to := at[4], at[5]
		out.WriteString(text[done:from])
		fmt.Fprintf(&out, `(/. + %s)`, quoteNix(path.Join(source.String(), text[from:to])))
		done = to
	}
	return out.String() + text[done:]
}
