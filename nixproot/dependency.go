package nixproot

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/buildpacks/libcnb/v2"
	"github.com/paketo-buildpacks/libpak/v2"
	"github.com/paketo-buildpacks/libpak/v2/log"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
)

// downloadAttempts is how often a dependency's download is tried before the build fails.
const downloadAttempts = 3

// pinnedDependencies finds and downloads what buildpack.toml pins, through libpak's cache, so that offline packages,
// mirrors and dependency-mapping bindings work as everywhere.
type pinnedDependencies struct {
	pinned       []libpak.BuildModuleDependency
	cache        libpak.DependencyCache
	architecture string
	logger       log.Logger
}

// newDependencies reads the pins of a buildpack. scratch is where downloads go.
func newDependencies(context libcnb.BuildContext, architecture, scratch string, logger log.Logger) (pinnedDependencies, error) {
	metadata, err := libpak.NewBuildModuleMetadata(context.Buildpack.Metadata)
	if err != nil {
		return pinnedDependencies{}, fmt.Errorf("reading buildpack.toml: %w", err)
	}
	info := context.Buildpack.Info
	cache, err := libpak.NewDependencyCache(info.ID, info.Version, context.Buildpack.Path, context.Platform.Bindings, logger)
	if err != nil {
		return pinnedDependencies{}, fmt.Errorf("opening dependency cache: %w", err)
	}
	cache.DownloadPath = scratch
	return pinnedDependencies{pinned: metadata.Dependencies, cache: cache, architecture: architecture, logger: logger}, nil
}

// find gives the dependency of that name for this architecture.
func (d pinnedDependencies) find(id string) (libpak.BuildModuleDependency, error) {
	for _, dependency := range d.pinned {
		arch, err := dependency.GetArch()
		if err != nil {
			return dependency, fmt.Errorf("reading buildpack.toml: dependency %s: %w", id, err)
		}
		if dependency.ID == id && arch == d.architecture {
			return dependency, nil
		}
	}
	return libpak.BuildModuleDependency{}, fmt.Errorf("buildpack.toml has no dependency %q for %s", id, d.architecture)
}

// fetch gives the path of a dependency's verified file. A failed download is tried again; a wrong hash is not.
func (d pinnedDependencies) fetch(ctx context.Context, dependency libpak.BuildModuleDependency) (string, error) {
	for attempt := 1; ; attempt++ {
		file, err := d.cache.Artifact(dependency)
		if err == nil {
			defer file.Close()
			return file.Name(), nil
		}
		cause := oneLine(err)
		mismatch := strings.Contains(cause, "does not match expected")
		if attempt == downloadAttempts || mismatch || ctx.Err() != nil {
			return "", dependencyError(dependency, cause, mismatch)
		}
		d.logger.Bodyf("Download failed (%s); trying again", cause)
		_ = retry.Sleep(ctx, time.Duration(attempt)*time.Second) // where ctx ends, the next attempt is the last
	}
}

// dependencyError says what could not be had, why, and the two ways round it.
func dependencyError(dependency libpak.BuildModuleDependency, cause string, mismatch bool) error {
	if mismatch {
		return fmt.Errorf("downloading %s %s: the file is not the one that this buildpack pins: %s; a mirror or proxy has "+
			"changed it, or serves another version", dependency.Name, dependency.Version, cause)
	}
	return fmt.Errorf("downloading %s %s: %s; without a way to %s give a service binding of type dependency-mapping "+
		"that maps %s to a URL that can be reached, or use an offline package of this buildpack",
		dependency.Name, dependency.Version, cause, dependency.URI, dependency.GetChecksum().Hash())
}

// oneLine folds libpak's several-line errors.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(c rune) bool { return c == '\n' }), ": ")
}

// scratchDir makes a private directory for a build's temporary files.
func scratchDir() (string, func(), error) {
	dir, err := os.MkdirTemp("", "nix-hydra-")
	if err != nil {
		return "", nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	return dir, func() { _ = nar.RemoveAll(dir) }, nil
}
