package nixinstall

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/sourcefile"
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

func keepAll(string) bool { return true }

// SourcePath is the store path that AddSource gives to dir under the same options, computed without Nix.
func SourcePath(ctx context.Context, dir string, o SourceOptions) (storepath.Path, error) {
	hash, err := narHash(ctx, dir, o.filter())
	if err != nil {
		return "", fmt.Errorf("hashing the source: %w", err)
	}
	return FixedPath(hash, o.name())
}

// FixedPath is the store path of a tree with this NAR hash and no references, as `nix-store --add-fixed
// --recursive sha256` names it (NixOS/nix: src/libstore/store-dir-config.cc, makeFixedOutputPath).
func FixedPath(narHash storepath.Hash, name string) (storepath.Path, error) {
	return storepath.Make("source", narHash, name)
}

// narHash is the hash of the NAR of what keeps accepts below dir.
func narHash(ctx context.Context, dir string, keeps func(rel string) bool) (storepath.Hash, error) {
	sum := sha256.New()
	w := nar.NewWriter(sum)
	if err := dump(ctx, w, dir, "", keeps); err != nil {
		return storepath.Hash{}, err
	}
	if err := w.Close(); err != nil {
		return storepath.Hash{}, err
	}
	return storepath.Hash(sum.Sum(nil)), nil
}

// dump writes what keeps accepts at dir/rel, in NAR order. It does not look into what it leaves out.
func dump(ctx context.Context, dst nar.Sink, dir, rel string, keeps func(rel string) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	full := filepath.Join(dir, filepath.FromSlash(rel))
	info, err := os.Lstat(full)
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		return dumpDir(ctx, dst, dir, rel, keeps)
	case fs.ModeSymlink:
		target, err := os.Readlink(full)
		if err != nil {
			return err
		}
		return dst.Entry(&nar.Entry{Path: rel, Kind: nar.Symlink, Target: target})
	case 0:
		return dumpFile(ctx, dst, full, rel, info)
	}
	return fmt.Errorf("%s is neither a file, a directory nor a symbolic link (%s); leave it out of the source", full,
		info.Mode().Type())
}

func dumpDir(ctx context.Context, dst nar.Sink, dir, rel string, keeps func(rel string) bool) error {
	if err := dst.Entry(&nar.Entry{Path: rel, Kind: nar.Directory}); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(dir, filepath.FromSlash(rel))) // sorted by bytes, as a NAR is
	if err != nil {
		return err
	}
	for _, entry := range entries {
		child := entry.Name()
		if rel != "" {
			child = rel + "/" + child
		}
		if !keeps(child) {
			continue
		}
		if err := dump(ctx, dst, dir, child, keeps); err != nil {
			return err
		}
	}
	return nil
}

func dumpFile(ctx context.Context, dst nar.Sink, full, rel string, info fs.FileInfo) error {
	executable := info.Mode().Perm()&0o100 != 0
	if err := dst.Entry(&nar.Entry{Path: rel, Kind: nar.Regular, Executable: executable, Size: info.Size()}); err != nil {
		return err
	}
	f, err := sourcefile.Open(full)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(writerOnly{dst}, io.LimitReader(sourcefile.NewReader(ctx, f), info.Size()))
	if err == nil && n != info.Size() {
		err = fmt.Errorf("%s changed while it was read", full)
	}
	return err
}

type writerOnly struct{ io.Writer }

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
