package nixinstall

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

const (
	packBuffer = 1 << 20
	packWindow = 8 << 20
)

// pack writes the toolchain's paths to one compressed NAR: the directory that holds them all.
func (t *Toolchain) pack(ctx context.Context) (err error) {
	t.Metadata.PackHash, err = writePack(ctx, filepath.Join(t.Dir, packName), t.Dir, t.isProgram)
	return err
}

// writePack writes what keep accepts below dir to one compressed NAR, in one step, and gives the hash of what is in it.
func writePack(ctx context.Context, name, dir string, keep func(rel string) bool) (sum string, err error) {
	f, err := os.Create(name + ".new")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(name+".new"))
		}
	}()
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(packWindow))
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(z, hash), packBuffer)
	if err := errors.Join(nar.DumpFiltered(ctx, nar.NewWriter(out), dir, keep), out.Flush(), z.Close()); err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), os.Rename(name+".new", name)
}

// readPack sends what is in a pack to dst, and closes dst. What was sent is as it was packed only if there is no error.
func readPack(ctx context.Context, name string, dst nar.Sink, sum string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(packWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	hash := sha256.New()
	stream := io.TeeReader(regularfile.NewReader(ctx, z), hash)
	if err := nar.Copy(dst, nar.NewReader(stream), make([]byte, packBuffer)); err != nil {
		return fmt.Errorf("unpacking %s: %w", filepath.Base(name), err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return fmt.Errorf("the contents of %s have the sha256 %s, want %s", filepath.Base(name), got, sum)
	}
	return nil
}

// isProgram reports whether a file in Dir belongs to the toolchain's paths.
func (t *Toolchain) isProgram(rel string) bool {
	base, _, _ := strings.Cut(rel, "/")
	_, found := slices.BinarySearch(t.Metadata.Paths, base)
	return found
}

// unpack writes the toolchain's paths from the pack. They count as there only when the pack's hash was right.
func (t Toolchain) unpack(ctx context.Context) error {
	if err := t.removePrograms(); err != nil {
		return err
	}
	trees := &spread{dir: t.Dir, wanted: t.isProgram}
	if err := readPack(ctx, filepath.Join(t.Dir, packName), trees, t.Metadata.PackHash); err != nil {
		return errors.Join(err, trees.discard())
	}
	return os.WriteFile(filepath.Join(t.Dir, unpackedName), nil, 0o644)
}

// spread is a sink that writes what is in the archive's root directory each to a tree of its own, in a directory that
// exists.
type spread struct {
	dir    string
	wanted func(base string) bool
	tree   *nar.Tree // of the entry being written
	base   string
	trees  []*nar.Tree
}

func (s *spread) Entry(e *nar.Entry) error {
	if e.Path == "" {
		if e.Kind != nar.Directory {
			return errors.New("the pack is no directory")
		}
		return nil
	}
	base, rest, _ := strings.Cut(e.Path, "/")
	if s.tree == nil || base != s.base {
		if !s.wanted(base) {
			return fmt.Errorf("the pack has %.80q, which its description does not name", base)
		}
		if err := s.end(); err != nil {
			return err
		}
		s.tree, s.base = nar.NewTree(filepath.Join(s.dir, base)), base
		s.trees = append(s.trees, s.tree)
	}
	inside := *e
	inside.Path = rest
	return s.tree.Entry(&inside)
}

func (s *spread) Write(p []byte) (int, error) {
	if s.tree == nil {
		return 0, errors.New("contents without a file")
	}
	return s.tree.Write(p)
}

func (s *spread) end() error {
	if s.tree == nil {
		return nil
	}
	tree := s.tree
	s.tree = nil
	return tree.Close()
}

func (s *spread) Close() error { return s.end() }

func (s *spread) discard() error {
	var failed []error
	for _, tree := range s.trees {
		failed = append(failed, tree.Discard())
	}
	return errors.Join(failed...)
}
