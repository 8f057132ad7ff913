package closure

import (
	"path"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Places is where the paths of a relocated closure really lie in the image, which their names in the view, links, lead to.
type Places struct {
	dir    string                    // the layers'
	layers map[storepath.Path]string // by path
	needed map[storepath.Path]bool   // by another path
	wraps  map[storepath.Path]bool   // programs of others
}

// NewPlaces is for a closure that was relocated to view. All its paths have to be added.
func NewPlaces(view relocate.View) *Places {
	return &Places{
		dir: path.Dir(view.Dir()), layers: make(map[storepath.Path]string), needed: make(map[storepath.Path]bool),
		wraps: make(map[storepath.Path]bool),
	}
}

// Add says in which layer a path is, whose NAR has narSize bytes.
func (p *Places) Add(member storepath.Path, narSize int64, references []storepath.Path, layer string) {
	p.layers[member], p.wraps[member] = layer, relocate.MayWrap(narSize, references)
	for _, ref := range references {
		if ref != member {
			p.needed[ref] = true
		}
	}
}

// OfPrograms gives the directories of the paths whose programs a path's wrappers name by where they really lie: its own, and, in
// what no other path needs and in what may wrap programs of others, those of its references, too. What else others need is the same in every
// image that has its layer, wherever that image has the rest.
func (p *Places) OfPrograms(member storepath.Path, references []storepath.Path) map[storepath.Path]string {
	dirs := map[storepath.Path]string{}
	if !p.needed[member] || p.wraps[member] {
		for _, ref := range references {
			if layer := p.layers[ref]; layer != "" {
				dirs[ref] = path.Join(p.dir, layer)
			}
		}
	}
	if layer := p.layers[member]; layer != "" {
		dirs[member] = path.Join(p.dir, layer)
	}
	return dirs
}
