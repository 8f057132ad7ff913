package nixproot

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// stagingDir is where paths are unpacked before their layers are known: beside the layers, to be moved by rename,
// and no layer itself.
const stagingDir = ".staging"

// contents is the closure in its layers.
type contents struct {
	*closure.Result
	imageMetadata
	// Layers are the closure's and the view's.
	Layers []libcnb.Layer
	// Engine is what the files are made for, launch.EngineRelocate or launch.Unrelocated; Reason says why not the first.
	Engine string
	Reason string

	layersDir string
}

// contents substitutes the roots' closure into layers.
func (b Build) contents(ctx context.Context, s *site, roots Roots, key string, r recalled) (*contents, error) {
	if r.tooLong != nil {
		if s.config.Engine == launch.EngineRelocate {
			return nil, r.tooLong
		}
		b.Logger.Bodyf("The closure is not relocated: %s", r.tooLong)
	}
	previous := r.closure
	if r.Hook {
		// The hook runs programs of the closure, so that its files have to be here.
		b.Logger.Bodyf("%s is in the closure: all of its layers are fetched, as it runs at build time", hookName)
		previous = nil
	}
	result, err := b.substitute(ctx, s, roots, previous, r.layout)
	if err != nil {
		return nil, err
	}
	c := &contents{Result: result, layersDir: s.layers.Path}
	if err := closure.Place(ctx, result, s.staging(), s.layers.Path); err != nil {
		return nil, err
	}
	c.imageMetadata = imageMetadata{Format: imageFormat, System: s.config.System, Key: key, Roots: roots}
	c.readBins(r.imageMetadata)
	if roots.Hook != "" || c.Hook {
		c.Hook = true
		if previous != nil && len(result.Changed) < len(result.Groups) {
			r.Hook = true
			return b.contents(ctx, s, roots, key, r)
		}
	}
	c.Engine, c.Reason = b.describeRelocation(s, r, result)
	return c, c.makeLayers(ctx, s)
}

func (s *site) staging() string { return filepath.Join(s.layers.Path, stagingDir) }

// substitute opens the caches only when something has to come from them.
func (b Build) substitute(ctx context.Context, s *site, roots Roots, previous *closure.Previous, layout relocate.Layout) (*closure.Result, error) {
	return closure.Substitute(ctx, closure.Options{
		Caches:    lazyCaches(s.caches),
		Roots:     roots.All(),
		Staging:   s.staging(),
		Layout:    layout,
		Strict:    s.config.Engine == launch.EngineRelocate,
		Previous:  previous,
		Limits:    closure.Limits{Layers: s.config.MaxLayers},
		Downloads: s.config.Concurrency,
		Log:       b.Logger.Bodyf,
	})
}

// describeRelocation says what the files are made for, and logs it. The reason is what stands in the way of relocating
// them, and empty where nobody wanted that.
func (b Build) describeRelocation(s *site, r recalled, result *closure.Result) (engine, reason string) {
	if !result.Layout.IsZero() {
		b.Logger.Bodyf("Engine: relocate; %d references rewritten to %s, %d harmless ones left", result.References,
			result.Layout.Dir(), result.Harmless)
		return launch.EngineRelocate, ""
	}
	switch {
	case len(result.Blocked) > 0:
		reason = result.Blocked[0].String()
		b.Logger.Bodyf("Engine: userns or proot, whichever the platform allows, as the closure cannot be relocated safely:")
		for i, blocked := range result.Blocked {
			if i == 10 {
				b.Logger.Bodyf("  … and %d more", len(result.Blocked)-i)
				break
			}
			b.Logger.Bodyf("  %s", blocked)
		}
	case r.tooLong != nil:
		reason = r.tooLong.Error()
		b.Logger.Bodyf("Engine: userns or proot, whichever the platform allows")
	default:
		b.Logger.Bodyf("Engine: %s, as BP_NIX_ENGINE says", s.config.Engine)
	}
	return launch.Unrelocated, reason
}

// makeLayers declares the closure's layers and writes the view. A layer that did not change has metadata and no
// folder: the exporter keeps the previous image's.
func (c *contents) makeLayers(ctx context.Context, s *site) error {
	for name, manifest := range c.Manifests() {
		layer, err := s.layers.Layer(name)
		if err != nil {
			return err
		}
		layer.LayerTypes = libcnb.LayerTypes{Launch: true}
		layer.Metadata = manifest.Metadata()
		c.Layers = append(c.Layers, layer)
	}
	view, err := s.layers.Layer(viewLayer)
	if err != nil {
		return err
	}
	if view, err = view.Reset(); err != nil {
		return err
	}
	if err := closure.View(ctx, view.Path, c.Groups, s.layers.Path, c.Layout); err != nil {
		return err
	}
	view.LayerTypes = libcnb.LayerTypes{Launch: true}
	c.Layers = append(c.Layers, view)
	return nil
}

// readBins looks which outputs have programs, and remembers what it saw of those whose layers are not here.
func (c *contents) readBins(before imageMetadata) {
	for i, root := range c.Roots.Paths {
		entries, err := os.ReadDir(filepath.Join(c.folder(root), "bin"))
		if err == nil {
			c.Bins = append(c.Bins, i)
		} else if !exists(c.folder(root)) && before.hasBin(root) {
			c.Bins = append(c.Bins, i)
		}
		if len(c.Roots.Paths) == 1 {
			c.MainProgram = programOf(entries)
			if !exists(c.folder(root)) && len(before.Roots.Paths) == 1 && before.Roots.Paths[0] == root {
				c.MainProgram = before.MainProgram
			}
		}
		c.Hook = c.Hook || exists(filepath.Join(c.folder(root), "bin", hookName))
	}
	c.Hook = c.Hook || before.Hook && before.Key == c.Key && c.Key != ""
}

