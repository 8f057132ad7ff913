package nixproot

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
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
