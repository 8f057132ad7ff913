package relocate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Original says what a tree was before it was relocated.
type Original struct {
	Path       storepath.Path
	References []storepath.Path
	NarHash    storepath.Hash
	Fixups     []Fixup // as Rewrite and FixTree reported them
}

// paths are those that the tree's files may name.
func (o Original) paths() []storepath.Path {
	return append([]storepath.Path{o.Path}, o.References...)
}

// ChangedError says that a tree is not what was signed.
type ChangedError struct {
	Path      storepath.Path
	Dir       string
	Want, Got storepath.Hash
}

// Error names the path and both hashes.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("verifying %s: %s has changed: its NAR hash is %s, want %s", e.Path, e.Dir, e.Got, e.Want)
}

// VerifyTree computes the NAR hash that the tree at dir had before it was relocated by v (the zero View if it was
// not) and fixed up, and compares it with the signed one: *ChangedError if they differ. What fixups say stood there
// proves nothing about what stands there now, so where there are any, the tree is relocated again, in a directory below
// temp, and has to come out the same. Modes and times do not matter, save that a file is executable if its owner may
// execute it.
func (v View) VerifyTree(ctx context.Context, dir, temp string, o Original) (failed error) {
	there, was, again := sha256.New(), sha256.New(), sha256.New()
	back := nar.NewWriter(was)
	var sink nar.Sink = back
	var rewriter *Rewriter
	made := ""
	if len(o.Fixups) > 0 {
		around, err := os.MkdirTemp(temp, "verify-")
		if err != nil {
			return fmt.Errorf("verifying %s: %w", o.Path, err)
		}
		defer func() { failed = cmp.Or(failed, nar.RemoveAll(around)) }()
		made = filepath.Join(around, o.Path.Base())
		rewriter = v.Rewrite(o.Path, o.References, nar.NewTree(made))
		defer rewriter.Discard()
		sink = nar.Tee(back, rewriter)
	}
	if err := nar.DumpTo(ctx, nar.Tee(nar.NewWriter(there), v.Undo(o.paths(), o.Fixups, sink)), dir); err != nil {
		return fmt.Errorf("verifying %s: %w", o.Path, err)
	}
	if got := storepath.Hash(was.Sum(nil)); got != o.NarHash {
		return &ChangedError{Path: o.Path, Dir: dir, Want: o.NarHash, Got: got}
	}
	if rewriter == nil {
		return nil
	}
	if _, err := v.FixTree(ctx, made, o, rewriter.Report()); err != nil {
		return err
	}
	if err := nar.Dump(ctx, again, made); err != nil {
		return fmt.Errorf("verifying %s: %w", o.Path, err)
	}
	if want, got := storepath.Hash(again.Sum(nil)), storepath.Hash(there.Sum(nil)); want != got {
		return fmt.Errorf("verifying %s: %s is not as it was fixed up", o.Path, dir)
	}
	return nil
}
