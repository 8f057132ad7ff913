package verify

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
)

// view checks that each path has its link and nothing else has one.
func (v *closureCheck) view() {
	if v.View == "" {
		return
	}
	view := v.layers.Child(v.View)
	if view != nil && view.Kind != filetree.Directory {
		v.altered(v.View, "it is a %s, not a layer", view.Kind)
		view = nil
	}
	if view != nil {
		v.plain(v.View, view, 0o755)
	}
	known := map[string]bool{}
	for _, t := range v.trees {
		entry := &v.report.Paths[t.entry]
		name := closure.BaseName(t.info.Path, t.view)
		link := view.Child(name)
		if known[name] || link == nil || link.Kind != filetree.Symlink || !v.leads(link.Target, entry.Layer, t) ||
			len(link.Attributes) > 0 {
			entry.Problem = cmp.Or(entry.Problem, fmt.Sprintf("its link %s does not lead to it", name))
		}
		known[name] = true
	}
	if view == nil {
		return
	}
	for _, name := range view.Names() {
		if !known[name] {
			v.report.Extra = append(v.report.Extra, filepath.Join(v.View, name))
		}
	}
}

// leads reports whether a link's target is the one that a path's link has. Where the layers are in the image is known
// of what is relocated, or has to be given.
func (v *closureCheck) leads(target, layer string, t unpacked) bool {
	if t.view.IsZero() && v.Dir == "" {
		return strings.HasSuffix(target, filepath.Join("/", layer, t.info.Path.Base()))
	}
	return target == closure.LinkTarget(v.Dir, layer, t.info.Path, t.view)
}

// dangling notes which paths refer to some that are not there.
func (v *closureCheck) dangling() {
	for i := range v.report.Paths {
		entry := &v.report.Paths[i]
		for _, ref := range entry.References {
			if !v.seen[ref] {
				entry.Problem = cmp.Or(entry.Problem, fmt.Sprintf("it refers to %s, which is not in the image", ref))
			}
		}
	}
}
