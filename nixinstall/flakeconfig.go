package nixinstall

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// ListedCaches are caches and keys to trust that somebody lists for Nix, be it with "extra-" before it or without, and
// that are not among the settings.
type ListedCaches struct {
	// From is where: "nixConfig of flake.nix", a file, a variable.
	From              string   `json:"-"`
	Substituters      []string `json:"substituters"`
	TrustedPublicKeys []string `json:"trustedPublicKeys"`
}

// flakeConfig reads the attribute as Nix itself does, which takes strings and lists of them, without a look at inputs
// or outputs.
const flakeConfig = `file: let
  config = (import file).nixConfig or { };
  words = value:
    if builtins.isList value then builtins.concatMap words value
    else if builtins.isString value then builtins.filter (w: builtins.isString w && w != "") (builtins.split "[[:space:]]+" value)
    else [ ];
  all = builtins.concatMap (name: words (config.${name} or [ ]));
in {
  substituters = all [ "substituters" "extra-substituters" "trusted-substituters" "extra-trusted-substituters" ];
  trustedPublicKeys = all [ "trusted-public-keys" "extra-trusted-public-keys" ];
}`

// nixConfigs are where a source may have a nix.conf.
var nixConfigs = []string{"nix.conf", "nix/nix.conf", ".nix/nix.conf", ".config/nix/nix.conf"}

// ListedCaches reads what the nixConfig of a source's flake, a nix.conf in the source's directory, and the build's NIX_CONFIG
// list, none of which is obeyed. flake is the flake reference, "" where there is none; source is the directory's place in the
// store. What cannot be read lists nothing.
func (t Toolchain) ListedCaches(ctx context.Context, directory string, source storepath.Path, flake string) ([]ListedCaches,
	error) {
	var found []ListedCaches
	add := func(listed ListedCaches, from string) {
		known := func(have []string) func(string) bool { return func(s string) bool { return slices.Contains(have, s) } }
		listed.Substituters = slices.DeleteFunc(listed.Substituters, known(t.settings.Substituters))
		listed.TrustedPublicKeys = slices.DeleteFunc(listed.TrustedPublicKeys, known(t.settings.TrustedPublicKeys))
		if listed.From = from; len(listed.Substituters)+len(listed.TrustedPublicKeys) > 0 {
			found = append(found, listed)
		}
	}
	ref, err := parseFlakeReference(flake)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file := path.Join(ref.dir, "flake.nix")
	if text, err := readSourceFile(root, file); err == nil && strings.Contains(text, "nixConfig") {
		if listed, err := t.flakeConfig(ctx, source, file); err == nil {
			add(listed, "nixConfig of "+file)
		}
	}
	readNixConfigs(root, t.settings.variable("NIX_CONFIG"), add)
	return found, ctx.Err()
}

// WrittenCaches are ListedCaches where there is no Nix to ask: of the nixConfig of flake.nix what is written out in it.
// variable is the build's NIX_CONFIG.
func WrittenCaches(directory, variable string) []ListedCaches {
	var found []ListedCaches
	add := func(listed ListedCaches, from string) {
		if listed.From = from; len(listed.Substituters)+len(listed.TrustedPublicKeys) > 0 {
			found = append(found, listed)
		}
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil
	}
	defer root.Close()
	if text, err := readSourceFile(root, "flake.nix"); err == nil {
		add(writtenConfig(text), "nixConfig of flake.nix")
	}
	readNixConfigs(root, variable, add)
	return found
}

func readNixConfigs(root *os.Root, variable string, add func(ListedCaches, string)) {
	for _, name := range nixConfigs {
		if text, err := readSourceFile(root, name); err == nil {
			add(nixConfig(text), name)
		}
	}
	add(nixConfig(variable), "NIX_CONFIG")
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

// flakeConfig reads the nixConfig of a flake.nix in the source (NixOS/nix: src/nix/flake.md, "Flake format").
func (t Toolchain) flakeConfig(ctx context.Context, source storepath.Path, file string) (ListedCaches, error) {
	var config ListedCaches
	doing := "reading the nixConfig of " + file
	result, err := t.run(ctx, command{
		program: "nix", args: []string{"eval", "--json", "-v", "--log-format", "internal-json", "--file", "-"},
		stdin: "(" + flakeConfig + ") " + quoteNix(source.String()+"/"+file), doing: doing,
	})
	if err != nil {
		return config, fmt.Errorf("%s: %w", doing, t.explain(err, source))
	}
	if err := json.Unmarshal(result.stdout, &config); err != nil {
		return config, fmt.Errorf("%s: reading Nix's answer: %w", doing, err)
	}
	return config, nil
}
