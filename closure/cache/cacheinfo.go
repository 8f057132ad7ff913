package cache

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// infoName is the file that makes a directory a binary cache.
const infoName = "nix-cache-info"

// defaultPriority is Nix's for a cache that names none.
const defaultPriority = 50

// Info is the content of nix-cache-info.
type Info struct {
	// StoreDir is where the cache's paths live.
	StoreDir string
	// Priority orders caches, lowest first.
	Priority int
}

// ParseInfo reads nix-cache-info as Nix does: lines "Key: value", unknown keys ignored, all of them optional (NixOS/nix
// src/libstore/binary-cache-store.cc, BinaryCacheStore::init). A web page, such as a login's, it refuses.
func ParseInfo(r io.Reader) (Info, error) {
	info := Info{Priority: defaultPriority}
	text, err := io.ReadAll(io.LimitReader(r, maxNarInfo+1))
	if err != nil {
		return Info{}, fmt.Errorf("reading %s: %w", infoName, err)
	}
	if len(text) > maxNarInfo {
		return Info{}, fmt.Errorf("%s is longer than %d bytes", infoName, maxNarInfo)
	}
	if strings.HasPrefix(strings.TrimSpace(string(text[:min(64, len(text))])), "<") {
		return Info{}, errors.New("it is an HTML page, not nix-cache-info")
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		key, value, found := strings.Cut(line, ":")
		if !found {
			continue
		}
		if err := info.set(key, strings.TrimSpace(value)); err != nil {
			return Info{}, fmt.Errorf("%s line %d: %w", infoName, n, err)
		}
	}
	if info.StoreDir == "" {
		info.StoreDir = storepath.Dir
	}
	return info, nil
}

// set takes a field. WantMassQuery, whether a cache may be asked for paths that it may not have, has no meaning here: it
// has to be.
func (i *Info) set(key, value string) error {
	switch key {
	case "StoreDir":
		i.StoreDir = value
	case "Priority":
		n, err := strconv.Atoi(leadingInteger.FindString(value))
		if err != nil {
			return fmt.Errorf("field Priority: %q is not a number", text.Short(value))
		}
		i.Priority = n
	}
	return nil
}

// leadingInteger is what std::stoi reads, as Nix does: of 40.5 the 40.
var leadingInteger = regexp.MustCompile(`^[+-]?[0-9]+`)
