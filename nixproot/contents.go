package nixproot

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

// stagingDir is where paths are unpacked before their layers are known: beside the layers, to be moved by rename,
// and no layer itself.
const stagingDir = ".staging"

// contents is the closure in its layers.
type contents struct {
	*closure.Result
	buildRecord
	// Layers are the closure's and the view's.
	Layers []libcnb.Layer
	// Engine is what the files are made for, launch.EngineRelocate or launch.Unrelocated; Reason says why not the first.
	Engine string
	Reason string

	layersDir string
}

// contents substitutes the roots' closure into layers.
func (b Build) contents(ctx context.Context, in *inputs, found roots.Result, key string, before previous) (*contents, error) {
	if before.tooLong != nil {
		if in.config.Engine == launch.EngineRelocate {
			return nil, before.tooLong
		}
		b.Logger.Bodyf("The closure is not relocated: %s", before.tooLong)
	}
	if len(found.Paths) == 0 {
		return nil, fmt.Errorf("there is nothing to put into the image but %s, which runs at build time; name the app too",
			roots.HookName)
	}
	if err := nar.RemoveAll(in.asideDir()); err != nil {
		return nil, fmt.Errorf("removing what a build has left: %w", err)
	}
	result, err := b.substitute(ctx, in, in.layers.Path, closure.Options{
		Roots: found.Paths, View: before.view, Previous: before.closure,
	})
	if err != nil {
		return nil, err
	}
	c := &contents{
		Result: result, layersDir: in.layers.Path,
		buildRecord: buildRecord{Format: recordFormat, System: in.config.System, Key: key, Roots: found},
	}
	c.Engine, c.Reason = b.describeRelocation(in, before, result)
	b.detailContents(c)
	if err := c.makeLayers(ctx, in); err != nil {
		return nil, err
	}
	if err := b.findBins(ctx, in, c, before.buildRecord); err != nil {
		return nil, err
	}
	c.Resources = c.findResources(before.buildRecord)
	c.CacheURLs = c.findCacheURLs(before.CacheURLs)
	return c, nil
}

// findCacheURLs are the caches that the paths came from: of those in layers that are kept, as the last build had it.
func (c *contents) findCacheURLs(before closure.CacheURLs) closure.CacheURLs {
	changed := map[storepath.Path]bool{}
	for _, group := range c.Changed {
		for _, p := range group.Paths {
			changed[p] = true
		}
	}
	urls := closure.CacheURLs{}
	for p, n := range c.Graph.Nodes {
		urls[p] = redact.Text(n.CacheURL)
		if was := before[p]; was != "" && (!changed[p] || n.CacheURL == "") {
			urls[p] = was
		}
	}
	return urls
}

func (in *inputs) staging() string { return filepath.Join(in.layers.Path, stagingDir) }

// substitute fetches what options say and the previous image does not have, by the settings, and installs its layers in
// dir. It opens the caches only when something has to come from them.
func (b Build) substitute(ctx context.Context, in *inputs, dir string, options closure.Options) (*closure.Result, error) {
	options = in.substituteOptions(options)
	options.Log = b.Logger.Bodyf
	result, err := closure.Substitute(ctx, options)
	if err != nil {
		return nil, err
	}
	if err := closure.Install(ctx, result, in.staging(), dir); err != nil {
		return nil, err
	}
	return result, checkMachine(result, dir, options.Roots, in.config.System)
}

// substituteOptions are options with what the settings say.
func (in *inputs) substituteOptions(options closure.Options) closure.Options {
	options.Caches = lazyCaches(in.caches)
	options.Staging = in.staging()
	options.Strict = in.config.Engine == launch.EngineRelocate
	options.Layers = in.config.MaxLayers
	options.Downloads = in.config.Concurrency
	return options
}

// describeRelocation says what the files are made for, and logs it. The reason is what stands in the way of relocating
// them, and empty where nobody wanted that.
func (b Build) describeRelocation(in *inputs, before previous, result *closure.Result) (engine, reason string) {
	if !result.View.IsZero() {
		how, left := ", to ", ""
		if result.References > 0 {
			how = "; " + text.Count(result.References, "reference") + " rewritten to "
		}
		if result.Harmless > 0 {
			left = fmt.Sprintf(", %d left that do not matter", result.Harmless)
		}
		b.Logger.Bodyf("Engine: relocate%s%s%s", how, result.View.Dir(), left)
		for _, o := range result.Overruled {
			b.Logger.Bodyf("  taken as harmless, as BP_NIX_HARMLESS says: %s", o)
		}
		return launch.EngineRelocate, ""
	}
	switch {
	case len(result.Blockers) > 0:
		reason = result.Blockers[0].String()
		b.Logger.Bodyf("Engine: userns or proot, whichever the platform allows, as the closure cannot be relocated safely:")
		for i, blocked := range result.Blockers {
			if i == 10 {
				b.Logger.Bodyf("  … and %d more", len(result.Blockers)-i)
				break
			}
			b.Logger.Bodyf("  %s", blocked)
		}
		if value := harmlessSetting(result.Blockers); value != "" {
			b.Logger.Bodyf("  If the app does not read these files, or not the store paths in them: BP_NIX_HARMLESS=%s", value)
		}
	case before.tooLong != nil:
		reason = before.tooLong.Error()
		b.Logger.Bodyf("Engine: userns or proot, whichever the platform allows")
	default:
		b.Logger.Bodyf("Engine: %s, as BP_NIX_ENGINE says", in.config.Engine)
	}
	return launch.Unrelocated, reason
}

