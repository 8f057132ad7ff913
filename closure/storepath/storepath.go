// Package storepath reads, checks and makes Nix store paths, and the hashes that Nix writes beside them. A Path that came
// from Parse is safe to use as a file name, whoever wrote it.
//
// The formats are those of NixOS/nix: src/libstore/path.cc (names), src/libutil/hash.cc (base-32 and SRI).
package storepath

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const (
	// Dir is the store directory that every path of a public Nix cache lives in.
	Dir = "/nix/store"
	// HashLen is the number of base-32 characters of a store path's hash part.
	HashLen = 32
	// maxNameLen is the longest name Nix accepts after the hash part and its dash.
	maxNameLen = 211
)

// Path is a store path, "/nix/store/<32 base-32 characters>-<name>". A value that came from Parse or FromBase is
// valid and safe to use as a file name; its order as a string is the order Nix sorts references in.
type Path string

// Parse reads a full store path: exactly one component below /nix/store.
func Parse(s string) (Path, error) {
	base, ok := strings.CutPrefix(s, Dir+"/")
	if !ok {
		return "", fmt.Errorf("parsing store path %q: not below %s", text.Short(s), Dir)
	}
	return FromBase(base)
}

// FromBase reads a store path's base name, "<hash>-<name>", as a narinfo's References field has it.
func FromBase(base string) (Path, error) {
	if len(base) < HashLen+2 || base[HashLen] != '-' {
		return "", fmt.Errorf("parsing store path %q: want a %d-character hash, a dash and a name", text.Short(base), HashLen)
	}
	if !IsHashPart(base[:HashLen]) {
		return "", fmt.Errorf("parsing store path %q: hash part is not Nix base-32, which is digits and the small letters without e, o, t and u", text.Short(base))
	}
	if err := checkName(base[HashLen+1:]); err != nil {
		return "", fmt.Errorf("parsing store path %q: %w", text.Short(base), err)
	}
	return Path(Dir + "/" + base), nil
}

// Make computes the store path of a thing from its kind ("source", "text", "output:out", with references where it has
// them), the SHA-256 that describes it and its name, as NixOS/nix does: src/libstore/store-dir-config.cc, makeStorePath.
// The hash part is the SHA-256 of all that, folded to 20 bytes.
func Make(kind string, digest Hash, name string) (Path, error) {
	sum := sha256.Sum256([]byte(kind + ":sha256:" + hex.EncodeToString(digest[:]) + ":" + Dir + ":" + name))
	var folded [20]byte
	for i, b := range sum {
		folded[i%len(folded)] ^= b
	}
	return FromBase(Encode32(folded[:]) + "-" + name)
}

// Base is the path's last component, "<hash>-<name>".
func (p Path) Base() string { return string(p[len(Dir)+1:]) }

// HashPart is the 32-character hash that names the path in a binary cache.
func (p Path) HashPart() string { return string(p[len(Dir)+1 : len(Dir)+1+HashLen]) }

// Name is what follows the hash part and its dash, for example "hello-2.12.1".
func (p Path) Name() string { return string(p[len(Dir)+1+HashLen+1:]) }

// ParseName splits a store path's or derivation's name as Nix's builtins.parseDrvName does: the version, "" for none,
// begins after the first dash that no letter follows.
func ParseName(name string) (pname, version string) {
	for i := 0; i+1 < len(name); i++ {
		c := name[i+1]
		if name[i] == '-' && !('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') {
			return name[:i], name[i+1:]
		}
	}
	return name, ""
}

// String is the path itself.
func (p Path) String() string { return string(p) }

// IsHashPart reports whether s could be a store path's hash part: 32 characters of Nix base-32.
func IsHashPart(s string) bool {
	if len(s) != HashLen {
		return false
	}
	for i := range len(s) {
		if decode32[s[i]] == notBase32 {
			return false
		}
	}
	return true
}

// checkName applies Nix's rule for names: letters, digits and "+-._?=", not too long, and nothing that a file
// system would take for "." or "..".
func checkName(name string) error {
	if len(name) > maxNameLen {
		return fmt.Errorf("name is longer than %d characters", maxNameLen)
	}
	if name == "." || name == ".." || strings.HasPrefix(name, ".-") || strings.HasPrefix(name, "..-") {
		return fmt.Errorf("name may not be %q", name)
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("+-._?=", c) >= 0:
		default:
			return fmt.Errorf("name has the character %q", c)
		}
	}
	return nil
}
