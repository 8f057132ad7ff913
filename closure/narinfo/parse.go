package narinfo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const (
	// maxSize bounds a narinfo: room for more than 4,000 references of the greatest length a store path has, and for
	// some 15,000 of ordinary length, where a whole NixOS system has a few thousand.
	maxSize = 1 << 20
	// maxSigs bounds the signatures, each of which costs a verification, and maxSig a signature with the name of its key.
	maxSigs, maxSig = 256, 512
	// maxField bounds the other fields: an address that carries its own login has some 2,000 bytes.
	maxField = 8 << 10
	// MaxNarSize bounds what a cache may declare: 1 TiB, more than any image holds and far from overflowing a sum.
	MaxNarSize = 1 << 40
	// defaultCompression is what a missing or empty field means.
	defaultCompression = "bzip2"
)

// FieldError says which field of a narinfo is at fault.
type FieldError struct {
	Field   string // "" where it is no one field
	Line    int    // from 1; 0 where it is no one line, as for a missing field
	Problem string
}

// Error names field, line and problem, as far as known.
func (e *FieldError) Error() string {
	var b strings.Builder
	b.WriteString("narinfo")
	if e.Line > 0 {
		fmt.Fprintf(&b, " line %d", e.Line)
	}
	if e.Field != "" {
		fmt.Fprintf(&b, ": field %s", e.Field)
	}
	return b.String() + ": " + e.Problem
}

// Parse reads a narinfo of a cache whose store directory is storeDir; "" stands for /nix/store, the only one there is
// support for. What is wrong with the text is a *FieldError; any other error is r's own.
func Parse(r io.Reader, storeDir string) (*NarInfo, error) {
	if storeDir != "" && storeDir != storepath.Dir {
		return nil, &FieldError{Field: "StorePath",
			Problem: fmt.Sprintf("the cache's store directory is %s, want %s", text.Short(storeDir), storepath.Dir)}
	}
	text, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading narinfo: %w", err)
	}
	if err := checkText(text); err != nil {
		return nil, err
	}
	p := parser{info: &NarInfo{}}
	if err := p.lines(string(text)); err != nil {
		return nil, err
	}
	return p.info, p.finish()
}

// checkText tells apart what is no narinfo at all.
func checkText(text []byte) error {
	if len(text) > maxSize {
		return &FieldError{Problem: fmt.Sprintf("longer than %d bytes", maxSize)}
	}
	start := bytes.TrimSpace(text)
	switch {
	case len(start) == 0:
		return &FieldError{Problem: "empty"}
	case start[0] == '<':
		return &FieldError{Line: 1, Problem: "this is an HTML page, not a narinfo"}
	case start[0] == '{':
		return &FieldError{Line: 1, Problem: "this is JSON, not a narinfo"}
	}
	return nil
}

type parser struct{ info *NarInfo }

func (p *parser) lines(all string) error {
	for line := 1; all != ""; line++ {
		row, rest, ended := strings.Cut(all, "\n")
		all = rest
		row = strings.TrimSuffix(row, "\r")
		if !ended {
			return &FieldError{Line: line, Problem: "the line does not end: the narinfo was cut short"}
		}
		if strings.TrimSpace(row) == "" {
			continue
		}
		name, value, ok := strings.Cut(row, ":")
		if !ok {
			return &FieldError{Line: line, Problem: fmt.Sprintf("want Name: value, found %q", text.Short(row))}
		}
		if err := p.field(name, strings.TrimSpace(value)); err != nil {
			return &FieldError{Field: name, Line: line, Problem: err.Error()}
		}
	}
	return nil
}

var errTwice = errors.New("the field is there twice")