// hasBin reports whether an output of the previous image had a bin folder.
func (m imageMetadata) hasBin(root storepath.Path) bool {
	for _, i := range m.Bins {
		if i < len(m.Roots.Paths) && m.Roots.Paths[i] == root {
			return true
		}
	}
	return false
}

// folder is where a path's files are, whether or not its layer's bytes are here.
func (c *contents) folder(p storepath.Path) string {
	for _, group := range c.Groups {
		for _, member := range group.Paths {
			if member == p {
				return filepath.Join(c.layersDir, group.Layer, p.Base())
			}
		}
	}
	return ""
}

// bins are the folders put first on PATH, in the form the engine needs: where files are relocated, the real folders,
// so that a program which looks for its files beside itself does not go through the view.
func (c *contents) bins() []string {
	var bins []string
	for _, i := range c.Bins {
		root := c.Roots.Paths[i]
		if c.Engine == launch.EngineRelocate {
			bins = append(bins, filepath.Join(c.folder(root), "bin"))
		} else {
			bins = append(bins, root.String()+"/bin")
		}
	}
	return bins
}

// mainProgram is the program that becomes web without a Procfile, "" where there is no telling.
func (c *contents) mainProgram() (string, error) {
	if c.Roots.MainProgram != "" {
		if strings.ContainsAny(c.Roots.MainProgram, "/ \t\n'\"\\$`") {
			return "", fmt.Errorf("meta.mainProgram is %q, which is not the name of a program", c.Roots.MainProgram)
		}
		return c.Roots.MainProgram, nil
	}
	return c.imageMetadata.MainProgram, nil
}

// hookProgram is what runs at build time, in the form that the launcher takes; "" where there is no hook.
func (c *contents) hookProgram() string {
	if hook := c.Roots.Hook; hook != "" {
		folder := c.folder(hook)
		if program := filepath.Join(folder, "bin", hookName); exists(program) {
			return c.programPath(hook, filepath.Join("bin", hookName))
		}
		if info, err := os.Stat(folder); err == nil && info.Mode().IsRegular() {
			return c.programPath(hook, "")
		}
		if entries, err := os.ReadDir(filepath.Join(folder, "bin")); err == nil && programOf(entries) != "" {
			return c.programPath(hook, filepath.Join("bin", programOf(entries)))
		}
	}
	if c.Hook {
		return hookName
	}
	return ""
}

// programPath is a program's place as the engine shows it.
func (c *contents) programPath(p storepath.Path, file string) string {
	if c.Engine == launch.EngineRelocate {
		return filepath.Join(c.folder(p), file)
	}
	return filepath.Join(p.String(), file)
}

// Summary says in two lines what moved.
func (c *contents) Summary() []string {
	count := func(t closure.Tally) string {
		return fmt.Sprintf("%s (%s)", plural(t.Paths, "path"), closure.Bytes(t.Bytes))
	}
	fetched := c.Fetched
	fetched.Paths += c.Staged.Paths
	fetched.Bytes += c.Staged.Bytes
	return []string{
		fmt.Sprintf("Store paths: %s reused, %s fetched, %s removed", count(c.Reused), count(fetched), count(c.Removed)),
		fmt.Sprintf("Closure layers: %d of %d changed", len(c.Changed), len(c.Groups)),
	}
}

// launchLayers are PRoot's, where its engine may be used, what the launcher is told, and the launcher, which is also
// returned by itself.
func (b Build) launchLayers(ctx context.Context, s *site, c *contents) ([]libcnb.Layer, libcnb.Layer, error) {
	config := launch.Config{
		Engine: c.Engine, Requested: s.config.Engine, Reason: c.Reason,
		View: filepath.Join(s.layers.Path, viewLayer), Bin: c.bins(),
	}
	for _, root := range c.Roots.Paths {
		config.StorePaths = append(config.StorePaths, root.String())
	}
	var layers []libcnb.Layer
	if c.Engine == launch.Unrelocated && (s.config.Engine == launch.EngineAuto || s.config.Engine == launch.EngineProot) {
		layer, program, err := PRootLayer(ctx, s.layers, s.dependencies)
		if err != nil {
			return nil, libcnb.Layer{}, err
		}
		config.PRoot = program
		layers = append(layers, layer)
	}
	run, err := RunLayer(s.layers, config)
	if err != nil {
		return nil, run, err
	}
	text, err := c.imageMetadata.encode()
	if err != nil {
		return nil, run, err
	}
	run.Metadata = map[string]any{"image": text}
	launcher, err := LauncherLayer(s.layers, s.launcher)
	if err != nil {
		return nil, launcher, err
	}
	return append(layers, run, launcher), launcher, nil
}

// lazyCaches opens the caches at the first question, so that a build which asks nothing connects to none.
type lazyCaches func() (*cache.Set, error)

// Lookup asks the caches for a narinfo.
func (open lazyCaches) Lookup(ctx context.Context, p storepath.Path) (*cache.Found, error) {
	set, err := open()
	if err != nil {
		return nil, err
	}
	return set.Lookup(ctx, p)
}

// Fetch asks the caches for a NAR.
func (open lazyCaches) Fetch(ctx context.Context, f *cache.Found, unpack func(io.Reader) error) error {
	set, err := open()
	if err != nil {
		return err
	}
	return set.Fetch(ctx, f, unpack)
}

// Report says what came from which cache.
func (open lazyCaches) Report() []cache.Report {
	set, err := open()
	if err != nil {
		return nil
	}
	return set.Report()
}
