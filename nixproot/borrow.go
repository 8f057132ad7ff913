package nixproot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// asideDir holds what this build needs and the image does not: beside the layers, and no layer itself.
const asideDir = ".aside"

func (in *inputs) asideDir() string { return filepath.Join(in.layers.Path, asideDir) }

// borrowed is a closure whose files are here for the moment.
type borrowed struct {
	*contents
	dirs []string // what giveBack removes
}

// borrow substitutes once more: the closure of roots, in c's layers, without those groups whose files are here. Of layers
// that stay in the previous image the files are put where the image has them, as what reads them may name their places;
// what the image does not hold at all is put aside.
func (b Build) borrow(ctx context.Context, in *inputs, c *contents, roots []storepath.Path, here []closure.Group,
) (*borrowed, error) {
	result, err := b.substitute(ctx, in, in.asideDir(), closure.Options{
		Roots: roots, View: c.View, Planned: c.Groups,
		Previous: &closure.Previous{Prefix: c.View.Dir(), Groups: here, Nodes: c.Graph.Nodes},
	})
	if err != nil {
		return nil, err
	}
	l := &borrowed{dirs: []string{in.asideDir()}, contents: &contents{
		Result: result, buildRecord: c.buildRecord, Engine: c.Engine, Reason: c.Reason, layersDir: c.layersDir,
	}}
	l.Roots.Paths = roots
	for _, group := range result.Changed {
		if err := l.installGroup(group, result.View.Dir() == c.View.Dir()); err != nil {
			return nil, fmt.Errorf("installing layer %s: %w", group.Layer, err)
		}
	}
	return l, nil
}

// installGroup puts a group from aside into its layer's place, where the image has it as it is.
func (l *borrowed) installGroup(group closure.Group, asInImage bool) error {
	aside := filepath.Join(asideDir, group.Layer)
	if asInImage && group.Layer != closure.BuildGroup {
		layer := filepath.Join(l.layersDir, group.Layer)
		l.dirs = append(l.dirs, layer)
		return os.Rename(filepath.Join(l.layersDir, aside), layer)
	}
	i := slices.IndexFunc(l.Groups, func(g closure.Group) bool { return g.Layer == group.Layer })
	l.Groups[i].Layer = aside
	return nil
}

// giveBack leaves the layers as they were before.
func (l *borrowed) giveBack() error {
	for _, dir := range l.dirs {
		if err := nar.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing what only this build needed: %w", err)
		}
	}
	return nil
}