// field takes one field in. Unknown ones are for others, and of those that are there twice the last counts, save where
// Nix refuses that.
func (p *parser) field(name, value string) (err error) {
	n := p.info
	if name != "References" { // whose names are copied one by one
		if len(value) > maxField && slices.Contains([]string{"URL", "Compression", "CA"}, name) {
			return fmt.Errorf("longer than %d bytes", maxField)
		}
		value = strings.Clone(value) // a part of the text would keep all of it, with what is in fields that nobody knows
	}
	switch name {
	case "StorePath":
		n.StorePath, err = storepath.Parse(path.Clean(value))
	case "URL":
		n.URL, err = value, checkToken(value)
	case "Compression":
		n.Compression, err = value, checkToken(value)
	case "FileHash":
		if n.FileHash = (storepath.Hash{}); value != "" && !isOtherHash(value) {
			n.FileHash, err = storepath.ParseHash(value)
		}
	case "FileSize":
		if n.FileSize = 0; value != "" {
			n.FileSize, err = fileSize(value)
		}
	case "NarHash":
		n.NarHash, err = storepath.ParseHash(value)
	case "NarSize":
		n.NarSize, err = size(value)
	case "References":
		if len(n.References) > 0 {
			return errTwice
		}
		n.References, err = references(value)
	case "Deriver":
		n.Deriver = deriver(value)
	case "Sig":
		err = p.sig(value)
	case "CA":
		if n.CA != "" {
			return errTwice
		}
		n.CA, err = value, checkToken(value)
	}
	return err
}

// isOtherHash reports whether a hash is by an algorithm of Nix's that is not SHA-256. As that of a file it is allowed, and
// says nothing to anybody.
func isOtherHash(value string) bool {
	algorithm, _, _ := strings.Cut(strings.Replace(value, "-", ":", 1), ":")
	return algorithm == "md5" || algorithm == "sha1" || algorithm == "sha512"
}

// sig keeps what is a signature. What is not is as good as no signature, as in Nix.
func (p *parser) sig(value string) error {
	if len(p.info.Sigs) == maxSigs {
		return fmt.Errorf("more than %d signatures", maxSigs)
	}
	if len(value) > maxSig {
		return nil
	}
	if sig, err := ParseSignature(value); err == nil {
		p.info.Sigs = append(p.info.Sigs, sig)
	}
	return nil
}

func (p *parser) finish() error {
	n := p.info
	if n.Compression == "" {
		n.Compression = defaultCompression
	}
	switch {
	case n.StorePath == "":
		return &FieldError{Field: "StorePath", Problem: "missing"}
	case n.URL == "":
		return &FieldError{Field: "URL", Problem: "missing or empty"}
	case n.NarHash.IsZero():
		return &FieldError{Field: "NarHash", Problem: "missing"}
	case n.NarSize == 0:
		return &FieldError{Field: "NarSize", Problem: "missing or zero"}
	}
	return nil
}

// size reads a number of bytes.
func size(value string) (int64, error) {
	n, err := number(value)
	if err != nil {
		return 0, err
	}
	if n > MaxNarSize {
		return 0, fmt.Errorf("%d bytes are more than %d, which nothing in an image can have", n, int64(MaxNarSize))
	}
	return int64(n), nil
}

// fileSize is size for what says nothing of the contents: too much of it is as good as none.
func fileSize(value string) (int64, error) {
	n, err := number(value)
	if n > MaxNarSize {
		n = 0
	}
	return int64(n), err
}

// number reads digits, before which Nix allows a plus sign.
func number(value string) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(value, "+"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("want a number of bytes, found %q", text.Short(value))
	}
	return n, nil
}

// references reads base names between blanks, each once, as Nix's set of them does. Their number is bounded by the
// narinfo's size.
func references(value string) ([]storepath.Path, error) {
	names := strings.Fields(value)
	refs := make([]storepath.Path, 0, len(names))
	for _, name := range names {
		ref, err := storepath.FromBase(name)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	slices.Sort(refs)
	return slices.Compact(refs), nil
}

// deriver reads a field that is for information only, and so never worth a refusal. "unknown-deriver" is no name of a path.
func deriver(value string) string {
	if _, err := storepath.FromBase(value); err != nil {
		return ""
	}
	return value
}

// checkToken refuses what would break a line, a log or a request.
func checkToken(value string) error {
	for i := range len(value) {
		if value[i] <= ' ' || value[i] == 0x7f {
			return fmt.Errorf("it has the character %q", value[i])
		}
	}
	return nil
}
