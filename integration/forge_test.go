package integration_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration"
)

// forge is a signed binary cache of paths that nobody has built: what they hold is made up. Tests that want a hundred
// images, or odd ones, need not wait for Nix.
type forge struct {
	dir, name string
	key       ed25519.PrivateKey
}

// newForge has a key of that name; secret tells keys of one name apart.
func newForge(t *testing.T, name, secret string) *forge {
	t.Helper()
	seed := sha256.Sum256([]byte(secret))
	parent, err := workDir()
	must(err)
	f := &forge{name: name, key: ed25519.NewKeyFromSeed(seed[:])}
	f.dir, err = os.MkdirTemp(parent, "forge-")
	must(err)
	must(os.Mkdir(filepath.Join(f.dir, "nar"), 0o755))
	must(os.WriteFile(filepath.Join(f.dir, "nix-cache-info"), []byte("StoreDir: /nix/store\n"), 0o644))
	return f
}

// public is the key as it stands in BP_NIX_TRUSTED_PUBLIC_KEYS.
func (f *forge) public() string {
	return narinfo.PublicKey{Name: f.name, Key: f.key.Public().(ed25519.PublicKey)}.String()
}

// env are the settings with which a build asks this cache alone and trusts it.
func (f *forge) env(more ...string) map[string]string {
	env := map[string]string{"BP_NIX_SUBSTITUTERS": "file://" + f.dir, "BP_NIX_TRUSTED_PUBLIC_KEYS": f.public()}
	for i := 0; i < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	return env
}

// forged makes a path up whose hash follows from its name.
func (f *forge) forged(name string, files map[string]string, refs ...storepath.Path) storepath.Path {
	sum := sha256.Sum256([]byte(name))
	p, err := storepath.FromBase(storepath.Encode32(sum[:20]) + "-" + name)
	must(err)
	return f.add(p, files, refs...)
}

// add serves a path with these files; those in bin are executable.
func (f *forge) add(p storepath.Path, files map[string]string, refs ...storepath.Path) storepath.Path {
	var raw bytes.Buffer
	w := nar.NewWriter(&raw)
	must(w.Entry(&nar.Entry{Kind: nar.Directory}))
	open := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if dir := filepath.Dir(name); dir != "." && !open[dir] {
			open[dir] = true
			must(w.Entry(&nar.Entry{Kind: nar.Directory, Path: dir}))
		}
		must(w.Entry(&nar.Entry{
			Kind: nar.Regular, Path: name, Size: int64(len(files[name])), Executable: strings.HasPrefix(name, "bin/"),
		}))
		_, err := w.Write([]byte(files[name]))
		must(err)
	}
	must(w.Close())
	info := &narinfo.NarInfo{
		StorePath: p, URL: "nar/" + p.Base() + ".nar", Compression: "none", NarHash: sha256.Sum256(raw.Bytes()),
		NarSize: int64(raw.Len()), References: slices.Sorted(slices.Values(refs)),
	}
	info.Sigs = []narinfo.Signature{{Name: f.name, Data: ed25519.Sign(f.key, []byte(info.Fingerprint()))}}
	must(os.WriteFile(filepath.Join(f.dir, info.URL), raw.Bytes(), 0o644))
	must(os.WriteFile(filepath.Join(f.dir, p.HashPart()+".narinfo"), []byte(info.String()), 0o644))
	return p
}

// script is a program that says a word.
func script(word string) string { return "#!/bin/sh\necho " + word + "\n" }

// storePaths is the setting that names roots.
func storePaths(paths ...storepath.Path) string {
	var words []string
	for _, p := range paths {
		words = append(words, p.String())
	}
	return strings.Join(words, " ")
}

// derivationOf is an expression that gives one derivation, whose only input is its name.
func derivationOf(name string) string {
	return fmt.Sprintf(`derivation { name = %q; system = builtins.currentSystem; builder = "/bin/sh"; }`, name)
}

// outputsOf are the outputs of derivationOf, as real Nix has them.
func outputsOf(t *testing.T, names ...string) []storepath.Path {
	t.Helper()
	var expressions []string
	for _, name := range names {
		expressions = append(expressions, "("+derivationOf(name)+").outPath")
	}
	text, err := realParts(t).pkgs.Store.Run(t.Context(), "nix-instantiate", "--eval", "--strict", "--json", "-E",
		"[ "+strings.Join(expressions, " ")+" ]")
	must(err)
	var paths []storepath.Path
	must(json.Unmarshal([]byte(text), &paths))
	return paths
}

// sourceOf is a directory with these files.
func sourceOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	must(integration.WriteTree(dir, files))
	return dir
}
