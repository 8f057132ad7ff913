package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/closure/survey"
)

// survey surveys the closures of a cache by the buildpack's own command, and takes the relocation of each path back.
func (b *Bench) survey(ctx context.Context) error {
	dir, public, roots, err := b.surveyed(ctx)
	if err != nil {
		return err
	}
	if err := b.surveyClosures(ctx, dir, public, roots); err != nil {
		return err
	}
	infos, err := readInfos(dir)
	if err != nil {
		return err
	}
	return b.undoAll(ctx, dir, public, infos)
}

// surveyed gives a cache, the key that signed it ("" where that is not known), and the paths to survey.
func (b *Bench) surveyed(ctx context.Context) (dir, public string, roots []string, err error) {
	if b.Closure != "" {
		infos, err := readInfos(b.Closure)
		for p := range infos {
			roots = append(roots, p.String())
		}
		slices.Sort(roots)
		return b.Closure, "", roots, err
	}
	key, err := b.Rig.Key(ctx, "hydra.example.org-1")
	if err != nil {
		return "", "", nil, err
	}
	dir, roots, err = b.Rig.Survey(ctx, key, func(made, all int) error {
		b.Log("%d of at most %d packages of Debian are store paths", made, all)
		return nil
	})
	return dir, key.Public, roots, err
}

// surveyClosures measures the command, with each path as a root.
func (b *Bench) surveyClosures(ctx context.Context, dir, public string, roots []string) error {
	buildpack, err := b.buildpack(ctx)
	if err != nil {
		return err
	}
	list := filepath.Join(b.Dir, "survey.txt")
	if err := os.WriteFile(list, []byte(strings.Join(roots, "\n")), 0o644); err != nil {
		return err
	}
	command := []string{"sh", "-c", `"$@"; test $? -lt 2`, "survey", filepath.Join(buildpack.Dir, "bin/survey"), "--json"}
	if public == "" {
		command = append(command, "--unsigned")
	} else {
		command = append(command, "--key", public)
	}
	usage, out, err := process(ctx, os.Environ(), append(command, "file://"+dir, list)...)
	if err != nil {
		return err
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var total survey.Total
	if err := json.Unmarshal(lines[len(lines)-1], &total); err != nil {
		return fmt.Errorf("reading the survey: %w", err)
	}
	kinds, largest := map[relocate.Kind]map[string]bool{}, survey.Closure{}
	for _, line := range lines[:len(lines)-1] {
		var c survey.Closure
		if err := json.Unmarshal(line, &c); err != nil {
			return fmt.Errorf("reading the survey: %w", err)
		}
		if c.NarBytes > largest.NarBytes {
			largest = c
		}
		for _, blocker := range c.Blockers {
			place := blocker.Path.Name() + "/" + blocker.File + ": " + blocker.Detail
			if kinds[blocker.Kind] == nil {
				kinds[blocker.Kind] = map[string]bool{}
			}
			kinds[blocker.Kind][place] = true
		}
	}
	for kind, places := range kinds {
		for place := range places {
			b.Log("blocked by %s: %s", kind, place)
		}
	}
	b.Log("the largest closure: %s, %d paths, %.1f MB, %d references", largest.Root, largest.Paths,
		float64(largest.NarBytes)/1e6, largest.References)
	b.Log("%d paths, %.1f MB, read in %.0f s", total.Paths, float64(total.NarBytes)/1e6, seconds(usage.Wall))
	b.row("survey.closures", float64(total.Closures), "closures", ">=2000")
	b.row("survey.relocate", float64(total.Relocate)/float64(max(total.Closures, 1)), "share", "")
	b.row("survey.with_fixups", float64(total.WithFixup), "closures", "")
	b.row("survey.unknown", float64(total.Failed), "closures", "<=0")
	b.row("survey.memory", float64(usage.RSS)/(1<<20), "MiB", "<512")
	return nil
}

// undoAll relocates each path of a cache on disk and takes that back. Paths that cannot be relocated as a whole are
// taken back too: what is in the way stays as it is.
func (b *Bench) undoAll(ctx context.Context, dir, public string, infos map[storepath.Path]*narinfo.NarInfo) error {
	options := cache.Options{URLs: []string{"file://" + dir}}
	if public != "" {
		keys, err := narinfo.ParseKeys(public)
		if err != nil {
			return err
		}
		options.Keys, options.RequireSigs = keys, true
	}
	caches, err := cache.Open(ctx, options)
	if err != nil {
		return err
	}
	defer caches.Close()
	view, err := relocate.NewView("/layers/nixproot_nix-hydra/view")
	if err != nil {
		return err
	}
	paths := make(chan storepath.Path)
	var workers sync.WaitGroup
	var lock sync.Mutex
	var failed error
	identical, spoilt := 0, 0
	for range runtime.NumCPU() {
		workers.Go(func() {
			for p := range paths {
				err := undo(ctx, caches, view.Beside(), p, b.Dir)
				lock.Lock()
				switch {
				case err == nil:
					identical++
				case errors.Is(err, errSpoilt):
					spoilt++
					b.Log("%s: %s", p, err)
				default:
					failed = cmp.Or(failed, err)
				}
				lock.Unlock()
			}
		})
	}
	for p := range infos {
		paths <- p
	}
	close(paths)
	workers.Wait()
	if failed != nil {
		return failed
	}
	b.row("survey.undo_identical", float64(identical)/float64(max(identical+spoilt, 1)), "share", ">=1")
	return nil
}

// errSpoilt says that a path is not what it was after relocation was taken back.
var errSpoilt = errors.New("it does not come back as it was")

// undo relocates a path below temp and verifies it.
func undo(ctx context.Context, caches *cache.Set, view relocate.View, p storepath.Path, temp string) error {
	found, err := caches.Lookup(ctx, p)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(temp, "undo-")
	if err != nil {
		return err
	}
	defer func() { _ = nar.RemoveAll(dir) }()
	tree := filepath.Join(dir, "tree")
	original := relocate.Original{Path: p, References: slices.DeleteFunc(slices.Clone(found.References),
		func(ref storepath.Path) bool { return ref == p }), NarHash: found.NarHash}
	var rewriter *relocate.Rewriter
	err = caches.Fetch(ctx, found, func(r io.Reader) error {
		rewriter = view.Rewrite(p, original.References, nar.NewTree(tree))
		return nar.Copy(rewriter, nar.NewReader(r), nil)
	})
	if err != nil {
		return err
	}
	report, err := view.FixTree(ctx, tree, original, rewriter.Report())
	if err != nil {
		return err
	}
	original.Fixups = report.Fixups
	if err := view.VerifyTree(ctx, tree, dir, original); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", errSpoilt, err)
	}
	return ctx.Err()
}
