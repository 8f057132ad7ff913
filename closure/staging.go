package closure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

const (
	partialPrefix = ".partial-"
	stagedSuffix  = ".json"
)

// staging is a directory of unpacked store paths that are complete and verified: <base>, and <base>.json renamed
// into place after it. Whatever else is found there is half-done and is removed.
type staging struct{ dir string }

// staged is what stands beside an unpacked path in the staging directory.
type staged struct {
	Format int
	Prefix string
	Info   PathInfo
	Report relocate.Report // its fixups are Info's
	// Overrules are those that the report was made with.
	Overrules relocate.Overrules
}

// openStaging makes the directory and removes what a run that was killed has left half-done.
func openStaging(dir string) (staging, error) {
	s := staging{dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return s, fmt.Errorf("making staging directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return s, fmt.Errorf("reading staging directory: %w", err)
	}
	for _, e := range entries {
		if s.has(e.Name()) || s.has(strings.TrimSuffix(e.Name(), stagedSuffix)) {
			continue // a tree, whatever its name ends in, or the JSON of one
		}
		if err := nar.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return s, fmt.Errorf("cleaning staging directory: %w", err)
		}
	}
	return s, nil
}

// has reports whether there are a tree of that name and its JSON.
func (s staging) has(base string) bool {
	p, err := storepath.FromBase(base)
	return err == nil && exists(s.tree(p)) && exists(s.infoFile(p))
}

func (s staging) tree(p storepath.Path) string     { return filepath.Join(s.dir, p.Base()) }
func (s staging) infoFile(p storepath.Path) string { return s.tree(p) + stagedSuffix }
func (s staging) partial(p storepath.Path) string {
	return filepath.Join(s.dir, partialPrefix+p.Base())
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// discard removes a path, its JSON first, so that the path never seems complete.
func (s staging) discard(p storepath.Path) error {
	if err := os.Remove(s.infoFile(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(nar.RemoveAll(s.tree(p)), nar.RemoveAll(s.partial(p)))
}

// commit makes the tree at partial(p) the staged one.
func (s staging) commit(p storepath.Path, st staged) error {
	if err := os.Rename(s.partial(p), s.tree(p)); err != nil {
		return err
	}
	return writeJSON(s.infoFile(p), st)
}

// reuse gives what an earlier run has staged for a path, provided that its tree, taken back to the NAR that it was, still
// has the NAR hash of info.
func (s staging) reuse(ctx context.Context, info PathInfo, view relocate.View) (staged, bool) {
	var st staged
	err := readJSON(s.infoFile(info.Path), &st)
	if err != nil || st.Format != Format || st.Prefix != view.Dir() || st.Info.Path != info.Path ||
		st.Info.NarHash != info.NarHash || !slices.Equal(st.Overrules, view.Overrules()) {
		return staged{}, false
	}
	info.Fixups, info.Overruled = st.Info.Fixups, st.Info.Overruled
	st.Info = info
	original, err := info.Original()
	if err != nil || view.VerifyTree(ctx, s.tree(info.Path), s.dir, original) != nil {
		return staged{}, false
	}
	return st, true
}

// writeJSON writes v beside its place and renames it.
func writeJSON(path string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	partial := filepath.Join(filepath.Dir(path), partialPrefix+filepath.Base(path))
	if err := os.WriteFile(partial, append(raw, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(partial, path)
}

func readJSON(path string, v any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}
