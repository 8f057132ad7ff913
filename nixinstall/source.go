package nixinstall

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// GitRule says which version-control files stay out of the source, by the nix-prefetch-git that comes with the Hydra
// that built it (NixOS/hydra: subprojects/hydra/script/nix-prefetch-git).
type GitRule uint8

const (
	// GitEntries leaves out every entry named exactly ".git": Hydra since April 2017.
	GitEntries GitRule = iota
	// GitPrefixed leaves out every entry whose name begins with ".git": Hydra before.
	GitPrefixed
	// GitKept leaves nothing out.
	GitKept
)

// DefaultSourceName is the name of a source that nobody has named: what Hydra has called every git input since December
// 2017, and what flakes, fetchGit and fetchFromGitHub call theirs.
const DefaultSourceName = "source"

// SourceOptions say how a source enters the store.
type SourceOptions struct {
	// Name is the store path's name; "" is DefaultSourceName.
	Name string
	// Rule says which version-control files stay out.
	Rule GitRule
	// Exclude are further entries to leave out, as slash-separated paths relative to the source.
	Exclude []string
}

func (o SourceOptions) name() string {
	if o.Name == "" {
		return DefaultSourceName
	}
	return o.Name
}

// filter gives what tells whether an entry belongs to the source.
func (o SourceOptions) filter() func(rel string) bool {
	excluded := map[string]bool{}
	for _, name := range o.Exclude {
		excluded[filepath.ToSlash(filepath.Clean(name))] = true
	}
	return func(rel string) bool {
		base := rel[strings.LastIndexByte(rel, '/')+1:]
		switch {
		case o.Rule == GitEntries && base == ".git", o.Rule == GitPrefixed && strings.HasPrefix(base, ".git"):
			return false
		}
		return !excluded[rel]
	}
}

// SourcePath is the store path that AddSource gives to dir under the same options, computed without Nix.
func SourcePath(ctx context.Context, dir string, o SourceOptions) (storepath.Path, error) {
	hash, err := narHash(ctx, dir, o.filter())
	if err != nil {
		return "", fmt.Errorf("hashing the source: %w", err)
	}
	return fixedPath(hash, o.name())
}

// fixedPath is the store path of a tree with this NAR hash and no references, as `nix-store --add-fixed
// --recursive sha256` names it (NixOS/nix: src/libstore/store-dir-config.cc, makeFixedOutputPath).
func fixedPath(narHash storepath.Hash, name string) (storepath.Path, error) {
	return storepath.Make("source", narHash, name)
}

// narHash is the hash of the NAR of what keep accepts below dir.
func narHash(ctx context.Context, dir string, keep func(rel string) bool) (storepath.Hash, error) {
	sum := sha256.New()
	err := nar.DumpFiltered(ctx, nar.NewWriter(sum), dir, keep)
	return storepath.Hash(sum.Sum(nil)), err
}

// addExpression copies a directory into the store, as Hydra copies a checkout.
const addExpression = `requestText: let
  request = builtins.fromJSON requestText;
  base = builtins.stringLength request.dir + 1;
  excluded = builtins.listToAttrs (map (name: { inherit name; value = true; }) request.exclude);
  keeps = path: type:
    let name = baseNameOf path; in
    ! (request.rule == 0 && name == ".git")
    && ! (request.rule == 1 && builtins.substring 0 4 name == ".git")
    && ! (excluded ? ${builtins.substring base (-1) path});
in
builtins.path { inherit (request) name; path = request.dir; filter = keeps; }
`

// AddSource copies dir into the store as Hydra does with a checkout (see SourceOptions), and returns its path: the
// one that `nix-store --add-fixed --recursive sha256` gives to a directory of that name and content.
func (t Toolchain) AddSource(ctx context.Context, dir string, o SourceOptions) (storepath.Path, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return "", fmt.Errorf("adding the source to the store: %w", err)
	}
	exclude := []string{}
	for _, name := range o.Exclude {
		exclude = append(exclude, filepath.ToSlash(filepath.Clean(name)))
	}
	text, err := json.Marshal(map[string]any{"dir": dir, "name": o.name(), "rule": o.Rule, "exclude": exclude})
	if err != nil {
		return "", fmt.Errorf("adding the source to the store: %w", err)
	}
	result, err := t.run(ctx, command{
		program: "nix", args: []string{"eval", "--json", "--log-format", "internal-json", "--file", "-"},
		stdin: "(" + addExpression + ") " + quoteNix(string(text)), doing: "adding the source to the store",
	})
	if err != nil {
		return "", err
	}
	var added string
	if err := json.Unmarshal(result.stdout, &added); err != nil {
		return "", fmt.Errorf("adding the source to the store: reading Nix's answer: %w", err)
	}
	return storepath.Parse(added)
}
