package nixproot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/buildpacks/libcnb/v2"
	"github.com/paketo-buildpacks/libpak/v2/log"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

const (
	toolchainLayer  = "nix"
	evaluationLayer = "eval"
)

// toolchainLayers are the two cached layers that evaluation needs: Nix itself and what evaluation may reuse, each kept as a
// compressed pack so that a build which evaluates nothing restores little.
type toolchainLayers struct {
	dependencies pinnedDependencies
	caches       cacheSettings
	config       Config
	scratch      string
	logger       log.Logger

	nix, state libcnb.Layer
	opened     *nixinstall.Toolchain
	// used are the store paths that the next evaluation will want again.
	used []storepath.Path
	// openCaches gives the caches that can be used: Nix waits long for one that does not answer.
	openCaches func() (*cache.Set, error)
}

// toolchainMetadata is what the nix layer's contents depend on.
type toolchainMetadata struct {
	Version  string
	Checksum string
	Path     string
}

func (m toolchainMetadata) table() map[string]any {
	return map[string]any{"version": m.Version, "checksum": m.Checksum, "path": m.Path}
}

// newToolchain reads the two layers as the last build left them, and opens nothing.
func newToolchain(layers libcnb.Layers, t toolchainLayers) (*toolchainLayers, error) {
	var err error
	if t.nix, err = layers.Layer(toolchainLayer); err != nil {
		return nil, err
	}
	if t.state, err = layers.Layer(evaluationLayer); err != nil {
		return nil, err
	}
	t.nix.LayerTypes = libcnb.LayerTypes{Build: true, Cache: true}
	t.state.LayerTypes = libcnb.LayerTypes{Build: true, Cache: true}
	return &t, nil
}

// identity names the toolchain's version and hash, as part of what an evaluation's result depends on.
func (t *toolchainLayers) identity() (string, error) {
	dependency, err := t.dependencies.find("nix")
	if err != nil {
		return "", err
	}
	return string(dependency.GetChecksum()), nil
}

// open gives a Nix that is ready to evaluate: the cached one where it is the pinned one and unharmed, else a
// download.
func (t *toolchainLayers) open(ctx context.Context) (nixinstall.Toolchain, error) {
	if t.opened != nil {
		return *t.opened, nil
	}
	set, err := t.openCaches()
	if err != nil {
		return nixinstall.Toolchain{}, err
	}
	usable := set.Usable()
	substituters := slices.DeleteFunc(slices.Clone(t.caches.urls), func(u string) bool { return !slices.Contains(usable, u) })
	nix, err := t.install(ctx)
	if err != nil {
		return nix, err
	}
	settings, err := t.caches.forNix(t.scratch, substituters, os.Getenv)
	if err != nil {
		return nix, err
	}
	state, err := t.openState(ctx)
	if err != nil {
		return nix, err
	}
	settings.State, settings.NixPath, settings.System = state, t.config.NixPath, t.config.System
	settings.Environment, settings.Log = os.Environ(), t.logger.Bodyf
	nix = nix.With(settings)
	t.opened = &nix
	return nix, nil
}

func (t *toolchainLayers) install(ctx context.Context) (nixinstall.Toolchain, error) {
	dependency, err := t.dependencies.find("nix")
	if err != nil {
		return nixinstall.Toolchain{}, err
	}
	want := toolchainMetadata{
		Version: dependency.Version, Checksum: string(dependency.GetChecksum()), Path: t.nix.Path,
	}
	if sameTable(t.nix.Metadata, want.table()) {
		nix, err := nixinstall.Restore(ctx, t.nix.Path)
		if err == nil {
			t.logger.Bodyf("Reusing cached Nix %s", dependency.Version)
			return nix, nil
		}
		var stale *nixinstall.StaleError
		if !errors.As(err, &stale) {
			return nix, err
		}
		t.logger.Bodyf("The cached Nix cannot be used (%s); installing it again", stale.Reason)
	}
	if err := nar.RemoveAll(t.nix.Path); err != nil {
		return nixinstall.Toolchain{}, fmt.Errorf("clearing the toolchain layer: %w", err)
	}
	t.logger.Bodyf("Installing Nix %s, which evaluates the source", dependency.Version)
	tarball, err := t.dependencies.fetch(ctx, dependency)
	if err != nil {
		return nixinstall.Toolchain{}, err
	}
	nix, err := nixinstall.Install(ctx, tarball, t.nix.Path, nixinstall.InstallOptions{
		SHA256: dependency.GetChecksum().Hash(), Log: t.logger.Bodyf,
	})
	if err != nil {
		return nix, err
	}
	t.nix.Metadata = want.table()
	return nix, nil
}

// layers closes the toolchain and gives its two layers back, whether it was opened or not, so that their metadata
// is kept. Where nothing is evaluated any more there are none.
func (t *toolchainLayers) layers(ctx context.Context) ([]libcnb.Layer, error) {
	if t.opened == nil && !t.config.evaluates() {
		return nil, errors.Join(removeLayer(t.nix.Path), t.dropState())
	}
	if t.opened != nil {
		if err := t.keepState(ctx); err != nil {
			return nil, err
		}
		if err := t.opened.Shed(); err != nil {
			return nil, err
		}
	}
	var layers []libcnb.Layer
	for _, layer := range []libcnb.Layer{t.nix, t.state} {
		if len(layer.Metadata) > 0 {
			layers = append(layers, layer)
		}
	}
	return layers, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
