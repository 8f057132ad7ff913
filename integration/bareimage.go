package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
)

// previous is where the image's layers stand while the next build runs: of layers that are not cached the lifecycle
// restores the metadata alone.
func (b *Bare) previous() string { return filepath.Join(b.Dir, "previous") }

// setAside takes the image's layers away and leaves their metadata.
func (b *Bare) setAside() error {
	files, err := filepath.Glob(filepath.Join(b.Layers(), "*.toml"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.previous(), 0o755); err != nil {
		return err
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".toml")
		if name == toolchainLayer {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.previous(), name+".toml"), text, 0o644); err != nil {
			return err
		}
		types, err := b.LayerTypes(name)
		if err != nil {
			return err
		}
		from, to := filepath.Join(b.Layers(), name), filepath.Join(b.previous(), name)
		switch {
		case !exists(from):
		case types.Launch && !types.Cache:
			err = nar.Move(from, to)
		case name == recordLayer: // small; a build that fails leaves the cache as it was
			err = os.CopyFS(to, os.DirFS(from))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// LayerTypes is what a layer is for, as its metadata says.
type LayerTypes struct{ Launch, Cache bool }

// LayerTypes reads what a layer of the last build is for.
func (b *Bare) LayerTypes(name string) (LayerTypes, error) {
	var layer struct{ Types LayerTypes }
	if _, err := toml.DecodeFile(filepath.Join(b.Layers(), name+".toml"), &layer); err != nil {
		return LayerTypes{}, fmt.Errorf("reading the metadata of layer %s: %w", name, err)
	}
	return layer.Types, nil
}

// Save copies what the next build sees to dir: the layers directory, and what the lifecycle says of the image.
func (b *Bare) Save(dir string) error {
	if err := os.CopyFS(filepath.Join(dir, "layers"), os.DirFS(b.Layers())); err != nil {
		return fmt.Errorf("saving an image: %w", err)
	}
	text, err := os.ReadFile(b.analyzed())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, filepath.Base(b.analyzed())), text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("saving an image: %w", err)
	}
	return nil
}

// Restore makes what Save copied to dir what the next build sees.
func (b *Bare) Restore(dir string) error {
	err := nar.RemoveAll(b.Layers())
	if err == nil {
		err = os.CopyFS(b.Layers(), os.DirFS(filepath.Join(dir, "layers")))
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(filepath.Join(dir, filepath.Base(b.analyzed())))
	}
	if err == nil {
		err = os.WriteFile(b.analyzed(), text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("restoring an image: %w", err)
	}
	return nil
}

// recordLayer is what one build remembers for the next.
const recordLayer = "record"

// analyzed is the file in which the lifecycle says what the previous image's label says of its layers.
func (b *Bare) analyzed() string { return filepath.Join(b.Dir, "analyzed.toml") }

// analyzedMetadata is that file, as far as the buildpack reads it.
type analyzedMetadata struct {
	Metadata struct {
		Buildpacks []analyzedBuildpack `toml:"buildpacks"`
	} `toml:"metadata"`
}

type analyzedBuildpack struct {
	ID     string                   `toml:"key"`
	Layers map[string]analyzedLayer `toml:"layers"`
}

type analyzedLayer struct {
	DiffID string `toml:"sha"`
}

// analyze writes that file for the next build. Layers that stay have the digests they had.
func (b *Bare) analyze(ctx context.Context, made []string) error {
	var before analyzedMetadata
	if _, err := toml.DecodeFile(b.analyzed(), &before); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	after := analyzedBuildpack{ID: "nixproot/nix-hydra", Layers: map[string]analyzedLayer{}}
	for _, buildpack := range before.Metadata.Buildpacks {
		for name, layer := range buildpack.Layers {
			if b.HasLayer(name) {
				after.Layers[name] = layer
			}
		}
	}
	for _, name := range made {
		digest, err := lifecycle.DiffID(ctx, filepath.Join(b.Layers(), name), os.Getuid(), os.Getgid())
		if err != nil {
			return err
		}
		after.Layers[name] = analyzedLayer{DiffID: digest}
	}
	var now analyzedMetadata
	now.Metadata.Buildpacks = []analyzedBuildpack{after}
	text, err := toml.Marshal(now)
	if err != nil {
		return err
	}
	return os.WriteFile(b.analyzed(), text, 0o644)
}

// export makes the new image: layers that the build set up without their directories are the previous image's.
func (b *Bare) export(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(b.Layers(), "*.toml"))
	if err != nil {
		return err
	}
	var made []string
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".toml")
		from, to := filepath.Join(b.previous(), name), filepath.Join(b.Layers(), name)
		if exists(to) {
			if name != recordLayer && name != toolchainLayer {
				made = append(made, name)
			}
			continue
		}
		if exists(from) {
			if err := nar.Move(from, to); err != nil {
				return err
			}
		}
	}
	return errors.Join(b.analyze(ctx, made), nar.RemoveAll(b.previous()))
}

// revert puts the previous image back after a build that failed. What the build has left beside it stays where it is.
func (b *Bare) revert() error {
	files, err := filepath.Glob(filepath.Join(b.Layers(), "*.toml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if filepath.Base(file) != toolchainLayer+".toml" {
			err = errors.Join(err, os.Remove(file))
		}
	}
	entries, readErr := os.ReadDir(b.previous())
	if err := errors.Join(err, readErr); err != nil {
		return err
	}
	for _, entry := range entries {
		to := filepath.Join(b.Layers(), entry.Name())
		if err := nar.RemoveAll(to); err != nil {
			return err
		}
		if err := nar.Move(filepath.Join(b.previous(), entry.Name()), to); err != nil {
			return err
		}
	}
	return nar.RemoveAll(b.previous())
}
