package nixproot

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/buildpacks/libcnb/v2"
	"github.com/paketo-buildpacks/libpak/v2/log"

	"github.com/nixproot/nix-hydra-buildpack/appdir"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/procfile"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

// Build turns a source that Detect passed into layers and process types.
type Build struct {
	Logger log.Logger
}

// Build is the road of one build, from top to bottom. On any error nothing of this build is reused by the next.
func (b Build) Build(buildContext libcnb.BuildContext) (libcnb.BuildResult, error) {
	ctx, stop := interruptible()
	defer stop()
	b.Logger.Title(buildContext.Buildpack.Info.Name, buildContext.Buildpack.Info.Version, buildContext.Buildpack.Info.Homepage)

	site, clean, err := b.readInputs(ctx, buildContext)
	if err != nil {
		return libcnb.BuildResult{}, explain(err)
	}
	defer clean()
	result, err := b.build(ctx, site)
	if err != nil {
		return libcnb.BuildResult{}, explain(err)
	}
	return result, nil
}

// inputs is everything a build starts from.
type inputs struct {
	config Config
	entry  entry
	// idle are settings that do nothing.
	idle     []idleSettings
	procfile procfile.File
	// procfileAfter are buildpacks that will replace this one's process types.
	procfileAfter []string
	identity      nixinstall.Identity
	source        string
	tree          *appdir.Dir
	layers        libcnb.Layers
	layersRoot    string
	launcher      string
	version       string
	buildpackID   string
	settings      cacheSettings
	dependencies  pinnedDependencies
	toolchain     *toolchainLayers
	caches        func() (*cache.Set, error)
}

// readInputs reads settings, source and the previous image's metadata; it downloads nothing.
func (b Build) readInputs(ctx context.Context, buildContext libcnb.BuildContext) (*inputs, func(), error) {
	architecture := targetArchitecture(buildContext.TargetInfo.Arch)
	lookup, err := settings(buildContext.Buildpack)
	if err != nil {
		return nil, nil, err
	}
	in := &inputs{
		source: buildContext.ApplicationPath, layers: buildContext.Layers, version: buildContext.Buildpack.Info.Version,
		buildpackID: buildContext.Buildpack.Info.ID,
	}
	in.layersRoot = layersRoot(in.layers.Path, buildContext.Buildpack.Info.ID)
	if in.config, err = ReadConfig(lookup, architecture); err != nil {
		return nil, nil, err
	}
	if in.tree, err = b.openSource(ctx, in); err != nil {
		return nil, nil, err
	}
	if in.entry, err = findEntry(in.source, in.config); err != nil {
		return nil, nil, err
	}
	in.idle = in.entry.idle(lookup)
	in.procfileAfter = procfileBuildpacksAfter(ctx, in.layersRoot, buildContext.Buildpack.Info.ID)
	if in.procfile, err = procfile.Read(ctx, in.source); err != nil {
		return nil, nil, err
	}
	if in.identity, err = b.findIdentity(ctx, in, lookup); err != nil {
		return nil, nil, err
	}
	var bindings serviceBindings
	buildContext.Platform.Bindings, bindings, err = readBindings(ctx, buildContext.Platform.Bindings, buildContext.Buildpack)
	for _, why := range bindings.Unused {
		b.Logger.Bodyf("Service binding not used: %s", why)
	}
	if err != nil {
		return nil, nil, err
	}
	if in.settings, err = gatherCaches(in.config, bindings.Caches); err != nil {
		return nil, nil, err
	}
	in.caches = sync.OnceValues(func() (*cache.Set, error) { return in.settings.open(ctx, b.Logger.Bodyf) })
	in.launcher = filepath.Join(buildContext.Buildpack.Path, "bin", "launch")
	scratch, clean, err := scratchDir()
	if err != nil {
		return nil, nil, err
	}
	if in.dependencies, err = newDependencies(buildContext, architecture, scratch, b.Logger); err != nil {
		clean()
		return nil, nil, err
	}
	in.toolchain, err = newToolchain(in.layers, toolchainLayers{
		dependencies: in.dependencies, caches: in.settings, openCaches: in.caches, config: in.config, scratch: scratch,
		logger: b.Logger,
	})
	if err != nil {
		clean()
		return nil, nil, err
	}
	return in, clean, nil
}

