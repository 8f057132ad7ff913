package nixproot

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/roots"
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
	Key   string    `json:"key"`
	Roots roots.Set `json:"roots"`
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
	// wanted are paths whose files have to be looked into, although the previous image keeps them.
	wanted []storepath.Path
}

// recall reads the layers' metadata that the lifecycle has restored. Anybody may have altered it: what cannot be right
// is not used, and one line says so.
func (b Build) recall(s *site) recalled {
	r := recalled{closure: &closure.Previous{}}
	if wantsRelocation(s.config.Engine) {
		r.layout, r.tooLong = relocate.NewLayout(filepath.Join(s.layers.Path, viewLayer))
	}
	manifests := readManifests(s.layers)
	run, err := s.layers.Layer(runLayer)
	if err != nil || len(run.Metadata) == 0 {
		if len(manifests) > 0 {
			b.Logger.Bodyf("The previous image does not say what it was made from: a full build")
		}
		return r
	}
	text, _ := run.Metadata["image"].(string)
	metadata, why := readImage(text, s.config.System)
	if why != "" {
		b.Logger.Bodyf("The previous image %s: a full build", why)
		return r
	}
	previous, notes := closure.Recall(manifests, r.layout)
	if s.settings.requireSigs {
		notes = append(notes, previous.Distrust(s.settings.keys)...)
	}
	if len(notes) == 0 {
		if err := previous.Is(metadata.Roots.Paths); err != nil {
			b.Logger.Bodyf("The previous image's metadata does not hold together (%s): a full build", err)
			return r
		}
	}
	for _, note := range notes {
		b.Logger.Bodyf("%s", note)
	}
	r.imageMetadata, r.closure = metadata, previous
	return r
}

// readImage reads what the run layer remembers. Where that cannot be used, it says why of the image.
func readImage(text, system string) (m imageMetadata, why string) {
	err := json.Unmarshal([]byte(text), &m)
	if err == nil && m.Format == imageFormat {
		err = m.flaw()
	}
	switch {
	case err != nil:
		return m, fmt.Sprintf("has metadata that cannot be read (%s)", oneLine(err))
	case m.Format != imageFormat:
		return m, fmt.Sprintf("is from another version of this buildpack (format %d, this one writes %d)", m.Format,
			imageFormat)
	case m.System != system:
		return m, fmt.Sprintf("is for %s, this one for %s", m.System, system)
	}
	return m, ""
}

// flaw says what no build of this buildpack would have remembered.
func (m imageMetadata) flaw() error {
	if len(m.Roots.Paths) == 0 {
		return errors.New("it names no store paths")
	}
	for i, p := range m.Roots.Paths {
		if slices.Contains(m.Roots.Paths[:i], p) {
			return fmt.Errorf("it names %s twice", p)
		}
	}
	for _, p := range m.Roots.All() {
		if _, err := storepath.Parse(p.String()); err != nil {
			return err
		}
	}
	if !isProgramName(m.Roots.MainProgram) {
		return fmt.Errorf("%.80q is no name of a program", m.Roots.MainProgram)
	}
	return nil
}

// isProgramName reports whether a word can stand for a program in a command line.
func isProgramName(s string) bool { return !strings.ContainsAny(s, "/ \t\n'\"\\$`") }

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
