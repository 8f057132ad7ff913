package nixinstall

import (
	"context"
	"errors"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// GitRule says which version-control files stay out of the source, by the rule of the Hydra that built it.
type GitRule uint8

const (
	// GitEntries leaves out every entry named exactly ".git": Hydra today.
	GitEntries GitRule = iota
	// GitPrefixed leaves out every entry whose name begins with ".git": Hydra in 2016.
	GitPrefixed
	// GitKept leaves nothing out.
	GitKept
)

// SourceOptions say how a source enters the store.
type SourceOptions struct {
	// Name is the store path's name; "" is "git-export".
	Name string
	// Rule says which version-control files stay out.
	Rule GitRule
	// Exclude are further entries to leave out, as slash-separated paths relative to the source.
	Exclude []string
}

// SourcePath is the store path that AddSource gives to dir under the same options, computed without Nix.
func SourcePath(ctx context.Context, dir string, o SourceOptions) (storepath.Path, error) {
	return "", errors.New("computing the source's store path: not wired up yet")
}

// AddSource copies dir into the store as Hydra does with a checkout (see SourceOptions), and returns its path: the
// one that `nix-store --add-fixed --recursive sha256` gives to a folder of that name and content.
func (t Toolchain) AddSource(ctx context.Context, dir string, o SourceOptions) (storepath.Path, error) {
	return "", errors.New("adding the source to the store: not wired up yet")
}