// build does the work: roots, closure, layers, launch.
func (b Build) build(ctx context.Context, in *inputs) (libcnb.BuildResult, error) {
	result := libcnb.NewBuildResult()
	b.Logger.Headerf("Looking for store paths: %s", text.Printable(in.entry.Why))
	if warning := oddLogLevel(os.Getenv("BP_LOG_LEVEL")); warning != "" && !b.Logger.IsDebugEnabled() {
		b.Logger.Body(warning)
	}
	for _, idle := range in.idle {
		b.Logger.Bodyf("Warning: as %s, these settings do nothing: %s", idle.because, strings.Join(idle.names, ", "))
	}
	b.detailCaches(in)
	before := b.previous(ctx, in)
	found, key, err := b.roots(ctx, in, before.buildRecord)
	if err != nil {
		return result, err
	}

	b.Logger.Headerf("Gathering the closure of %s", text.Count(len(found.Paths), "store path"))
	contents, err := b.contents(ctx, in, found, key, before)
	if err != nil {
		return result, err
	}

	b.Logger.Header("Preparing the launch")
	processes, err := b.processEntries(in, contents)
	if err != nil {
		return result, err
	}
	launchLayers, launcher, err := b.launchLayers(ctx, in, contents)
	if err != nil {
		return result, err
	}
	if err := b.runHook(ctx, in, contents, launcher); err != nil {
		return result, err
	}
	if err := in.writeBills(contents, launchLayers); err != nil {
		return result, err
	}
	if err := b.trimSource(ctx, in); err != nil {
		return result, err
	}

	toolchainLayers, err := in.toolchain.layers(ctx)
	if err != nil {
		return result, err
	}
	record, err := contents.recordOf(ctx, before.buildRecord)
	if err != nil {
		return result, err
	}
	recordLayer, err := record.write(in.layers)
	if err != nil {
		return result, err
	}
	result.Layers = slices.Concat(toolchainLayers, contents.Layers, launchLayers, []libcnb.Layer{recordLayer})
	result.Processes = launchlayer.Processes(launcher, processes)
	if result.Labels, err = in.labels(contents); err != nil {
		return result, err
	}
	for _, line := range contents.summary() {
		b.Logger.Body(line)
	}
	if hint := exportHint(contents.exported(), engineSocket); hint != "" {
		b.Logger.Body(hint)
	}
	return result, nil
}

// roots finds the roots, or takes those of the last build when nothing they depend on has changed. What the settings
// name is taken from them.
func (b Build) roots(ctx context.Context, in *inputs, before buildRecord) (roots.Result, string, error) {
	identity, err := in.toolchain.identity()
	if err != nil {
		return roots.Result{}, "", err
	}
	finder := roots.Finder{
		Settings: in.config.Settings, Source: in.source, Exclude: in.tree.Mounts(), File: in.entry.File, Flake: in.entry.Flake, Identity: in.identity,
		Toolchain: func() (nixinstall.Toolchain, error) { return in.toolchain.open(ctx) },
		Caches:    in.caches, Servers: in.settings.options(b.Logger.Bodyf), Conditions: in.conditions(),
		Keep: func(used []storepath.Path) { in.toolchain.used = append(in.toolchain.used, used...) },
		Log:  b.Logger.Bodyf,
	}
	key, err := finder.Key(ctx, identity)
	if err != nil {
		return roots.Result{}, "", err
	}
	if len(in.config.StorePaths) == 0 && key != "" && key == before.Key {
		b.Logger.Bodyf("Source, settings and toolchain are those of the previous build: its store paths are taken again")
		return before.Roots, key, nil
	}
	found, err := finder.Find(ctx)
	if err != nil {
		return roots.Result{}, "", err
	}
	for _, p := range found.Paths {
		b.Logger.Bodyf("%s", p)
	}
	return found, key, nil
}

// layersRoot is the platform's layers directory, among whose directories the lifecycle gives each buildpack its own.
func layersRoot(layers, id string) string {
	if filepath.Base(layers) == strings.ReplaceAll(id, "/", "_") {
		return filepath.Dir(layers)
	}
	return layers
}

