package nixproot

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
)

// findResources looks which of the closure's paths have which files that resources are, or takes it from the record of paths
// whose layers are not here.
func (c *contents) findResources(before buildRecord) map[storepath.Path][]string {
	found := map[storepath.Path][]string{}
	for _, group := range c.Groups {
		for _, p := range group.Paths {
			dir := filepath.Join(c.layersDir, group.Layer, p.Base())
			here := exists(dir)
			for _, r := range launchlayer.Resources() {
				for _, file := range r.Files {
					has := slices.Contains(before.Resources[p], file)
					if here {
						_, err := os.Lstat(filepath.Join(dir, file))
						has = err == nil
					}
					if has {
						found[p] = append(found[p], file)
					}
				}
			}
		}
	}
	return found
}

// resource is the place in an ordinary store of the first of some files that the closure has, "" for none. Roots come
// first, then the greatest name: of two versions mostly the newer one.
func (c *contents) resource(files []string) string {
	for _, file := range files {
		var paths []storepath.Path
		for p, has := range c.Resources {
			if slices.Contains(has, file) {
				paths = append(paths, p)
			}
		}
		if len(paths) == 0 {
			continue
		}
		rank := func(p storepath.Path) int {
			if i := slices.Index(c.Roots.Paths, p); i >= 0 {
				return i
			}
			return len(c.Roots.Paths)
		}
		best := slices.MinFunc(paths, func(a, b storepath.Path) int {
			return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(b.Name(), a.Name()), strings.Compare(a.String(), b.String()))
		})
		return best.String() + "/" + file
	}
	return ""
}

// shell is the closure's shell, "" where it has none.
func (c *contents) shell() string { return c.resource(launchlayer.Shells()) }

// defaults are the variables by which the launcher points to what the closure has.
func (c *contents) defaults() []launch.EnvDefault {
	var list []launch.EnvDefault
	for _, r := range launchlayer.Resources() {
		if path := c.resource(r.Files); path != "" {
			list = append(list, r.Default(path))
		}
	}
	return list
}
