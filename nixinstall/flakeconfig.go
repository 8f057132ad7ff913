package nixinstall

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

// ListedCaches are caches and keys to trust that somebody lists for Nix, be it with "extra-" before it or without.
type ListedCaches struct {
	// From are the places that list them: "nixConfig of flake.nix", a file, a variable.
	From              []string
	Substituters      []string
	TrustedPublicKeys []string
}

// add joins what another place lists.
func (l *ListedCaches) add(more ListedCaches, from string) {
	join := func(all, more []string) []string {
		for _, one := range more {
			if !slices.Contains(all, one) {
				all = append(all, one)
			}
		}
		return all
	}
	if len(more.Substituters)+len(more.TrustedPublicKeys) > 0 {
		l.From = append(l.From, from)
		l.Substituters = join(l.Substituters, more.Substituters)
		l.TrustedPublicKeys = join(l.TrustedPublicKeys, more.TrustedPublicKeys)
	}
}

// nixConfigs are where a source may have a nix.conf.
var nixConfigs = []string{"nix.conf", "nix/nix.conf", ".nix/nix.conf", ".config/nix/nix.conf"}

// ReadListedCaches reads what the nixConfig of a source's flake, a nix.conf in the source's directory, and variable, the
// build's NIX_CONFIG, list, none of which is obeyed. flake is the flake reference, "" where there is none. Of a nixConfig
// it reads texts and lists of texts, and Nix takes nothing else there (NixOS/nix: src/libflake/flake.cc,
// forceTrivialValue). What cannot be read lists nothing.
func ReadListedCaches(directory, flake, variable string) (found ListedCaches) {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return found
	}
	defer root.Close()
	ref, err := parseFlakeReference(flake)
	if err != nil {
		return found
	}
	file := path.Join(ref.dir, "flake.nix")
	if text, err := readSourceFile(root, file); err == nil {
		found.add(writtenConfig(text), "nixConfig of "+file)
	}
	for _, name := range nixConfigs {
		if text, err := readSourceFile(root, name); err == nil {
			found.add(nixConfig(text), name)
		}
	}
	found.add(nixConfig(variable), "NIX_CONFIG")
	return found
}

var (
	writtenSetting = regexp.MustCompile(`\b(?:extra-)?(substituters|trusted-substituters|trusted-public-keys)\s*=\s*(\[[^\]]*\]|"[^"]*")\s*;`)
	writtenText    = regexp.MustCompile(`"([^"\\]*)"`)
)

// writtenConfig reads the texts and lists of texts of a nixConfig.
func writtenConfig(flake string) ListedCaches {
	var listed ListedCaches
	text := withoutComments(flake)
	for {
		_, rest, found := strings.Cut(text, "nixConfig")
		if !found {
			return listed
		}
		end := endOfBinding(rest)
		for _, setting := range writtenSetting.FindAllStringSubmatch(rest[:end], -1) {
			var words []string
			for _, one := range writtenText.FindAllStringSubmatch(setting[2], -1) {
				words = append(words, strings.Fields(one[1])...)
			}
			if setting[1] == "trusted-public-keys" {
				listed.TrustedPublicKeys = append(listed.TrustedPublicKeys, words...)
			} else {
				listed.Substituters = append(listed.Substituters, words...)
			}
		}
		text = rest[end:]
	}
}

// endOfBinding is where the semicolon after a value ends, outside of all braces and texts.
func endOfBinding(text string) int {
	depth := 0
	for i, c := range []byte(codeOf(text)) {
		switch {
		case c == '{' || c == '[' || c == '(':
			depth++
		case c == '}' || c == ']' || c == ')':
			depth--
		case c == ';' && depth <= 0:
			return i + 1
		}
	}
	return len(text)
}

// nixConfig reads the caches and keys of a nix.conf.
func nixConfig(text string) ListedCaches {
	var listed ListedCaches
	for name, words := range nixSettings(text) {
		switch strings.TrimPrefix(name, "extra-") {
		case "substituters", "trusted-substituters", "binary-caches", "trusted-binary-caches":
			listed.Substituters = append(listed.Substituters, words...)
		case "trusted-public-keys", "binary-cache-public-keys":
			listed.TrustedPublicKeys = append(listed.TrustedPublicKeys, words...)
		}
	}
	return listed
}
