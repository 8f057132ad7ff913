package nixinstall

import (
	"iter"
	"slices"
	"strings"
)

// ownFeatures are the experimental features that questions themselves need.
var ownFeatures = []string{"nix-command", "flakes"}

// languageFeatures are the experimental features that say what an expression may be (NixOS/nix:
// src/libutil/experimental-features.cc). The others are about building, users, stores and daemons, of which there are none
// here.
var languageFeatures = []string{
	"blake3-hashes", "ca-derivations", "dynamic-derivations", "fetch-closure", "fetch-tree", "git-hashing", "impure-derivations",
	"parse-toml-timestamps", "pipe-operators", "verified-fetches",
}

// Features are the experimental features that evaluation takes from NIX_CONFIG of an environment, as os.Environ gives it:
// those of the language, sorted.
func Features(environment []string) []string {
	var named []string
	for name, words := range nixSettings(Settings{Environment: environment}.getenv("NIX_CONFIG")) {
		switch name {
		case "experimental-features":
			named = slices.Clone(words)
		case "extra-experimental-features":
			named = append(named, words...)
		}
	}
	named = slices.DeleteFunc(named, func(name string) bool { return !slices.Contains(languageFeatures, name) })
	slices.Sort(named)
	return slices.Compact(named)
}

// nixSettings are the settings of a nix.conf, in their order (NixOS/nix: src/libutil/configuration.cc, parseConfigFiles).
func nixSettings(text string) iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(line, "#")
			words := strings.Fields(line)
			if len(words) >= 2 && words[1] == "=" && !yield(words[0], words[2:]) {
				return
			}
		}
	}
}
