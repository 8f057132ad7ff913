// Package closurelayer reads the layers that package closure makes, in an image that anybody may have made: whether there are any,
// and what each says that it holds.
package closurelayer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
)

// ErrNone is the error of layers that hold no closure.
var ErrNone = errors.New("there are no closure layers")

// Open reads a layers directory on disk, which must have closure layers. The tree is of use until done.
func Open(ctx context.Context, dir string) (layers *filetree.File, done func() error, err error) {
	layers, done, err = filetree.ReadDirectory(ctx, dir)
	if err != nil {
		return nil, nil, fmt.Errorf("reading layers: %w", err)
	}
	if !Any(layers) {
		_ = done()
		return nil, nil, fmt.Errorf("reading %s: %w: it is neither this buildpack's layers directory nor an OCI layout (index.json); "+
			"of what docker save wrote it takes the archive", dir, ErrNone)
	}
	return layers, done, nil
}

// Any reports whether a layers directory has closure layers.
func Any(layers *filetree.File) bool {
	return layers != nil && slices.ContainsFunc(layers.Names(), func(name string) bool {
		return strings.HasPrefix(name, closure.LayerPrefix)
	})
}
