package closure

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// namer gives groups their layers' names: the name of the previous layer that a group has most in common with, else
// the first one that is free.
type namer struct {
	model    *model
	previous []Group
	taken    map[string]bool
}

func newNamer(m *model, previous []Group) *namer {
	return &namer{model: m, previous: previous, taken: map[string]bool{}}
}

func (n *namer) take(layer string) { n.taken[layer] = true }

// likeness is how much a group shares with a previous layer: bytes of paths that both have count double, those of
// another version of the same package once.
type likeness struct {
	group int
	layer string
	same  bool
	bytes int64
}

// name turns sets of nodes into groups, app saying which of the two families of names to use.
func (n *namer) name(sets [][]int, app bool) []Group {
	groups := make([]Group, len(sets))
	for i, set := range sets {
		for _, node := range set {
			groups[i].Paths = append(groups[i].Paths, n.model.nodes[node].Path)
		}
		slices.Sort(groups[i].Paths)
	}
	for _, l := range n.likenesses(groups, app) {
		if groups[l.group].Layer == "" && !n.taken[l.layer] {
			groups[l.group].Layer = l.layer
			n.take(l.layer)
		}
	}
	next := 0
	for i := range groups {
		for groups[i].Layer == "" {
			layer := fmt.Sprintf("%s%02d", LayerPrefix, next)
			if app && next == 0 {
				layer = AppLayer
			} else if app {
				layer = fmt.Sprintf("%s-%d", AppLayer, next+1)
			}
			next++
			if !n.taken[layer] {
				groups[i].Layer = layer
				n.take(layer)
			}
		}
	}
	return groups
}

func (n *namer) likenesses(groups []Group, app bool) []likeness {
	var found []likeness
	for _, prev := range n.previous {
		if isApp(prev.Layer) != app || !isLayer(prev.Layer) {
			continue
		}
		paths, packages := map[storepath.Path]bool{}, map[string]bool{}
		for _, p := range prev.Paths {
			paths[p], packages[packageName(p)] = true, true
		}
		for i, g := range groups {
			l := likeness{group: i, layer: prev.Layer, same: slices.Equal(g.Paths, prev.Paths)}
			for _, p := range g.Paths {
				size := n.model.size[n.model.index[p]] + 1
				if paths[p] {
					l.bytes += 2 * size
				} else if packages[packageName(p)] {
					l.bytes += size
				}
			}
			if l.bytes > 0 {
				found = append(found, l)
			}
		}
	}
	slices.SortFunc(found, func(a, b likeness) int {
		if a.same != b.same {
			if a.same {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), strings.Compare(a.layer, b.layer), cmp.Compare(a.group, b.group))
	})
	return found
}

// sorted orders groups by layer.
func (n *namer) sorted(groups []Group) []Group {
	slices.SortFunc(groups, func(a, b Group) int { return strings.Compare(a.Layer, b.Layer) })
	return groups
}
