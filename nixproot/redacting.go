package nixproot

import (
	"bytes"
	"cmp"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
)

// redacting hides secrets in all that is logged: passwords and signatures in URLs, and what the environment says in
// confidence. Our own messages have none; this is for the libraries' debug output, which prints the whole environment,
// and for what a hook prints.
type redacting struct {
	to      io.Writer
	secrets *strings.Replacer
}

const (
	// hidden stands in a secret's place.
	hidden = "(hidden)"
	// shortestSecret is how long a value has to be to be hidden wherever it stands, in bytes: a shorter one would blank
	// out what has nothing to do with it.
	shortestSecret = 8
	// argumentsName is the setting with an expression's arguments, which may be anything.
	argumentsName = "BP_NIX_ARGS"
	// expressionsName is the same as Nix expressions.
	expressionsName = "BP_NIX_ARG_EXPRS"
	// nixConfigName is Nix's variable with lines of its configuration.
	nixConfigName = "NIX_CONFIG"
)

var (
	secretURL = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]*[@?][^\s"'<>]*`)
	// stringLiteral is a named text in a Nix expression.
	stringLiteral = regexp.MustCompile(`([A-Za-z0-9_-]+)\s*=\s*'?"([^"]*)"`)
	secretName    = regexp.MustCompile(`(?i)secret|token|passw|_(pass|pwd|auth)$|auth_config|credential|private|api_?key|access_?key|_key$`)
)

// newRedacting hides an environment's secrets. Of variables that are not this buildpack's own no value is shown where
// the environment is listed; those whose names speak of secrets are hidden wherever their value stands.
func newRedacting(to io.Writer, environment map[string]string) redacting {
	hide := map[string]string{}
	confide := func(name, value string) {
		if !secretName.MatchString(name) {
			return
		}
		// Of several lines, such as a key's, each may come for itself, and indented.
		for _, text := range append(strings.Split(value, "\n"), value) {
			if text = strings.TrimSpace(text); len(text) >= shortestSecret {
				hide[text] = hidden
			}
		}
	}
	for name, value := range environment {
		if value != "" && !isShown(name) {
			hide[name+":"+value] = name + ":" + hidden // as a Go map is printed
		}
		confide(name, value)
		for _, word := range addresses(name, value) {
			if login := loginWithoutScheme(word); login != "" {
				hide[login] = hidden
			}
		}
	}
	for _, argument := range strings.Fields(environment[argumentsName]) {
		name, value, _ := strings.Cut(argument, "=")
		confide(name, value)
	}
	for _, literal := range stringLiteral.FindAllStringSubmatch(environment[expressionsName], -1) {
		confide(literal[1], literal[2])
	}
	for line := range strings.Lines(environment[nixConfigName]) {
		name, value, _ := strings.Cut(line, "=")
		for _, token := range strings.Fields(value) { // access-tokens = HOST=TOKEN …
			if _, secret, found := strings.Cut(token, "="); found {
				confide(name, secret)
			}
		}
	}
	texts := make([]string, 0, len(hide))
	for text := range hide {
		texts = append(texts, text)
	}
	// The longest first, as one may begin with another.
	slices.SortFunc(texts, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b)) })
	var pairs []string
	for _, text := range texts {
		pairs = append(pairs, text, hide[text])
	}
	return redacting{to: to, secrets: strings.NewReplacer(pairs...)}
}

// isShown reports whether a variable is a setting of this buildpack that nobody would put a secret into, but for the
// logins in its URLs.
func isShown(name string) bool {
	switch name {
	case argumentsName, expressionsName:
		return false
	case "BP_LOG_LEVEL", "BP_INCLUDE_FILES", "BP_EXCLUDE_FILES", "NIX_ATTRIBUTES", "NIX_EXTRA_BINARY_CACHE":
		return true
	}
	return strings.HasPrefix(name, "BP_NIX_") || strings.HasPrefix(name, "BPL_NIX_")
}

// addresses are what may be addresses in a setting of this buildpack; those with patterns of files have none.
func addresses(name, value string) []string {
	if !isShown(name) || strings.HasSuffix(name, "_FILES") || name == "BP_NIX_HARMLESS" {
		return nil
	}
	return strings.FieldsFunc(value, func(c rune) bool { return unicode.IsSpace(c) || c == ',' })
}

// loginWithoutScheme is what stands before the host of an address whose https:// was left out, "" where there is no login:
// secretURL does not find it.
func loginWithoutScheme(address string) string {
	login := address[:strings.LastIndexByte(address, '@')+1]
	if !strings.Contains(login, ":") || strings.Contains(login, "://") {
		return ""
	}
	return login
}

// environment is what a platform gives a build: the process's variables, and those in the platform directory's env, where it
// has one.
func environment(environ []string, platform string) map[string]string {
	all := map[string]string{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		all[name] = strings.TrimSpace(value)
	}
	if platform == "" { // env would be one of the directory that somebody works in
		return all
	}
	files, _ := filepath.Glob(filepath.Join(platform, "env", "*"))
	for _, file := range files {
		if value, err := os.ReadFile(file); err == nil {
			all[filepath.Base(file)] = strings.TrimSpace(string(value))
		}
	}
	return all
}

// Write passes a message on.
func (r redacting) Write(p []byte) (int, error) {
	if _, err := io.WriteString(r.to, r.text(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// text is a text without the secrets.
func (r redacting) text(s string) string {
	return secretURL.ReplaceAllStringFunc(r.secrets.Replace(s), redact.Text)
}

// wholeLines passes on what a program says line by line: a secret that comes in pieces would not be seen.
type wholeLines struct {
	to   io.Writer
	rest []byte // of a line that has not ended
}

// longestLine is how much of a line is waited for, in bytes.
const longestLine = 64 << 10

// Write takes a piece.
func (w *wholeLines) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	end := bytes.LastIndexByte(w.rest, '\n') + 1
	if end == 0 && len(w.rest) >= longestLine {
		end = len(w.rest)
	}
	if end == 0 {
		return len(p), nil
	}
	_, err := w.to.Write(w.rest[:end])
	w.rest = append(w.rest[:0], w.rest[end:]...)
	return len(p), err
}

// end passes on a last line that lacks its end.
func (w *wholeLines) end() {
	if len(w.rest) > 0 {
		_, _ = w.to.Write(append(w.rest, '\n'))
		w.rest = nil
	}
}
