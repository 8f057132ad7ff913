package nixinstall

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// registration is what a store's database knows of a valid path.
type registration struct {
	Path       storepath.Path
	NarHash    storepath.Hash
	NarSize    int64
	References []storepath.Path
}

const (
	maxRegistrations = 100_000
	maxRegLine       = 4096
)

// parseRegistrations reads the format of `nix-store --dump-db`, which is also that of a release's .reginfo: lines of
// path, NAR hash (hex, base-32 or with its algorithm), NAR size, deriver, number of references, and each reference
// (NixOS/nix: src/libstore/store-api.cc, decodeValidPathInfo).
func parseRegistrations(r io.Reader) ([]registration, error) {
	lines := &regLines{scanner: bufio.NewScanner(r)}
	lines.scanner.Buffer(nil, maxRegLine)
	var all []registration
	seen := map[storepath.Path]bool{}
	for {
		first, err := lines.next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, lines.fail(err)
		}
		reg, err := lines.registration(first)
		if err != nil {
			return nil, lines.fail(err)
		}
		if seen[reg.Path] || len(all) == maxRegistrations {
			return nil, lines.fail(fmt.Errorf("%s is registered twice, or too many paths are", reg.Path))
		}
		seen[reg.Path] = true
		all = append(all, reg)
	}
}

type regLines struct {
	scanner *bufio.Scanner
	number  int
}

func (l *regLines) next() (string, error) {
	if !l.scanner.Scan() {
		if err := l.scanner.Err(); err != nil {
			return "", err
		}
		return "", io.EOF
	}
	l.number++
	return l.scanner.Text(), nil
}

func (l *regLines) fail(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("parsing path registrations: line %d: %w", l.number, err)
}

func (l *regLines) registration(first string) (reg registration, err error) {
	if reg.Path, err = storepath.Parse(first); err != nil {
		return reg, err
	}
	fields := [4]string{}
	for i := range fields {
		if fields[i], err = l.next(); err != nil {
			return reg, err
		}
	}
	if reg.NarHash, err = parseNarHash(fields[0]); err != nil {
		return reg, err
	}
	if reg.NarSize, err = strconv.ParseInt(fields[1], 10, 64); err != nil || reg.NarSize <= 0 {
		return reg, fmt.Errorf("%.80q is no NAR size", fields[1])
	}
	if fields[2] != "" {
		if _, err = storepath.Parse(fields[2]); err != nil { // the deriver
			return reg, err
		}
	}
	count, err := strconv.ParseUint(fields[3], 10, 20)
	if err != nil {
		return reg, fmt.Errorf("%.80q is no number of references", fields[3])
	}
	for range count {
		line, err := l.next()
		if err != nil {
			return reg, err
		}
		ref, err := storepath.Parse(line)
		if err != nil {
			return reg, err
		}
		reg.References = append(reg.References, ref)
	}
	return reg, nil
}

// parseNarHash reads a SHA-256 with or without its algorithm.
func parseNarHash(s string) (storepath.Hash, error) {
	if strings.HasPrefix(s, "sha256") {
		return storepath.ParseHash(s)
	}
	if len(s) == hex.EncodedLen(len(storepath.Hash{})) || len(s) == storepath.EncodedLen32(len(storepath.Hash{})) {
		return storepath.ParseHash("sha256:" + s)
	}
	return storepath.Hash{}, fmt.Errorf("%.80q is no SHA-256", s)
}
