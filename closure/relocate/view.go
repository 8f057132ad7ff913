package relocate

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

const (
	// storePrefix is what stands before the hash of a reference.
	storePrefix = storepath.Dir + "/"
	// refLen is the length of what is rewritten: "/nix/store/" and the hash.
	refLen = len(storePrefix) + storepath.HashLen
	// MinHashLen is the fewest characters of the hash that a View keeps. At 5, 25 bits, a closure of 500 paths has
	// two equal ones once in 270 closures, which Collisions finds; below that it would be the rule.
	MinHashLen = 5
	// MaxDirLen is the longest view directory, in bytes.
	MaxDirLen = refLen - 1 - MinHashLen
)

// View is where relocated store paths are found: a view directory that holds one link per path, named by the first
// characters of its hash. The zero View is /nix/store itself and rewrites nothing.
type View struct {
	dir       string  // "" is /nix/store
	keep      int     // hash characters kept
	budget    *budget // of the rewriters that rewrite to it
	overrules Overrules
}

// TooLongError says that a view directory leaves no room for hashes.
type TooLongError struct {
	Dir string
	Max int // bytes that it may have
}

// Error names the directory and the limit.
func (e *TooLongError) Error() string {
	return fmt.Sprintf("relocating to %s: the directory has %d characters and may have %d, because with %d characters "+
		"of a store path's hash it has to fit where /nix/store/ and the whole hash stood", e.Dir, len(e.Dir), e.Max, MinHashLen)
}

// NewView relocates to viewDir, an absolute path such as /layers/nixproot_nix-hydra/store. A *TooLongError says
// that it has no room; other errors say that no path below it could stand in a script's first line or a search path.
func NewView(viewDir string) (View, error) {
	if !path.IsAbs(viewDir) || path.Clean(viewDir) != viewDir || viewDir == "/" {
		return View{}, fmt.Errorf("relocating to %q: want an absolute path without empty or dotted parts", viewDir)
	}
	if viewDir == storepath.Dir || strings.HasPrefix(viewDir, storePrefix) {
		return View{}, fmt.Errorf("relocating to %s: store paths are relocated out of %s", viewDir, storepath.Dir)
	}
	for _, c := range []byte(viewDir) {
		if !plainChar(c) {
			return View{}, fmt.Errorf("relocating to %q: the character %q cannot stand in every place a store path "+
				"stands in, as letters, digits and +,-./@_~ can", viewDir, c)
		}
	}
	for _, part := range strings.Split(viewDir, "/") {
		if base32Run(part) >= storepath.HashLen {
			return View{}, fmt.Errorf("relocating to %s: the part %s looks like a store path's hash", viewDir, part)
		}
	}
	if len(viewDir) > MaxDirLen {
		return View{}, &TooLongError{Dir: viewDir, Max: MaxDirLen}
	}
	keep := refLen - 1 - len(viewDir)
	if keep > storepath.HashLen {
		return View{}, fmt.Errorf("relocating to %s: the directory has %d characters and needs %d, to take the place "+
			"of %s", viewDir, len(viewDir), len(storepath.Dir), storepath.Dir)
	}
	return View{dir: viewDir, keep: keep, budget: newBudget(memory.NewBudget(0))}, nil
}

// plainChar reports whether c means itself in shell words, #! lines, search paths (":", ";", "$ORIGIN") and URLs.
func plainChar(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("+,-./@_~", c) >= 0
}

// base32Run is the length of the longest run of base-32 characters in s.
func base32Run(s string) int {
	longest, run := 0, 0
	for _, c := range []byte(s) {
		run++
		if !isBase32[c] {
			run = 0
		}
		longest = max(longest, run)
	}
	return longest
}

// IsZero reports whether the view is that of /nix/store itself.
func (v View) IsZero() bool { return v.dir == "" }

// Dir is the view directory.
func (v View) Dir() string {
	if v.IsZero() {
		return storepath.Dir
	}
	return v.dir
}

// Rename is where p is found in the view: as long as p itself.
func (v View) Rename(p storepath.Path) string { return v.Dir() + "/" + v.Base(p) }

// Base is the name of p's link in the view directory.
func (v View) Base(p storepath.Path) string { return v.short(p) + "-" + p.Name() }

// short is what is kept of p's hash.
func (v View) short(p storepath.Path) string {
	if v.IsZero() {
		return p.HashPart()
	}
	return p.HashPart()[:v.keep]
}

// target is what a reference to p becomes: refLen bytes.
func (v View) target(p storepath.Path) string { return v.Dir() + "/" + v.short(p) }

// Collision is a set of store paths that a View cannot tell apart.
type Collision struct {
	Short string           // what is left of their hashes
	Paths []storepath.Path // two or more; or one, when Short is a part of the view directory
}

// String names the paths.
func (c Collision) String() string {
	if len(c.Paths) == 1 {
		return fmt.Sprintf("%s: its shortened hash %s is a part of the view directory", c.Paths[0], c.Short)
	}
	names := make([]string, 0, len(c.Paths))
	for _, p := range c.Paths {
		names = append(names, string(p))
	}
	return fmt.Sprintf("the shortened hash %s stands for all of %s", c.Short, strings.Join(names, ", "))
}

// Collisions lists what of paths, in any order and with repetitions, the view cannot tell apart, sorted. A closure
// with a collision cannot be relocated.
func (v View) Collisions(paths []storepath.Path) []Collision {
	if v.IsZero() {
		return nil
	}
	sorted := slices.Clone(paths)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	var found []Collision
	for start := 0; start < len(sorted); {
		short := v.short(sorted[start])
		end, hashes := start+1, 1
		for ; end < len(sorted) && v.short(sorted[end]) == short; end++ {
			if sorted[end].HashPart() != sorted[end-1].HashPart() {
				hashes++
			}
		}
		switch {
		case hashes > 1:
			found = append(found, Collision{Short: short, Paths: sorted[start:end:end]})
		case strings.Contains(v.dir, "/"+short):
			// Two relocated names could overlap, and then undoing would not know which one was written.
			found = append(found, Collision{Short: short, Paths: sorted[start : start+1 : start+1]})
		}
		start = end
	}
	return found
}
