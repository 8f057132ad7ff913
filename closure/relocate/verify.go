package relocate

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Original says what a tree was before it was relocated.
type Original struct {
	Path       storepath.Path
	References []storepath.Path
	NarHash    storepath.Hash
	Fixups     []Fixup // as Rewrite, FixOnly and FixTree reported them
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

// VerifyTree computes the NAR hash that the tree at dir had before it was relocated by l (the zero Layout if it was
// not) and fixed, and compares it with the signed one: *ChangedError if they differ. What was fixed has to be as
// fixing makes it. Modes and times do not matter, save that a file is executable if its owner may execute it.
func (l Layout) VerifyTree(ctx context.Context, dir string, o Original) error {
	hash := sha256.New()
	undo := l.undo(o.paths(), o.Fixups, nar.NewWriter(hash))
	undo.link = l.fixedLinks(o)
	if err := nar.DumpTo(ctx, undo, dir); err != nil {
		return fmt.Errorf("verifying %s: %w", o.Path, err)
	}
	if undo.altered != "" {
		return fmt.Errorf("verifying %s: %s is not as it was fixed", o.Path, undo.altered)
	}
	if got := storepath.Hash(hash.Sum(nil)); got != o.NarHash {
		return &ChangedError{Path: o.Path, Dir: dir, Want: o.NarHash, Got: got}
	}
	return nil
}

// UndoTree writes the tree at dir, relocated by l and fixed, to dest as it was before. dest must not exist; nothing
// is left of it after an error.
func (l Layout) UndoTree(ctx context.Context, dir, dest string, o Original) error {
	tree := nar.NewTree(dest)
	if err := nar.DumpTo(ctx, l.Undo(o.paths(), o.Fixups, tree), dir); err != nil {
		_ = tree.Discard()
		return fmt.Errorf("undoing the relocation of %s: %w", o.Path, err)
	}
	return nil
}
