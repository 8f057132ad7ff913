package nixproot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

const prootLayer = "proot"

// PRootLayer puts the pinned static PRoot into an image that may need it. It returns the layer and the program's
// path.
func PRootLayer(ctx context.Context, layers libcnb.Layers, dependencies Dependencies) (libcnb.Layer, string, error) {
	layer, err := layers.Layer(prootLayer)
	if err != nil {
		return layer, "", err
	}
	dependency, err := dependencies.Pinned("proot")
	if err != nil {
		return layer, "", err
	}
	program := filepath.Join(layer.Path, "bin", "proot")
	want := map[string]any{"version": dependency.Version, "checksum": string(dependency.GetChecksum())}
	same := sameTable(layer.Metadata, want) && hasHash(program, dependency.GetChecksum().Hash())
	layer.LayerTypes = libcnb.LayerTypes{Launch: true, Cache: true}
	layer.Metadata = want
	if same {
		return layer, program, nil
	}
	if err := nar.RemoveAll(layer.Path); err != nil {
		return layer, "", fmt.Errorf("clearing the PRoot layer: %w", err)
	}
	artifact, err := dependencies.Fetch(ctx, dependency)
	if err != nil {
		return layer, "", err
	}
	if err := copyFile(artifact, program, 0o755); err != nil {
		return layer, "", fmt.Errorf("installing PRoot: %w", err)
	}
	return layer, program, nil
}

// copyFile copies a file's bytes, makes the directories above it, and sets its mode.
func copyFile(from, to string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	if err := out.Chmod(mode); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// hasHash reports whether a file is there and has this SHA-256, in hex.
func hasHash(path, want string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return false
	}
	return hex.EncodeToString(hash.Sum(nil)) == want
}
