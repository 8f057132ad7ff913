package nixinstall

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Collect makes the state directory fit to be kept for the next build. From the store goes what keep (Result.Used of this
// build's evaluations) does not need. Where what is left takes more than maxBytes, what Nix's fetchers have cached goes as
// well, then everything. It returns the size that is left, in bytes.
func (t Toolchain) Collect(ctx context.Context, keep []storepath.Path, maxBytes int64) (size int64, err error) {
	steps := []func() error{
		func() error { return t.collectStore(ctx, keep) },
		func() error { return nar.RemoveAll(filepath.Join(t.settings.home(), ".cache")) },
		func() error { return emptyDir(t.settings.State) },
	}
	for _, step := range steps {
		if err = step(); err == nil {
			size, err = treeSize(t.settings.State)
		}
		if err != nil {
			return size, fmt.Errorf("collecting what evaluations left in %s: %w", t.settings.State, err)
		}
		if size <= maxBytes {
			break
		}
	}
	return size, nil
}

// collectStore runs Nix's garbage collector with keep as its roots. What derivations among them have as outputs here was
// fetched to be read, and stays.
func (t Toolchain) collectStore(ctx context.Context, keep []storepath.Path) error {
	roots := filepath.Join(t.settings.root(), "nix/var/nix/gcroots", "kept")
	if err := emptyDir(roots); err != nil {
		return err
	}
	for i, p := range keep {
		if err := os.Symlink(p.String(), filepath.Join(roots, strconv.Itoa(i))); err != nil {
			return err
		}
	}
	_, err := t.run(ctx, command{
		program: "nix-store", args: []string{"--gc", "--option", "keep-outputs", "true", "--log-format", "internal-json"},
		doing: "collecting what the evaluation does not use any more",
	})
	return err
}

// treeSize is what the files below dir take on disk, in bytes.
func treeSize(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		const block = 4096
		size += (info.Size() + block - 1) / block * block
		return nil
	})
	if os.IsNotExist(err) {
		return 0, nil
	}
	return size, err
}
