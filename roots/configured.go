package roots

import (
	"context"
	"os"
	"path/filepath"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// configured looks for caches and keys that the source's flake.nix lists for Nix. They are not obeyed: whoever can write
// to a source could say with them whom to trust.
func (e evaluation) configured(ctx context.Context) []Finding {
	if e.Flake == "" && !exists(filepath.Join(e.Source, "flake.nix")) {
		return nil
	}
	listed, err := e.flakeConfig(ctx)
	if err != nil || len(listed.Substituters)+len(listed.TrustedPublicKeys) == 0 {
		return nil
	}
	return []Finding{ConfiguredCaches(listed)}
}

// flakeConfig reads flake.nix where its source is in the store already.
func (e evaluation) flakeConfig(ctx context.Context) (nixinstall.FlakeConfig, error) {
	first := e.sourceNames()[0][0]
	source, err := nixinstall.SourcePath(ctx, e.Source, nixinstall.SourceOptions{Name: first.name, Rule: first.rule,
		Exclude: e.Exclude})
	if err != nil {
		return nixinstall.FlakeConfig{}, err
	}
	return e.nix.FlakeConfig(ctx, source)
}

func exists(file string) bool {
	info, err := os.Lstat(file)
	return err == nil && info.Mode().IsRegular()
}
