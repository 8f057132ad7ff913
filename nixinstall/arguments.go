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

// codeOf blanks the comments and texts of an expression, and leaves what "${…}" puts into texts.
func codeOf(text string) string {
	l := &lexer{text: text, code: []byte(text), levels: []level{{}}}
	for l.at < len(text) {
		if l.level().quote == 0 {
			l.inCode()
		} else {
			l.inText()
		}
	}
	return string(l.code)
}

// lexer goes through an expression.
type lexer struct {
	text   string
	code   []byte // the text, blanked up to at
	at     int
	levels []level // the last is the innermost
}

// level is a text in code, or code in a text.
type level struct {
	quote byte // of a text, 0 of code
	depth int  // braces that are open in code
}

func (l *lexer) level() *level           { return &l.levels[len(l.levels)-1] }
func (l *lexer) begin(quote byte)        { l.levels = append(l.levels, level{quote: quote}) }
func (l *lexer) end()                    { l.levels = l.levels[:max(1, len(l.levels)-1)] }
func (l *lexer) starts(with string) bool { return strings.HasPrefix(l.text[l.at:], with) }

// blank goes n bytes on and blanks them.
func (l *lexer) blank(n int) {
	for end := min(l.at+n, len(l.text)); l.at < end; l.at++ {
		l.code[l.at] = ' '
	}
}

// blankThrough blanks all up to the end of a comment.
func (l *lexer) blankThrough(end string) {
	n := len(l.text) - l.at
	if at := strings.Index(l.text[l.at:], end); at >= 0 {
		n = at + len(end)
	}
	l.blank(n)
}

func (l *lexer) inText() {
	switch double := l.level().quote == '"'; {
	case l.starts("${"):
		l.at += 2
		l.begin(0)
	case l.starts("$$"), double && l.starts(`\`):
		l.blank(2)
	case !double && l.starts(`''\`):
		l.blank(4)
	case !double && (l.starts("'''") || l.starts("''$")):
		l.blank(3)
	case double && l.starts(`"`):
		l.blank(1)
		l.end()
	case !double && l.starts("''"):
		l.blank(2)
		l.end()
	default:
		l.blank(1)
	}
}

func (l *lexer) inCode() {
	switch {
	case l.starts("#"):
		l.blankThrough("\n")
	case l.starts("/*"):
		l.blankThrough("*/")
	case l.starts(`"`):
		l.blank(1)
		l.begin('"')
	case l.starts("''"):
		l.blank(2)
		l.begin('\'')
	case l.starts("{"):
		l.level().depth++
		l.at++
	case l.starts("}") && l.level().depth > 0:
		l.level().depth--
		l.at++
	case l.starts("}"):
		l.at++
		l.end()
	default:
		l.at++
	}
}
