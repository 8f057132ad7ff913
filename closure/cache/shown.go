package cache

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// shownName is a name that a cache made up, fit for logs: quoted where it has blanks or what moves a terminal's cursor.
func shownName(name string) string {
	name = text.Short(name)
	odd := func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar }
	if strings.ContainsFunc(name, odd) {
		return strconv.Quote(name)
	}
	return name
}

// shownText is a sentence of somebody else's, fit for logs: in one line and without what moves a terminal's cursor.
func shownText(said string) string {
	said = text.Line(text.Short(redact.Text(said)))
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return unicode.ReplacementChar
		}
		return r
	}, said)
}
