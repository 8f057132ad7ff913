package closure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Install moves the paths of result's changed groups from staging to <layers>/<layer>/<base name> and writes each
// layer's PathsName beside them. Every other closure-* directory in layers is removed: the previous image has those
// layers' bytes, and a directory that a killed build left would take their place. Staging is removed at the end.
func Install(ctx context.Context, result *Result, stagingDir, layersDir string) error {
	s := staging{dir: stagingDir}
	old, err := filepath.Glob(filepath.Join(layersDir, LayerPrefix+"*"))
	if err != nil {
		return fmt.Errorf("installing closure: %w", err)
	}
	for _, dir := range old {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || dir == filepath.Clean(stagingDir) {
			continue // a layer's .toml belongs to somebody else
		}
		if err := nar.RemoveAll(dir); err != nil {
			return fmt.Errorf("installing closure: %w", err)
		}
	}
	places := NewPlaces(result.View)
	for p, layer := range layersOf(result.Groups) {
		if layer != BuildGroup { // which is moved away
			places.Add(p, result.Graph.Nodes[p].NarSize, result.Graph.Nodes[p].References, layer)
		}
	}
	for _, group := range result.Changed {
		if err := installGroup(ctx, s, group, result.View, places, filepath.Join(layersDir, group.Layer)); err != nil {
			return fmt.Errorf("installing layer %s: %w", group.Layer, err)
		}
	}
	if err := nar.RemoveAll(stagingDir); err != nil {
		return fmt.Errorf("removing staging directory: %w", err)
	}
	return nil
}

func installGroup(ctx context.Context, s staging, group Group, view relocate.View, places *Places, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	infos := PathInfos{Format: Format, Prefix: view.Dir()}
	for _, p := range group.Paths {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		var st staged
		if err := readJSON(s.infoFile(p), &st); err != nil {
			return err
		}
		if st.Info.Path != p || st.Prefix != view.Dir() {
			return fmt.Errorf("%s was staged for %s, not for %s", p, st.Prefix, view.Dir())
		}
		if err := os.Remove(s.infoFile(p)); err != nil {
			return err
		}
		tree := filepath.Join(dir, BaseName(p, view))
		if err := move(ctx, s.tree(p), tree); err != nil {
			return err
		}
		if err := fixWrappers(ctx, tree, &st, view, places); err != nil {
			return err
		}
		infos.Paths = append(infos.Paths, st.Info)
	}
	return writeJSON(filepath.Join(dir, PathsName), infos)
}

// fixWrappers has the wrappers of a path name programs by where they lie in the image.
func fixWrappers(ctx context.Context, tree string, st *staged, view relocate.View, places *Places) error {
	if len(st.Report.Wrappers) == 0 {
		return nil
	}
	original, err := st.Info.Original()
	if err != nil {
		return err
	}
	st.Report.Fixups = original.Fixups
	report, err := view.FixWrappers(ctx, tree, original, st.Report, places.OfPrograms(st.Info.Path, st.Info.References))
	st.Info.Fixups = newFixups(report.Fixups)
	return err
}

// move renames a tree, and copies it where the two places are on different file systems.
func move(ctx context.Context, from, to string) error {
	err := nar.Move(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	tree := nar.NewTree(to)
	tree.LeaveTimes()
	if err := nar.DumpTo(ctx, tree, from); err != nil {
		return errors.Join(err, tree.Discard())
	}
	return nar.RemoveAll(from)
}

// WriteView makes dir, which is in layersDir, the directory that the app sees as its store: a symlink for each path of
// groups, and nothing else, to <layers>/<layer>/<base name>. A relocated path has its view's short name there, any
// other its own.
func WriteView(ctx context.Context, dir string, groups []Group, layersDir string, view relocate.View) error {
	want := map[string]string{}
	for _, group := range groups {
		for _, p := range group.Paths {
			name, target := BaseName(p, view), LinkTarget(layersDir, group.Layer, p, view)
			if other, ok := want[name]; ok {
				return fmt.Errorf("making store view: %s and %s are both named %s", other, target, name)
			}
			want[name] = target
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making store view: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("making store view: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if target, err := os.Readlink(path); err == nil && target == want[e.Name()] {
			delete(want, e.Name())
			continue
		}
		if err := nar.RemoveAll(path); err != nil {
			return fmt.Errorf("making store view: %w", err)
		}
	}
	for name, target := range want {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("making store view: %w", err)
		}
	}
	return nil
}

// LinkTarget is where a path's link leads: up and down again, which is faster to follow and shorter than the whole way from
// the root. What is shorter than 60 bytes ext4 keeps with the link itself, which halves what following it costs: hence the
// short names of layers. A view that an engine shows at /nix/store is not where that leads from.
func LinkTarget(layersDir, layer string, p storepath.Path, view relocate.View) string {
	if view.IsZero() {
		return filepath.Join(layersDir, layer, p.Base())
	}
	return filepath.Join("..", layer, BaseName(p, view))
}

// BaseName is what a path is called in its layer and in the view.
func BaseName(p storepath.Path, view relocate.View) string {
	if view.IsZero() {
		return p.Base()
	}
	return view.Base(p)
}
