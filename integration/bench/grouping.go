package bench

import (
	"cmp"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Grouping is how somebody else would spread a closure over at most layers layers; each element is one layer. A
// grouping knows nothing of a previous image.
type Grouping func(g *closure.Graph, layers int) [][]storepath.Path

// Popularity is the grouping of nixpkgs' dockerTools ("popularity contest") and of nix2container: paths are ranked by
// in how many ways they are reached through the graph, the first ones have a layer each and all others share the
// last one.
//
// Written after the description in https://grahamc.com/blog/nix-and-layered-docker-images and the comments in
// pkgs/build-support/references-by-popularity of NixOS/nixpkgs.
func Popularity(g *closure.Graph, layers int) [][]storepath.Path {
	order := dependentsFirst(g)
	score := map[storepath.Path]float64{} // ways are many: a float does not overflow, and ties do not matter
	for _, n := range order {
		score[n.Path]++
		for _, ref := range n.References {
			if ref != n.Path {
				score[ref] += score[n.Path]
			}
		}
	}
	slices.SortFunc(order, func(a, b *closure.Node) int {
		return cmp.Or(cmp.Compare(score[b.Path], score[a.Path]), strings.Compare(string(a.Path), string(b.Path)))
	})
	var groups [][]storepath.Path
	for i, n := range order {
		if i < layers {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], n.Path)
	}
	return sorted(groups)
}

// AutoLayer is the newer grouping of nixpkgs' dockerTools: the n largest paths are split off, each with what only it
// needs, and what several of them need is split by which ones do; n is the largest for which there are no more than
// layers sets.
//
// Written after the comments at the head of pkgs/build-support/docker/auto-layer.py in NixOS/nixpkgs.
func AutoLayer(g *closure.Graph, layers int) [][]storepath.Path {
	bySize := g.Sorted()
	slices.SortStableFunc(bySize, func(a, b *closure.Node) int { return cmp.Compare(b.NarSize, a.NarSize) })
	order, dependents := dependentsFirst(g), g.Dependents()
	var best [][]storepath.Path
	chosen := map[storepath.Path]bool{}
	for _, n := range bySize {
		chosen[n.Path] = true
		next := split(order, dependents, chosen)
		if len(next) > layers {
			break
		}
		best = next
	}
	if best == nil {
		best = [][]storepath.Path{g.Paths()}
	}
	return sorted(best)
}

// split groups paths by which chosen ones they are needed by. What nothing needs counts as chosen.
func split(order []*closure.Node, dependents map[storepath.Path][]storepath.Path, chosen map[storepath.Path]bool,
) [][]storepath.Path {
	owners := map[storepath.Path][]storepath.Path{}
	groups := map[string][]storepath.Path{}
	for _, n := range order {
		own := []storepath.Path{n.Path}
		if needed := dependents[n.Path]; !chosen[n.Path] && len(needed) > 0 {
			own = nil
			for _, d := range needed {
				own = append(own, owners[d]...)
			}
			slices.Sort(own)
			own = slices.Compact(own)
		}
		owners[n.Path] = own
		var key strings.Builder
		for _, p := range own {
			key.WriteString(string(p) + " ")
		}
		groups[key.String()] = append(groups[key.String()], n.Path)
	}
	var list [][]storepath.Path
	for _, paths := range groups {
		list = append(list, paths)
	}
	return list
}

// Exported is how many bytes of after's layers are not among before's: what a registry has to be sent. Layers are
// the same if they hold the same paths.
func Exported(g *closure.Graph, before, after [][]storepath.Path) int64 {
	had := map[string]bool{}
	for _, paths := range before {
		had[contents(paths)] = true
	}
	var sum int64
	for _, paths := range after {
		if !had[contents(paths)] {
			sum += bytesOf(g, paths)
		}
	}
	return sum
}

// dependentsFirst is the graph with every path before what it refers to.
func dependentsFirst(g *closure.Graph) []*closure.Node {
	order, err := g.Topological()
	if err != nil {
		order = g.Sorted()
	}
	slices.Reverse(order)
	return order
}

// sorted orders each layer's paths, and the layers by their first.
func sorted(groups [][]storepath.Path) [][]storepath.Path {
	for _, paths := range groups {
		slices.Sort(paths)
	}
	slices.SortFunc(groups, func(a, b []storepath.Path) int { return strings.Compare(string(a[0]), string(b[0])) })
	return groups
}
