package narinfo

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Signature is a narinfo's fingerprint signed by the key of that name: "<key name>:<base64>".
type Signature struct {
	Name string
	Data []byte // 64 bytes, ed25519
}

// ParseSignature reads a Sig field.
func ParseSignature(s string) (Signature, error) {
	name, data, err := named(s)
	if err != nil {
		return Signature{}, fmt.Errorf("parsing signature: %w", err)
	}
	if len(data) != ed25519.SignatureSize {
		return Signature{}, fmt.Errorf("parsing signature by %q: it has %d bytes, want %d",
			text.Short(name), len(data), ed25519.SignatureSize)
	}
	return Signature{Name: name, Data: data}, nil
}

// String is the signature as in a Sig field.
func (s Signature) String() string { return s.Name + ":" + base64.StdEncoding.EncodeToString(s.Data) }

// PublicKey is a key whose signatures are trusted: "<key name>:<base64>", as in Nix's trusted-public-keys.
type PublicKey struct {
	Name string
	Key  ed25519.PublicKey // 32 bytes
}

// SecretKeyError is a secret key in the place of a public one. It has the key's name and nothing else of it.
type SecretKeyError struct{ Name string }

func (e *SecretKeyError) Error() string {
	return fmt.Sprintf("parsing public key %q: this is a secret key", e.Name)
}

// ParsePublicKey reads a key as `nix key convert-secret-to-public` prints it. A secret key given by mistake is a
// *SecretKeyError.
func ParsePublicKey(s string) (PublicKey, error) {
	name, data, err := named(strings.TrimSpace(s))
	if err != nil {
		return PublicKey{}, fmt.Errorf("parsing public key: %w", err)
	}
	switch len(data) {
	case ed25519.PublicKeySize:
		return PublicKey{Name: name, Key: data}, nil
	case ed25519.PrivateKeySize:
		return PublicKey{}, &SecretKeyError{Name: text.Short(name)}
	default:
		return PublicKey{}, fmt.Errorf("parsing public key %q: it has %d bytes, want %d",
			text.Short(name), len(data), ed25519.PublicKeySize)
	}
}

// String is the key as it was given.
func (k PublicKey) String() string { return k.Name + ":" + base64.StdEncoding.EncodeToString(k.Key) }

// Keys are the public keys that are trusted.
type Keys []PublicKey

// ParseKeys reads keys that blanks, line breaks or commas separate.
func ParseKeys(s string) (Keys, error) {
	separates := func(c rune) bool { return c == ',' || unicode.IsSpace(c) }
	var keys Keys
	for _, word := range strings.FieldsFunc(s, separates) {
		key, err := ParsePublicKey(word)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Verify returns a signature of n by a trusted key, one being enough, or a *SignatureError. Of several it is the first by
// name, then by text, in whatever order caches have them.
func (k Keys) Verify(n *NarInfo) (Signature, error) {
	fingerprint := []byte(n.Fingerprint())
	e := &SignatureError{StorePath: n.StorePath}
	for _, sig := range slices.SortedFunc(slices.Values(n.Sigs), compareSignatures) {
		e.Signed = add(e.Signed, sig.Name)
		for _, key := range k {
			if key.Name != sig.Name {
				continue
			}
			if ed25519.Verify(key.Key, fingerprint, sig.Data) {
				return sig, nil
			}
			e.Bad = add(e.Bad, sig.Name)
		}
	}
	for _, key := range k {
		e.Trusted = add(e.Trusted, key.Name)
	}
	return Signature{}, e
}

func compareSignatures(a, b Signature) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), bytes.Compare(a.Data, b.Data))
}

// SignatureError says that a narinfo lacks a signature by a trusted key.
type SignatureError struct {
	StorePath storepath.Path
	Signed    []string // the keys that the narinfo claims to be signed by
	Trusted   []string // the keys that would do
	Bad       []string // those of Signed that are trusted, but whose signatures do not fit
}

// Error tells an altered narinfo from an unsigned one and from one signed by strangers.
func (e *SignatureError) Error() string {
	what := "verifying signature of " + string(e.StorePath) + ": "
	trusted := "no key is trusted"
	if len(e.Trusted) > 0 {
		trusted = "trusted: " + strings.Join(e.Trusted, ", ")
	}
	switch {
	case len(e.Bad) > 0:
		return what + "the signature by " + strings.Join(e.Bad, ", ") +
			" does not fit: the narinfo was altered, or another key of that name signed it"
	case len(e.Signed) == 0:
		return what + "it lacks a signature (" + trusted + ")"
	default:
		return what + "it lacks a signature by a trusted key, being signed by " + strings.Join(e.Signed, ", ") + " (" +
			trusted + ")"
	}
}

// named splits "<name>:<base64>". Its errors do not repeat the second part, which may be a secret.
func named(s string) (name string, data []byte, err error) {
	name, encoded, ok := strings.Cut(s, ":")
	if !ok {
		return "", nil, errors.New("want <key name>:<base64>, found no colon")
	}
	if name == "" {
		return "", nil, errors.New("want <key name>:<base64>, found no name")
	}
	// As Nix, which reads up to the padding: a platform that splits NAME=VALUE at each "=" has lost it.
	data, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return "", nil, fmt.Errorf("what follows the name %q is not base64", text.Short(name))
	}
	return name, data, nil
}

// add appends a name once.
func add(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, text.Short(name))
}
