package nixproot

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/nixproot/nix-hydra-buildpack/sbom"
)

// reader reads settings and keeps the first complaint.
type reader struct {
	lookup Lookup
	err    error
}

func (r *reader) text(name string) string {
	value, _ := r.lookup(name)
	return strings.TrimSpace(value)
}

// list splits at white space and commas; several names are one setting under its old and new name.
func (r *reader) list(names ...string) []string {
	for _, name := range names {
		fields := strings.FieldsFunc(r.text(name), func(c rune) bool { return strings.ContainsRune(" \t\n\r,", c) })
		if len(fields) > 0 {
			return fields
		}
	}
	return nil
}

// patterns splits at colons, as other buildpacks do for file patterns.
func (r *reader) patterns(name string) []string {
	patterns := strings.FieldsFunc(r.text(name), func(c rune) bool { return c == ':' })
	for _, pattern := range patterns {
		if !doublestar.ValidatePattern(pattern) {
			r.fail(name, pattern, "patterns of files such as public/** or *.css, separated by colons")
		}
	}
	return patterns
}

func (r *reader) pairs(name string) map[string]string {
	pairs := map[string]string{}
	for i, field := range r.fields(name) {
		key, value, ok := strings.Cut(field, "=")
		if !ok || key == "" {
			if r.err == nil { // without its text, which may be a part of a secret
				r.err = fmt.Errorf("word %d of %s is no name=value pair; a value with spaces is quoted: name='two words'", i+1, name)
			}
			continue
		}
		pairs[key] = value
	}
	return pairs
}

// fields splits at white space as a shell does: what stands between single or double quotes is kept together and the
// quotes are left out. Nothing else means anything.
func (r *reader) fields(name string) []string {
	var fields []string
	var field strings.Builder
	quote, inWord := rune(0), false
	for _, c := range r.text(name) {
		switch {
		case quote == 0 && unicode.IsSpace(c):
			if inWord {
				fields = append(fields, field.String())
			}
			field.Reset()
			inWord = false
			continue
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == c:
			quote = 0
		default:
			field.WriteRune(c)
		}
		inWord = true
	}
	if quote != 0 && r.err == nil { // without its text, which may hold secrets
		r.err = fmt.Errorf("reading %s: a quote %c is not closed", name, quote)
	}
	if inWord {
		fields = append(fields, field.String())
	}
	return fields
}

func (r *reader) boolean(name string, fallback bool) bool {
	value := r.text(name)
	if value == "" {
		return fallback
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		r.fail(name, value, "true or false")
		return fallback
	}
	return b
}

func (r *reader) number(name string, most int) int {
	value := r.text(name)
	if value == "" {
		return 0
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most {
		r.fail(name, value, fmt.Sprintf("a whole number from 1 to %d", most))
		return 0
	}
	return n
}

func (r *reader) duration(name string, least time.Duration) time.Duration {
	value := r.text(name)
	if value == "" {
		return 0
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < least {
		r.fail(name, value, "a duration such as 90s, 10m or 1h")
		return 0
	}
	return d
}

// epoch checks a time that package sbom reads.
func (r *reader) epoch(name string) {
	value := r.text(name)
	if _, err := sbom.CheckEpoch(value); value != "" && err != nil {
		r.fail(name, value, "seconds since 1970, such as 1767225600")
	}
}

func (r *reader) fail(name, value, want string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s is %q; it takes %s", name, value, want)
	}
}

// wrong is for what has a reader of its own, which says what is wrong with it.
func (r *reader) wrong(name string, err error, example string) {
	if r.err == nil {
		r.err = fmt.Errorf("reading %s: %w; %s", name, err, example)
	}
}
