package nixproot

import (
	"os"
	"path/filepath"
	"slices"

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
			dir := c.treeIn(group.Layer, p)
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

// shell is the closure's shell, "" where it has none.
func (c *contents) shell() string { return c.resource(launchlayer.Shells()) }

// resource is the place in an ordinary store of the first of some files that the closure has, "" for none.
func (c *contents) resource(files []string) string {
	return launchlayer.Choose(files, c.Roots.Paths, c.Resources)
}

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
