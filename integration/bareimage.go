package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
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
		var layer struct {
			Types struct{ Launch, Cache bool }
		}
		if err := toml.Unmarshal(text, &layer); err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		from, to := filepath.Join(b.Layers(), name), filepath.Join(b.previous(), name)
		if layer.Types.Launch && !layer.Types.Cache && exists(from) {
			if err := nar.Move(from, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// export makes the new image: layers that the build set up without their folders are the previous image's.
func (b *Bare) export() error {
	files, err := filepath.Glob(filepath.Join(b.Layers(), "*.toml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".toml")
		from, to := filepath.Join(b.previous(), name), filepath.Join(b.Layers(), name)
		if exists(from) && !exists(to) {
			if err := nar.Move(from, to); err != nil {
				return err
			}
		}
	}
	return nar.RemoveAll(b.previous())
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
