package nixproot

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
)

const viewLayer = launchlayer.View

// previous is the last build, as its record in the build cache has it, and what the previous image has of it.
type previous struct {
	buildRecord
	closure *closure.Previous
	// view is what this build's closure would be relocated to; zero where it is not to be, or cannot be.
	view relocate.View
	// tooLong says why it cannot be.
	tooLong error
}

// previous reads the record of the last build and compares it with the layers that the previous image has. What is not
// used is said in one line.
func (b Build) previous(ctx context.Context, in *inputs) previous {
	p := previous{closure: &closure.Previous{}}
	if launchlayer.WantsRelocation(in.config.Engine) {
		p.view, p.tooLong = relocate.NewView(filepath.Join(in.layers.Path, viewLayer))
		p.view = p.view.Overruling(in.config.Harmless)
	}
	digests, err := previousLayers(ctx, in.layers.Path, in.buildpackID)
	if err != nil {
		b.Logger.Bodyf("%s", err)
	}
	record, err := readRecord(ctx, in.layers.Path, in.config.System)
	if errors.Is(err, errNoRecord) {
		if len(digests) > 0 {
			b.Logger.Bodyf("There is a previous image, and the build cache has no record of it (it is new, or an older version made " +
				"the image): a full build")
		}
		return p
	}
	if err != nil {
		b.Logger.Bodyf("%s: a full build", err)
		return p
	}
	manifests := map[string]closure.Manifest{}
	for name, layer := range record.Layers {
		manifests[name] = layer.Manifest
	}
	found, notes := closure.ReadPrevious(manifests, p.view)
	if in.settings.requireSigs {
		notes = append(notes, found.CheckSignatures(in.settings.keys)...)
	}
	if len(notes) == 0 {
		if err := found.IsClosureOf(record.Roots.Paths); err != nil {
			b.Logger.Bodyf("The record of the last build does not hold together (%s): a full build", err)
			return p
		}
	}
	for _, note := range notes {
		b.Logger.Bodyf("%s", note)
	}
	p.buildRecord, p.closure = record, found
	b.keepOnly(found, record.inImage(digests))
	return p
}

// keepOnly leaves of the previous layers those that are in the previous image.
func (b Build) keepOnly(found *closure.Previous, there []string) {
	var absent []string
	found.Groups = slices.DeleteFunc(found.Groups, func(g closure.Group) bool {
		gone := !slices.Contains(there, g.Layer)
		if gone {
			absent = append(absent, g.Layer)
		}
		return gone
	})
	if len(absent) > 0 {
		b.Logger.Bodyf("%s made anew, as the previous image does not have what the last build made of them: %s",
			text.Count(len(absent), "layer"), text.List(slices.Sorted(slices.Values(absent)), 3))
	}
}

// sameTable compares a layer's metadata, as read from TOML, with what it ought to be.
func sameTable(have, want map[string]any) bool {
	return reflect.DeepEqual(have, want)
}
