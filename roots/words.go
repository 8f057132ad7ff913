package roots

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// indent keeps further lines below the first.
func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n       ") }

// listOf is shortList as a clause.
func listOf(names []string) string { return strings.Join(shortList(names), ", ") }

func shortList(names []string) []string {
	if len(names) <= listed {
		return names
	}
	return append(slices.Clone(names[:listed]), fmt.Sprintf("and %d more", len(names)-listed))
}

// Redact hides the password of a URL that is about to be shown.
func Redact(s string) string {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		authority, path, _ := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			return scheme + "://…@" + authority[at+1:] + strings.TrimSuffix("/"+path, "/")
		}
	}
	return s
}

// Plural counts things in words: "1 path", "2 paths".
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// baseNames are the names of store paths.
func baseNames(paths []storepath.Path) []string {
	list := make([]string, len(paths))
	for i, p := range paths {
		list[i] = p.Base()
	}
	return list
}
