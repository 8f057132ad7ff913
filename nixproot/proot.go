package nixproot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
)

const prootLayer = launchlayer.PRoot

// installPRoot puts the pinned static PRoot into an image that may need it. It returns the layer and the program's
// path.
func installPRoot(ctx context.Context, layers libcnb.Layers, dependencies pinnedDependencies) (libcnb.Layer, string, error) {
	layer, err := layers.Layer(prootLayer)
	if err != nil {
		return layer, "", err
	}
	dependency, err := dependencies.find("proot")
	if err != nil {
		return layer, "", err
	}
	program := filepath.Join(layer.Path, "bin", "proot")
	want := map[string]any{"version": dependency.Version, "checksum": string(dependency.GetChecksum())}
	digest, err := digestFile(program)
	same := err == nil && sameTable(layer.Metadata, want) && digest == dependency.GetChecksum().Hash()
	layer.LayerTypes = libcnb.LayerTypes{Launch: true, Cache: true}
	layer.Metadata = want
	if same {
		return layer, program, nil
	}
	if err := nar.RemoveAll(layer.Path); err != nil {
		return layer, "", fmt.Errorf("clearing the PRoot layer: %w", err)
	}
	artifact, err := dependencies.fetch(ctx, dependency)
	if err != nil {
		return layer, "", err
	}
	if err := launchlayer.InstallProgram(artifact, program); err != nil {
		return layer, "", fmt.Errorf("installing PRoot: %w", err)
	}
	return layer, program, nil
}

// digestFile is the digest of a program.
func digestFile(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	return launchlayer.Digest(file)
}