// makeLayers declares the closure's layers and writes the view. A layer that did not change has metadata and no
// directory: the exporter keeps the previous image's.
func (c *contents) makeLayers(ctx context.Context, in *inputs) error {
	for name, manifest := range c.Manifests() {
		layer := launchLayer(in.layers, name)
		layer.Metadata = manifest.Metadata()
		c.Layers = append(c.Layers, layer)
	}
	view, err := launchLayer(in.layers, viewLayer).Reset()
	if err != nil {
		return err
	}
	view.LayerTypes = libcnb.LayerTypes{Launch: true}
	c.Layers = append(c.Layers, view)
	return c.writeView(ctx, in)
}

// launchLayer is a layer of the image, whatever the previous image says of one with its name.
func launchLayer(layers libcnb.Layers, name string) libcnb.Layer {
	return libcnb.Layer{
		Name: name, Path: filepath.Join(layers.Path, name), LayerTypes: libcnb.LayerTypes{Launch: true},
	}
}

// writeView makes the view show these contents and nothing else.
func (c *contents) writeView(ctx context.Context, in *inputs) error {
	return closure.WriteView(ctx, filepath.Join(in.layers.Path, viewLayer), c.Groups, in.layers.Path, c.View)
}

// dirOf is where a path's files are, whether or not its layer's bytes are here.
func (c *contents) dirOf(p storepath.Path) string {
	for _, group := range c.Groups {
		for _, member := range group.Paths {
			if member == p {
				return c.treeIn(group.Layer, p)
			}
		}
	}
	return ""
}

// treeIn is where a path's files are in a layer.
func (c *contents) treeIn(layer string, p storepath.Path) string {
	return filepath.Join(c.layersDir, layer, closure.BaseName(p, c.View))
}

// linkTo is a path's link in the view, the one name for its files that does not depend on how paths are grouped.
func (c *contents) linkTo(p storepath.Path) string {
	return filepath.Join(c.layersDir, viewLayer, closure.BaseName(p, c.View))
}

// mainProgram is the program that becomes web without a Procfile, and what says so; "" where there is no telling.
func (c *contents) mainProgram() (program, because string, err error) {
	if c.Roots.MainProgram == "" {
		if program = onlyProgram(c.Bins...); !isProgramName(program) {
			program = "" // a file's name may be anything, and this one would be read as shell syntax
		}
		return program, "it is the only program", nil
	}
	if !isProgramName(c.Roots.MainProgram) {
		return "", "", fmt.Errorf("meta.mainProgram is %q, which is not the name of a program", c.Roots.MainProgram)
	}
	return c.Roots.MainProgram, "meta.mainProgram says", nil
}

// summary says in two lines what moved.
func (c *contents) summary() []string {
	fetched := c.Fetched
	fetched.Paths += c.Staged.Paths
	fetched.Bytes += c.Staged.Bytes
	return []string{
		fmt.Sprintf("Store paths: %s reused, %s fetched, %s removed", tallied(c.Reused), tallied(fetched), tallied(c.Removed)),
		fmt.Sprintf("Closure layers: %d of %d changed", len(c.Changed), len(c.Groups)),
	}
}

func tallied(t closure.Tally) string {
	if t.Paths == 0 {
		return "none"
	}
	return fmt.Sprintf("%s (%s)", text.Count(t.Paths, "path"), text.Bytes(t.Bytes))
}

// launchLayers are PRoot's, where its engine may be used, what the launcher is told, and the launcher, which is also
// returned by itself.
func (b Build) launchLayers(ctx context.Context, in *inputs, c *contents) ([]libcnb.Layer, libcnb.Layer, error) {
	config := in.launchConfig(c)
	layers, err := in.addPRoot(ctx, &config, in.layers)
	if err != nil {
		return nil, libcnb.Layer{}, err
	}
	run, err := launchlayer.WriteRun(in.layers, config)
	if err != nil {
		return nil, run, err
	}
	launcher, err := launchlayer.WriteLauncher(in.layers, in.launcher)
	if err != nil {
		return nil, launcher, err
	}
	return append(layers, run, launcher), launcher, nil
}

// launchConfig is what the launcher is told of contents.
func (in *inputs) launchConfig(c *contents) launch.Config {
	holds := launchlayer.Contents{
		Dir: in.layers.Path, Relocated: c.Engine == launch.EngineRelocate, Requested: in.config.Engine, Reason: c.Reason,
		Resources: c.Resources,
	}
	for i, path := range c.Roots.Paths {
		root := launchlayer.Root{Path: path}
		if i < len(c.Bins) && c.Bins[i] != nil { // what only the hook needs comes after the app's, and is not on PATH
			root.Bin = filepath.Join(c.dirOf(path), "bin")
		}
		holds.Roots = append(holds.Roots, root)
	}
	return holds.Config()
}

// addPRoot makes PRoot's layer among layers, where a configuration has PRoot, and says there where the program is.
func (in *inputs) addPRoot(ctx context.Context, config *launch.Config, layers libcnb.Layers) ([]libcnb.Layer, error) {
	if config.PRoot == "" {
		return nil, nil
	}
	layer, program, err := installPRoot(ctx, layers, in.dependencies)
	config.PRoot = program
	return []libcnb.Layer{layer}, err
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

// Share gives a context for what is decoded of one path.
func (open lazyCaches) Share(ctx context.Context) context.Context {
	set, err := open()
	if err != nil {
		return ctx
	}
	return set.Share(ctx)
}

// Report says what came from which cache.
func (open lazyCaches) Report() []cache.Report {
	set, err := open()
	if err != nil {
		return nil
	}
	return set.Report()
}
