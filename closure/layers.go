package closure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
)

// ErrNoClosure is the error of layers that hold no closure.
var ErrNoClosure = errors.New("there are no closure layers")

// OpenLayers reads a layers directory on disk, which must have closure layers. The tree is of use until done.
func OpenLayers(ctx context.Context, dir string) (layers *filetree.File, done func() error, err error) {
	layers, done, err = filetree.ReadDirectory(ctx, dir)
	if err != nil {
		return nil, nil, fmt.Errorf("reading layers: %w", err)
	}
	if !HasLayers(layers) {
		_ = done()
		return nil, nil, fmt.Errorf("reading %s: %w: it is neither this buildpack's layers directory nor an OCI layout (index.json); "+
			"of what docker save wrote it takes the archive", dir, ErrNoClosure)
	}
	return layers, done, nil
}

// HasLayers reports whether a layers directory has closure layers.
func HasLayers(layers *filetree.File) bool {
	return layers != nil && slices.ContainsFunc(layers.Names(), func(name string) bool {
		return strings.HasPrefix(name, LayerPrefix)
	})
}

// ViewOf is the view of paths that were relocated to prefix; the zero one for those that were not.
func ViewOf(prefix string) (relocate.View, error) {
	if prefix == storepath.Dir {
		return relocate.View{}, nil
	}
	return relocate.NewView(prefix)
}
