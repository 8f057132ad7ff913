package narinfo

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// caMethod is how a content-addressed path's contents are hashed, by the prefix that a CA field has.
type caMethod string

const (
	caText caMethod = "text:"    // a file's contents, made by builtins.toFile or a .drv
	caFlat caMethod = "fixed:"   // a file's contents
	caNAR  caMethod = "fixed:r:" // the NAR
)

// contentAddress is a parsed CA field.
type contentAddress struct {
	method    caMethod
	algorithm string
	digest    []byte
}

// digestLen is the length of each algorithm's digest in bytes.
func digestLen(algorithm string) (int, bool) {
	n, ok := map[string]int{"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}[algorithm]
	return n, ok
}

// parseCA reads a CA field: see renderContentAddress in NixOS/nix, src/libstore/content-address.cc.
func parseCA(s string) (*contentAddress, error) {
	ca := &contentAddress{}
	var rest string
	for _, method := range []caMethod{caText, caNAR, caFlat} {
		if after, ok := strings.CutPrefix(s, string(method)); ok {
			ca.method, rest = method, after
			break
		}
	}
	if ca.method == "" {
		return nil, fmt.Errorf("parsing content address %q: want text:, fixed: or fixed:r:", text.Short(s))
	}
	algorithm, encoded, _ := strings.Cut(rest, ":")
	want, ok := digestLen(algorithm)
	if !ok {
		return nil, fmt.Errorf("parsing content address %q: hash algorithm %q is not supported", text.Short(s), text.Short(algorithm))
	}
	ca.algorithm = algorithm
	var err error
	switch len(encoded) {
	case storepath.EncodedLen32(want):
		ca.digest, err = storepath.Decode32(encoded)
	case hex.EncodedLen(want):
		ca.digest, err = hex.DecodeString(encoded)
	case base64.StdEncoding.EncodedLen(want):
		ca.digest, err = base64.StdEncoding.DecodeString(encoded)
	default:
		err = fmt.Errorf("a digest of %d characters is none of %s", len(encoded), algorithm)
	}
	if err == nil && len(ca.digest) != want {
		err = fmt.Errorf("digest has %d bytes, want %d", len(ca.digest), want)
	}
	if err != nil {
		return nil, fmt.Errorf("parsing content address %q: %w", text.Short(s), err)
	}
	return ca, nil
}

// VerifyCA reports whether the path is what its CA field makes it, so that it needs nobody's signature: the store path
// is computed anew from the content address, the name and the references. It is false without a CA field, and an error
// where the field cannot be read or makes another path.
//
// The path is then accepted for its content address and not for its cache, so the archive has to be checked against it
// as well: see ContentCheck. A content address that is the NAR's own hash is compared with NarHash here.
func (n *NarInfo) VerifyCA() (ok bool, err error) {
	if n.CA == "" {
		return false, nil
	}
	ca, err := parseCA(n.CA)
	if err != nil {
		return false, &FieldError{Field: "CA", Problem: err.Error()}
	}
	path, err := ca.storePath(n)
	if err != nil {
		return false, &FieldError{Field: "CA", Problem: err.Error()}
	}
	if path != n.StorePath {
		return false, &FieldError{Field: "CA", Problem: fmt.Sprintf("%s makes the path %s, not %s", n.CA, path, n.StorePath)}
	}
	if ca.isNarHash(n) && storepath.Hash(ca.digest) != n.NarHash {
		return false, &FieldError{Field: "CA", Problem: fmt.Sprintf("%s is not the NarHash, %s", n.CA, n.NarHash)}
	}
	return true, nil
}

// isNarHash reports whether the content address is the hash of the NAR as it is.
func (ca *contentAddress) isNarHash(n *NarInfo) bool {
	return ca.method == caNAR && ca.algorithm == "sha256" && !n.refersToItself()
}

// refersToItself reports whether the path is among its own references.
func (n *NarInfo) refersToItself() bool { return slices.Contains(n.References, n.StorePath) }

// storePath computes the path that contents of this address have under n's name and with n's references: see
// makeFixedOutputPathFromCA in NixOS/nix, src/libstore/store-dir-config.cc.
func (ca *contentAddress) storePath(n *NarInfo) (storepath.Path, error) {
	self := n.refersToItself()
	refs := make([]string, 0, len(n.References))
	for _, ref := range n.References {
		if ref != n.StorePath {
			refs = append(refs, string(ref))
		}
	}
	typed := func(kind string) string {
		kind = strings.Join(append([]string{kind}, refs...), ":")
		if self {
			kind += ":self"
		}
		return kind
	}
	name := n.StorePath.Name()
	switch {
	case ca.method == caText && ca.algorithm == "sha256":
		if self {
			return "", fmt.Errorf("a path addressed as text refers to itself")
		}
		return storepath.Make(typed("text"), storepath.Hash(ca.digest), name)
	case ca.method == caText:
		return "", fmt.Errorf("a path addressed as text has a hash of %s, want sha256", ca.algorithm)
	case ca.method == caNAR && ca.algorithm == "sha256":
		return storepath.Make(typed("source"), storepath.Hash(ca.digest), name)
	}
	if self || len(refs) > 0 {
		return "", fmt.Errorf("a path addressed by %s%s has references", ca.method, ca.algorithm)
	}
	prefix := strings.TrimPrefix(string(ca.method), "fixed:")
	inner := sha256.Sum256([]byte("fixed:out:" + prefix + ca.algorithm + ":" + hex.EncodeToString(ca.digest) + ":"))
	return storepath.Make("output:out", inner, name)
}
