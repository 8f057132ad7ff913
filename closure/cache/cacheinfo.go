package cache

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// infoName is the file that makes a directory a binary cache.
const infoName = "nix-cache-info"

// maxInfo bounds nix-cache-info; real ones have under 100 bytes.
const maxInfo = 64 << 10

// defaultPriority is Nix's for a cache that names none.
const defaultPriority = 50

// Info is the content of nix-cache-info.
type Info struct {
	// StoreDir is where the cache's paths live.
	StoreDir string
	// Priority orders caches, lowest first.
	Priority int
}

// ParseInfo reads nix-cache-info: lines "Key: value", unknown keys ignored (NixOS/nix
// src/libstore/binary-cache-store.cc, BinaryCacheStore::init). It refuses what is not such a file.
func ParseInfo(r io.Reader) (Info, error) {
	info := Info{Priority: defaultPriority}
	scanner := bufio.NewScanner(io.LimitReader(r, maxInfo))
	known := 0
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimRight(scanner.Text(), "\r")
		if n == 1 && strings.HasPrefix(strings.TrimSpace(line), "<") {
			return Info{}, errors.New("it is an HTML page, not nix-cache-info (a login page?)")
		}
		key, value, found := strings.Cut(line, ":")
		if !found {
			continue
		}
		ok, err := info.set(key, strings.TrimSpace(value))
		if err != nil {
			return Info{}, fmt.Errorf("%s line %d: %w", infoName, n, err)
		}
		if ok {
			known++
		}
	}
	if err := scanner.Err(); err != nil {
		return Info{}, fmt.Errorf("reading %s: %w", infoName, err)
	}
	if known == 0 {
		return Info{}, fmt.Errorf("%s names no StoreDir: it is not a binary cache", infoName)
	}
	if info.StoreDir == "" {
		info.StoreDir = storepath.Dir
	}
	return info, nil
}

func (i *Info) set(key, value string) (known bool, err error) {
	switch key {
	case "StoreDir":
		i.StoreDir = value
	case "WantMassQuery": // whether it may be asked for paths that it may not have: here it has to be
	case "Priority":
		n, err := strconv.Atoi(value)
		if err != nil {
			return true, fmt.Errorf("field Priority: %q is not a number", clip(value))
		}
		i.Priority = n
	default:
		return false, nil
	}
	return true, nil
}
