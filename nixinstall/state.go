package nixinstall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// PackState writes the state directory to one compressed file, in one step, and gives the SHA-256 (hex) of what is in it:
// a directory of tens of thousands of files is slow to keep, and nothing of it could be trusted afterwards.
func (t Toolchain) PackState(ctx context.Context, file string) (sum string, err error) {
	sum, err = writePack(ctx, file, t.settings.State, keepsState)
	if err != nil {
		return "", fmt.Errorf("packing what evaluations left in %s: %w", t.settings.State, err)
	}
	return sum, nil
}

// keepsState reports whether a file of the state directory is of use to the next build: what running processes leave there
// for each other is not.
func keepsState(rel string) bool {
	return rel != "root/nix/var/nix/gc-socket" && rel != "root/nix/var/nix/temproots"
}

// UnpackState makes dir the state directory that was packed into file with this hash. What is there already goes. After an
// error nothing is there.
func UnpackState(ctx context.Context, file, dir, sum string) error {
	err := nar.RemoveAll(dir)
	if err == nil {
		err = readPack(ctx, file, nar.NewTree(dir), sum)
	}
	if err == nil {
		err = makeWritable(dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("unpacking what earlier evaluations left: %w", err), nar.RemoveAll(dir))
	}
	return nil
}

// makeWritable gives a state directory's owner the rights back that an archive does not have: all but store paths are
// written to.
func makeWritable(dir string) error {
	store := filepath.Join(dir, "root/nix/store")
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		_, parseErr := storepath.FromBase(entry.Name())
		isStorePath := filepath.Dir(path) == store && parseErr == nil
		switch {
		case err != nil:
			return err
		case isStorePath && entry.IsDir():
			return fs.SkipDir
		case isStorePath || entry.Type() == fs.ModeSymlink:
			return nil
		case entry.IsDir():
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, 0o644)
	})
}
