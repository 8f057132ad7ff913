package inspect

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Why is why one path is in an image: the shortest chain of references from a root to it.
type Why struct {
	Path  storepath.Path   `json:"path"`
	Chain []storepath.Path `json:"chain"` // from a root to the path; empty where nothing refers to it
	// Dependents are the paths that refer to it directly.
	Dependents []storepath.Path `json:"dependents"`
}

// Why finds what a name means, a store path, its base name or a part of that, or a file in the image as a container names it,
// and says why each match is there.
func (r *Report) Why(name string) ([]Why, error) {
	exact, partial := []storepath.Path{}, []storepath.Path{}
	wanted := strings.TrimPrefix(name, storepath.Dir+"/")
	wanted, _, _ = strings.Cut(wanted, "/")
	view, _ := closure.ViewOf(r.Prefix) // the zero one where that is none
	places := strings.Split(name, "/")
	for _, p := range r.Paths {
		switch base := p.Path.Base(); {
		case base == wanted, path.IsAbs(name) && slices.Contains(places, closure.BaseName(p.Path, view)):
			exact = append(exact, p.Path)
		case wanted != "" && strings.Contains(base, wanted):
			partial = append(partial, p.Path)
		}
	}
	if len(exact) == 0 {
		exact = partial
	}
	switch {
	case len(exact) == 0 && path.IsAbs(name) && !strings.HasPrefix(name, storepath.Dir+"/"):
		return nil, fmt.Errorf("%q is in no store path of the image", name)
	case len(exact) == 0:
		return nil, fmt.Errorf("the image has no store path that is called %q", name)
	}
	slices.Sort(exact)
	graph, links := r.graph(), 0
	from, dependents := graph.Referrers(), graph.Dependents()
	var all []Why
	for _, p := range slices.Compact(exact) {
		w := Why{Path: p, Chain: []storepath.Path{}, Dependents: append([]storepath.Path{}, dependents[p]...)}
		for at := p; at != ""; at = from[at] {
			if _, reached := from[at]; !reached {
				break
			}
			w.Chain = append(w.Chain, at)
		}
		if links += len(w.Chain); links > maxLinks {
			return nil, fmt.Errorf("%q is in the names of %d store paths, with more than %d links in their chains: give more of one", name,
				len(exact), maxLinks)
		}
		slices.Reverse(w.Chain)
		all = append(all, w)
	}
	return all, nil
}

// maxLinks is how many paths the chains of an answer may have together. Those of all paths of NixOS have fewer.
const maxLinks = 1 << 20

// graph is the references of all paths.
func (r *Report) graph() *closure.Graph {
	g := &closure.Graph{Nodes: map[storepath.Path]*closure.Node{}}
	for _, p := range r.Paths {
		references := slices.Compact(slices.Sorted(slices.Values(p.References)))
		g.Nodes[p.Path] = &closure.Node{Path: p.Path, References: references}
	}
	for _, root := range r.Roots {
		g.Roots = append(g.Roots, storepath.Path(root))
	}
	return g
}

// maxIndent is how many times a line of a chain is indented.
const maxIndent = 20

// WriteWhy writes chains for people.
func WriteWhy(w io.Writer, all []Why) error {
	t := &printer{w: w}
	for i, why := range all {
		if i > 0 {
			t.printf("\n")
		}
		for depth, p := range why.Chain {
			mark := ""
			if depth > 0 {
				mark = strings.Repeat("    ", min(depth-1, maxIndent)) + "└── "
			}
			t.printf("%s%s\n", mark, text.Printable(string(p)))
		}
		if len(why.Chain) == 0 {
			t.printf("%s: no root needs it\n", text.Printable(string(why.Path)))
		}
		if len(why.Dependents) == 0 {
			t.printf("needed directly by no other\n")
			continue
		}
		t.printf("needed directly by %d: ", len(why.Dependents))
		for j, p := range why.Dependents {
			if j == 10 {
				t.printf(", …")
				break
			}
			if j > 0 {
				t.printf(", ")
			}
			t.printf("%s", text.Printable(p.Base()))
		}
		t.printf("\n")
	}
	return t.err
}