// openSource opens the source, and fails where what must not get into the image could not be removed in the end.
func (b Build) openSource(ctx context.Context, in *inputs) (*appdir.Dir, error) {
	source, err := appdir.Open(in.source, in.config.IncludeFiles, in.config.ExcludeFiles)
	if err != nil {
		return nil, err
	}
	if mounts := source.Mounts(); len(mounts) > 0 {
		b.Logger.Bodyf("Mounted in the source, and no part of it: %s; nothing in there is read or removed, and the platform "+
			"may export it with the image", text.Files(mounts, maxNames))
	}
	return source, source.Check(ctx, in.layersRoot, in.config.RemoveSource)
}

// maxNames is how many names of files a line of the log has.
const maxNames = 5

// trimSource removes from the application directory what is not to be in the image.
func (b Build) trimSource(ctx context.Context, in *inputs) error {
	trimmed, err := in.tree.Trim(ctx)
	if err != nil {
		return err
	}
	b.Logger.Bodyf("Kept of the source: %s (BP_INCLUDE_FILES, BP_EXCLUDE_FILES)", text.Count(trimmed.Kept, "file"))
	for _, pattern := range trimmed.Unmatched {
		b.Logger.Bodyf("Warning: BP_INCLUDE_FILES has %q, which no file of the source matches", pattern)
	}
	if len(trimmed.Emptied) > 0 {
		b.Logger.Bodyf("Emptied, as their directories belong to another user and nothing can be removed from them: %s",
			text.Files(trimmed.Emptied, maxNames))
	}
	return nil
}

// conditions are this program and the caches, by all that may change which store paths they have for a source.
func (in *inputs) conditions() []string {
	return slices.Concat([]string{in.version, nixinstall.Expression()}, in.settings.identity(),
		nixinstall.Variables(os.Environ()), nixinstall.Features(os.Environ()))
}

// processEntries are the Procfile's process types, or one made from the closure's only program.
func (b Build) processEntries(in *inputs, c *contents) ([]procfile.Entry, error) {
	entries := in.procfile.Entries
	for _, warning := range in.procfile.Warnings {
		b.Logger.Bodyf("Warning: %s", warning)
	}
	for _, id := range in.procfileAfter {
		b.Logger.Bodyf("Warning: %s comes after this buildpack in the order: its process types replace those of the same "+
			"name here, and run by bash, which the run image has to have; leave it out of the order, or put it first", id)
	}
	if len(entries) == 0 {
		none := "No Procfile"
		if in.procfile.Empty {
			none = "The Procfile names no process type"
		}
		program, because, err := c.mainProgram()
		if err != nil {
			return nil, err
		}
		if program == "" {
			b.Logger.Bodyf("%s, and the outputs have several programs or none: the image has no process type; "+
				"add a Procfile with a line such as %q", none, "web: run_proot.sh myapp")
			return nil, nil
		}
		b.Logger.Bodyf("%s: %s becomes %s, as %s", none, program, launchlayer.WebType, because)
		entries = []procfile.Entry{{Type: launchlayer.WebType, Command: launch.ProgramName + " " + program}}
	}
	shell := in.launchConfig(c).Shell
	for _, entry := range entries {
		b.Logger.Bodyf("%s: %s", entry.Type, text.Cut(text.Printable(entry.Command), maxCommandShown))
		line, err := launch.ParseLine(entry.Command)
		if err != nil {
			return nil, err
		}
		for _, note := range []string{
			shellNote(entry.Type, line, shell), programNote(entry.Type, line, c.Bins), sourceNote(entry.Type, line, in.tree.Removes),
		} {
			if note != "" {
				b.Logger.Bodyf("%s", note)
			}
		}
	}
	return entries, nil
}

// maxCommandShown is how much of a command line the log has, in bytes: a Procfile may give one of 128 KiB.
const maxCommandShown = 500

// targetArchitecture is the architecture the image is for; lifecycles before targets existed do not say.
func targetArchitecture(fromContext string) string {
	if fromContext != "" {
		return fromContext
	}
	return os.Getenv(libcnb.EnvTargetArch)
}
