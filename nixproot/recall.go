package nixproot

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

const (
	// viewLayer holds one link per store path; what relocated files refer to.
	viewLayer = "view"
	// imageFormat is the version of what the run layer's metadata says. Another version's is not read.
	imageFormat = 2
)

// imageMetadata is what the run layer remembers of a build, for the next one. It is a JSON text in the layer's
// metadata, which is TOML on the way and JSON in the image's label and would lose its types.
type imageMetadata struct {
	Format int    `json:"format"`
	System string `json:"system"`
	// Key is what the roots depend on; Roots are what they were.
	Key   string `json:"key"`
	Roots Roots  `json:"roots"`
	// Bins are the outputs' bin folders, in the order of Roots.Paths; nil for an output without one.
	Bins []*bin `json:"bins,omitempty"`
}

// recalled is what the previous image's metadata promises: the closure's layers, and what it was made from.
type recalled struct {
	imageMetadata
	closure *closure.Previous
	// layout is what this build's closure would be relocated to; zero where it is not to be, or cannot be.
	layout relocate.Layout
	// tooLong says why it cannot be.
	tooLong error
}

// recall reads the layers' metadata that the lifecycle has restored. What cannot be used is said in one line and
// fetched again.
func (b Build) recall(s *site) recalled {
	r := recalled{closure: &closure.Previous{}}
	if wantsRelocation(s.config.Engine) {
		r.layout, r.tooLong = relocate.NewLayout(filepath.Join(s.layers.Path, viewLayer))
	}
	run, err := s.layers.Layer(runLayer)
	if err != nil || len(run.Metadata) == 0 {
		return r
	}
	text, _ := run.Metadata["image"].(string)
	var metadata imageMetadata
	switch err := json.Unmarshal([]byte(text), &metadata); {
	case err != nil:
		b.Logger.Bodyf("The previous image's metadata cannot be read (%s): a full build", oneLine(err))
		return r
	case metadata.Format != imageFormat:
		b.Logger.Bodyf("The previous image is from another version of this buildpack (format %d, this one writes %d): a full build",
			metadata.Format, imageFormat)
		return r
	case metadata.System != s.config.System:
		b.Logger.Bodyf("The previous image is for %s, this one for %s: a full build", metadata.System, s.config.System)
		return r
	}
	r.imageMetadata = metadata
	var notes []string
	r.closure, notes = closure.Recall(readManifests(s.layers), r.layout)
	if s.settings.requireSigs {
		notes = append(notes, r.closure.Distrust(s.settings.keys)...)
	}
	for _, note := range notes {
		b.Logger.Bodyf("%s", note)
	}
	return r
}

// wantsRelocation reports whether an engine runs relocated files where that is safe.
func wantsRelocation(engine string) bool {
	return engine == launch.EngineAuto || engine == launch.EngineRelocate
}

// readManifests reads the metadata of all closure layers.
func readManifests(layers libcnb.Layers) map[string]closure.Manifest {
	manifests := map[string]closure.Manifest{}
	files, err := filepath.Glob(filepath.Join(layers.Path, closure.LayerPrefix+"*.toml"))
	if err != nil {
		return manifests
	}
	for _, file := range files {
		var manifest closure.Manifest
		name := strings.TrimSuffix(filepath.Base(file), ".toml")
		if layer, err := layers.Layer(name); err == nil {
			// A manifest that cannot be read has no format, and Recall says so.
			manifest, _ = closure.ParseManifest(layer.Metadata)
		}
		manifests[name] = manifest
	}
	return manifests
}

// sameTable compares a layer's metadata, as read from TOML, with what it ought to be.
func sameTable(have, want map[string]any) bool {
	return reflect.DeepEqual(have, want)
}

// encode writes the metadata as RunLayer keeps it.
func (m imageMetadata) encode() (string, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("encoding the image's metadata: %w", err)
	}
	return string(text), nil
}
