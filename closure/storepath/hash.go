package storepath

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// alphabet is Nix's base-32: digits and lower-case letters without e, o, u and t.
const alphabet = "0123456789abcdfghijklmnpqrsvwxyz"

const notBase32 = 0xff

var decode32 = func() (table [256]byte) {
	for i := range table {
		table[i] = notBase32
	}
	for i := range len(alphabet) {
		table[alphabet[i]] = byte(i)
	}
	return table
}()

// Hash is a SHA-256, the one algorithm that binary caches use for NARs and their files.
type Hash [sha256.Size]byte

// ParseHash reads "sha256:<base-32, hex or base-64>" or the SRI form "sha256-<base-64>". Other algorithms are
// refused by name.
func ParseHash(s string) (Hash, error) {
	algorithm, digest, found := strings.Cut(s, ":")
	if !found {
		algorithm, digest, found = strings.Cut(s, "-")
	}
	if !found {
		return Hash{}, fmt.Errorf("parsing hash %q: want sha256:<digest>", text.Short(s))
	}
	if algorithm != "sha256" {
		return Hash{}, fmt.Errorf("parsing hash %q: algorithm %q is not sha256", text.Short(s), text.Short(algorithm))
	}
	var raw []byte
	var err error
	switch len(digest) {
	case EncodedLen32(sha256.Size):
		raw, err = Decode32(digest)
	case hex.EncodedLen(sha256.Size):
		raw, err = hex.DecodeString(digest)
	default:
		raw, err = base64.StdEncoding.DecodeString(digest)
	}
	if err != nil {
		return Hash{}, fmt.Errorf("parsing hash %q: %w", text.Short(s), err)
	}
	if len(raw) != sha256.Size {
		return Hash{}, fmt.Errorf("parsing hash %q: digest has %d bytes, want %d", text.Short(s), len(raw), sha256.Size)
	}
	return Hash(raw), nil
}

// String is the form that narinfos and signatures use, "sha256:<base-32>".
func (h Hash) String() string { return "sha256:" + Encode32(h[:]) }

// IsZero reports whether no hash was given.
func (h Hash) IsZero() bool { return h == Hash{} }

// EncodedLen32 is the number of base-32 characters that n bytes become.
func EncodedLen32(n int) int { return (n*8 + 4) / 5 }

// Encode32 writes bytes in Nix base-32, least significant digit last.
func Encode32(raw []byte) string {
	out := make([]byte, EncodedLen32(len(raw)))
	for n := range out {
		bit := n * 5
		i, j := bit/8, bit%8
		c := raw[i] >> j
		if i+1 < len(raw) {
			c |= raw[i+1] << (8 - j)
		}
		out[len(out)-1-n] = alphabet[c&0x1f]
	}
	return string(out)
}

// Decode32 reads what Encode32 wrote. It refuses other characters and digits that carry into no byte.
func Decode32(s string) ([]byte, error) {
	raw := make([]byte, len(s)*5/8)
	for n := range len(s) {
		c := s[len(s)-1-n]
		digit := decode32[c]
		if digit == notBase32 {
			return nil, fmt.Errorf("character %q is not Nix base-32", c)
		}
		bit := n * 5
		i, j := bit/8, bit%8
		carry := digit >> (8 - j)
		if i < len(raw) {
			raw[i] |= digit << j
		} else if digit<<j != 0 {
			return nil, fmt.Errorf("digits overflow %d bytes", len(raw))
		}
		if i+1 < len(raw) {
			raw[i+1] |= carry
		} else if carry != 0 {
			return nil, fmt.Errorf("digits overflow %d bytes", len(raw))
		}
	}
	return raw, nil
}
