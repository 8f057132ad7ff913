package nixproot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"

	"github.com/buildpacks/libcnb/v2"
	"golang.org/x/sync/errgroup"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/internal/boundedtoml"
	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

const (
	// recordLayer goes to the build cache and into no image, recordName is the file in it.
	recordLayer = "record"
	recordName  = "build.json"
	// recordFormat is the version of what the record says. Another version's is not used.
	recordFormat = 4
	// maxRecord bounds what is read of a record or of what the lifecycle says of the previous image, in bytes.
	maxRecord = 64 << 20
)

// buildRecord is what a build leaves for the next one of the same app. It is in the build cache, as whoever can write
// the previous image can write its labels too: nothing that the previous image says of itself is used but which layers
// it has, by the digests of their bytes.
type buildRecord struct {
	Format int    `json:"format"`
	System string `json:"system"`
	// Key is what the roots depend on; Roots are what they were.
	Key   string       `json:"key"`
	Roots roots.Result `json:"roots"`
	// Bins are the outputs' bin directories, in the order of Roots.Paths; nil for an output without one.
	Bins []*bin `json:"bins,omitempty"`
	// Resources are the files of the closure's paths that the launcher may point to.
	Resources map[storepath.Path][]string `json:"resources,omitempty"`
	// CacheURLs are the caches that the closure's paths came from, in whichever build that was.
	CacheURLs closure.CacheURLs `json:"caches,omitempty"`
	// Layers are the closure's, by name.
	Layers map[string]recordedLayer `json:"layers"`
}

// recordedLayer is one layer of the closure.
type recordedLayer struct {
	// DiffID is the digest of the layer's archive.
	DiffID   string           `json:"diffID"`
	Manifest closure.Manifest `json:"manifest"`
}

// errNoRecord says that the build cache has none.
var errNoRecord = errors.New("the build cache has no record of an earlier build")

// readRecord reads the record that the last build left in the build cache. Errors are lines for the log, or errNoRecord.
func readRecord(ctx context.Context, layersDir, system string) (buildRecord, error) {
	var r buildRecord
	text, err := regularfile.Read(ctx, filepath.Join(layersDir, recordLayer, recordName), maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return r, errNoRecord
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	switch {
	case err != nil:
	case r.Format != recordFormat:
		err = fmt.Errorf("it is in format %d, this version writes %d", r.Format, recordFormat)
	case r.System != system:
		err = fmt.Errorf("it is for %q, this build for %s", r.System, system)
	default:
		err = r.validate()
	}
	if err != nil {
		return buildRecord{}, fmt.Errorf("the record of the last build in the build cache is not used: %s", oneLine(err))
	}
	return r, nil
}

// validate says what no build of this buildpack would have recorded.
func (r buildRecord) validate() error {
	if len(r.Roots.Paths) == 0 {
		return errors.New("it names no store paths")
	}
	for i, p := range r.Roots.Paths {
		if slices.Contains(r.Roots.Paths[:i], p) {
			return fmt.Errorf("it names %q twice", p)
		}
	}
	for _, p := range r.Roots.All() {
		if _, err := storepath.Parse(p.String()); err != nil {
			return err
		}
	}
	if !isProgramName(r.Roots.MainProgram) {
		return fmt.Errorf("%.80q is no name of a program", r.Roots.MainProgram)
	}
	if !r.Roots.LicensesAreValid() {
		return errors.New("its licences are none of an evaluation")
	}
	return nil
}

// programName is a file name that stands for itself in a command line, whichever shell reads that.
var programName = regexp.MustCompile(`^[\pL\pN_+.@%,:-]+$`)

// isProgramName reports whether a word can stand for a program in a command line; "" names none and is one.
func isProgramName(s string) bool { return s == "" || programName.MatchString(s) && s[0] != '-' }

// previousLayers are the layers of this buildpack in the previous image, by name, each with the digest of its bytes. It
// is what the lifecycle has read in that image's label (<layers>/analyzed.toml, buildpacks/spec, platform.md), by
// which its exporter finds layers that a build leaves as they are. Whoever can write the image can write that: only
// what a record says too counts.
func previousLayers(ctx context.Context, layersDir, buildpackID string) (map[string]string, error) {
	digests := map[string]string{}
	text, err := regularfile.Read(ctx, filepath.Join(filepath.Dir(layersDir), "analyzed.toml"), maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return digests, nil
	}
	if err == nil {
		err = checkAnalyzed(text)
	}
	var analyzed struct {
		Metadata struct {
			Buildpacks []struct {
				ID     string `toml:"key"`
				Layers map[string]struct {
					DiffID string `toml:"sha"`
				} `toml:"layers"`
			} `toml:"buildpacks"`
		} `toml:"metadata"`
	}
	if err == nil {
		_, err = boundedtoml.Decode(text, &analyzed)
	}
	if err != nil {
		return digests, fmt.Errorf("what the lifecycle says of the previous image cannot be read: %.200q", oneLine(err))
	}
	for _, buildpack := range analyzed.Metadata.Buildpacks {
		if buildpack.ID == buildpackID {
			for name, layer := range buildpack.Layers {
				digests[name] = layer.DiffID
			}
		}
	}
	return digests, nil
}

// checkAnalyzed refuses what takes more memory to read than the label of any image of this buildpack.
func checkAnalyzed(text []byte) error {
	values := 0
	for _, sign := range "=,[{" {
		values += bytes.Count(text, []byte(string(sign)))
	}
	if values > lifecycle.MaxLabelValues {
		return fmt.Errorf("it has %d values, more than %d", values, lifecycle.MaxLabelValues)
	}
	return nil
}

// inImage are the layers of the record that the previous image has, byte by byte, going by the digests it has.
func (r buildRecord) inImage(digests map[string]string) (layers []string) {
	for name, layer := range r.Layers {
		if layer.DiffID != "" && digests[name] == layer.DiffID {
			layers = append(layers, name)
		}
	}
	return layers
}

// recordOf is the record of a build: of layers that stay in the previous image it says what the last one said.
func (c *contents) recordOf(ctx context.Context, before buildRecord) (buildRecord, error) {
	r := c.buildRecord
	r.Layers = map[string]recordedLayer{}
	manifests := c.Manifests()
	digests := make([]string, len(c.Groups))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, g := range c.Groups {
		dir := filepath.Join(c.layersDir, g.Layer)
		if !exists(dir) {
			digests[i] = before.Layers[g.Layer].DiffID
			continue
		}
		group.Go(func() (err error) {
			digests[i], err = lifecycle.DiffID(ctx, dir, os.Getuid(), os.Getgid())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return r, err
	}
	for i, g := range c.Groups {
		r.Layers[g.Layer] = recordedLayer{DiffID: digests[i], Manifest: manifests[g.Layer]}
	}
	return r, nil
}

// write makes the layer of the build cache that holds the record.
func (r buildRecord) write(layers libcnb.Layers) (libcnb.Layer, error) {
	layer := libcnb.Layer{
		Name: recordLayer, Path: filepath.Join(layers.Path, recordLayer), LayerTypes: libcnb.LayerTypes{Cache: true},
	}
	text, err := json.Marshal(r)
	if err == nil {
		err = nar.RemoveAll(layer.Path)
	}
	if err == nil {
		err = os.MkdirAll(layer.Path, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(layer.Path, recordName), text, 0o644)
	}
	if err != nil {
		return layer, fmt.Errorf("writing the record of this build: %w", err)
	}
	return layer, nil
}
