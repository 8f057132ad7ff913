package roots

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Places where projects pin nixpkgs: an address of an archive, or a revision beside the word.
var (
	pinnedArchive  = regexp.MustCompile(`nixpkgs[^"'\s]*/(?:archive|tarball)/([A-Za-z0-9._-]+?)(?:\.tar\.gz|\.zip|["'\s;]|$)`)
	pinnedRevision = regexp.MustCompile(`\brev\s*=\s*"([0-9a-f]{40})"`)
	namesNixpkgs   = regexp.MustCompile(`(?i)nixpkgs|NixOS`)
)

const (
	maxPins       = 4
	maxPinFile    = 1 << 20
	pinNearbyRows = 8 // from the word to the revision
)

// findPins says in clauses where nixpkgs comes from: "pinned to REV at FILE:LINE".
func findPins(ctx context.Context, dir string, nixPath []string) []string {
	var pins []string
	for _, entry := range nixPath {
		pins = append(pins, fmt.Sprintf("<%s> from BP_NIX_PATH: %s", strings.SplitN(entry, "=", 2)[0],
			Redact(entry[strings.IndexByte(entry, '=')+1:])))
	}
	_ = filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil || len(pins) >= maxPins {
			return fs.SkipAll
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", "node_modules", "dist-newstyle", "target"}, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxPinFile {
			return nil
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return nil
		}
		switch name := entry.Name(); {
		case strings.HasSuffix(name, ".nix"):
			pins = append(pins, pinsOfExpression(file, rel)...)
		case name == "flake.lock":
			pins = append(pins, pinsOfLock(file, rel)...)
		case name == "sources.json", strings.HasPrefix(name, "nixpkgs") && strings.HasSuffix(name, ".json"):
			pins = append(pins, pinsOfSources(file, rel)...)
		}
		return nil
	})
	return pins[:min(len(pins), maxPins)]
}

func pinsOfExpression(file, rel string) []string {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	var pins []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxPinFile)
	near := 0
	for number := 1; lines.Scan(); number++ {
		line, _, _ := strings.Cut(lines.Text(), "# ")
		if namesNixpkgs.MatchString(line) {
			near = number
		}
		found := pinnedArchive.FindStringSubmatch(line)
		if found == nil && near > 0 && number-near <= pinNearbyRows {
			found = pinnedRevision.FindStringSubmatch(line)
		}
		if found != nil {
			pins = append(pins, fmt.Sprintf("pinned to %s at %s:%d", found[1], filepath.ToSlash(rel), number))
		}
	}
	return pins
}

// pinsOfLock reads flake.lock.
func pinsOfLock(file, rel string) []string {
	var lock struct {
		Nodes map[string]struct {
			Locked struct {
				Rev     string `json:"rev"`
				NarHash string `json:"narHash"`
			} `json:"locked"`
		} `json:"nodes"`
	}
	if !readJSON(file, &lock) {
		return nil
	}
	var pins []string
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range lock.Nodes {
			if strings.HasPrefix(name, "nixpkgs") && !yield(name) {
				return
			}
		}
	}) {
		locked := lock.Nodes[name].Locked
		if locked.Rev == "" {
			locked.Rev = locked.NarHash
		}
		if locked.Rev != "" {
			pins = append(pins, fmt.Sprintf("locked to %s as %q in %s", locked.Rev, name, filepath.ToSlash(rel)))
		}
	}
	return pins
}

// pinsOfSources reads what niv and npins write, and the nixpkgs.json of many a project.
func pinsOfSources(file, rel string) []string {
	type pin struct {
		Rev      string `json:"rev"`
		Revision string `json:"revision"`
	}
	var own pin
	if readJSON(file, &own) && own.Rev != "" {
		return []string{fmt.Sprintf("pinned to %s in %s", own.Rev, filepath.ToSlash(rel))}
	}
	var sources struct {
		Nixpkgs pin            `json:"nixpkgs"`
		Pins    map[string]pin `json:"pins"`
	}
	if !readJSON(file, &sources) {
		return nil
	}
	for _, p := range []pin{sources.Nixpkgs, sources.Pins["nixpkgs"]} {
		if rev := p.Rev + p.Revision; rev != "" {
			return []string{fmt.Sprintf("pinned to %s in %s", rev, filepath.ToSlash(rel))}
		}
	}
	return nil
}

func readJSON(file string, into any) bool {
	data, err := os.ReadFile(file)
	return err == nil && json.Unmarshal(data, into) == nil
}
