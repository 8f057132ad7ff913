package nixproot

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

// hookDir holds what only the hook needs while it runs: beside the layers, and no layer itself.
const hookDir = ".hook"

func (s *site) hookDir() string { return filepath.Join(s.layers.Path, hookDir) }

// hasHook reports whether there is something to run at build time.
func (c *contents) hasHook() bool {
	return c.Roots.Hook != "" || slices.ContainsFunc(c.Bins, func(b *bin) bool { return b != nil && b.Hook })
}

// runHook runs heroku-compile-hook once, in the source directory, through the launcher, so that it sees its store as the
// app will. Afterwards the layers are as they were before. After an error they are of no use to anybody.
func (b Build) runHook(ctx context.Context, s *site, c *contents, launcher libcnb.Layer) error {
	if !c.hasHook() {
		return nil
	}
	b.Logger.Headerf("Running %s", roots.HookName)
	stage, err := b.stageHook(ctx, s, c)
	if err != nil {
		return err
	}
	if err := b.callHook(ctx, s, stage, launcher); err != nil {
		return err
	}
	for _, dir := range append(stage.borrowed, s.hookDir()) {
		if err := nar.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing what %s needed: %w", roots.HookName, err)
		}
	}
	return c.writeView(ctx, s)
}

// hookStage is what the hook sees: the closure of its own output and of the app's.
type hookStage struct {
	*contents
	// borrowed are the directories of layers that stay in the previous image and have their files here for the moment.
	borrowed []string
}

// stageHook fetches what the hook may need and this build has not unpacked. The files of layers that stay in the
// previous image are put where the image has them, as what the hook makes may name their places; what the image does
// not hold at all is put into hookDir.
func (b Build) stageHook(ctx context.Context, s *site, c *contents) (*hookStage, error) {
	result, err := b.substitute(ctx, s, closure.Options{
		Roots: c.Roots.All(), Layout: c.Layout, Planned: c.Groups,
		Previous: &closure.Previous{Prefix: c.Layout.Dir(), Groups: c.Unpacked, Nodes: c.Graph.Nodes},
	})
	if err != nil {
		return nil, err
	}
	if result.Fetched.Paths > 0 {
		b.Logger.Bodyf("Fetched for the hook alone: %s", tallied(result.Fetched))
	}
	if err := closure.Install(ctx, result, s.staging(), s.hookDir()); err != nil {
		return nil, err
	}
	if err := checkMachine(result, s.hookDir(), c.Roots.All(), s.config.System); err != nil {
		return nil, err
	}
	stage := &hookStage{contents: &contents{
		Result: result, buildRecord: c.buildRecord, Engine: c.Engine, Reason: c.Reason, layersDir: c.layersDir,
	}}
	stage.Roots.Paths = c.Roots.All()
	if result.Layout != c.Layout { // what only the hook needs cannot be relocated
		stage.Engine, stage.Reason = b.describeRelocation(s, previous{}, result)
	}
	for _, group := range result.Changed {
		if err := stage.furnish(group, result.Layout == c.Layout); err != nil {
			return nil, fmt.Errorf("preparing %s: %w", roots.HookName, err)
		}
	}
	return stage, stage.writeView(ctx, s)
}

// furnish puts a group from hookDir into its layer's place, where the image has it as it is.
func (h *hookStage) furnish(group closure.Group, asInImage bool) error {
	aside := filepath.Join(hookDir, group.Layer)
	if asInImage && group.Layer != closure.BuildLayer {
		layer := filepath.Join(h.layersDir, group.Layer)
		h.borrowed = append(h.borrowed, layer)
		return os.Rename(filepath.Join(h.layersDir, aside), layer)
	}
	i := slices.IndexFunc(h.Groups, func(g closure.Group) bool { return g.Layer == group.Layer })
	h.Groups[i].Layer = aside
	return nil
}

// callHook starts the hook and waits for it and for all that it has started.
func (b Build) callHook(ctx context.Context, s *site, stage *hookStage, launcher libcnb.Layer) error {
	program, err := stage.hookProgram()
	if err != nil {
		return err
	}
	config, _, err := b.launchConfig(ctx, s, stage.contents, libcnb.Layers{Path: s.hookDir()})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.hookDir(), 0o755); err != nil {
		return fmt.Errorf("preparing %s: %w", roots.HookName, err)
	}
	file := filepath.Join(s.hookDir(), launch.ConfigName)
	if err := config.Write(file); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, filepath.Join(launcher.Path, "bin", launch.ProgramName), program)
	command.Dir = s.source
	command.Env = append(os.Environ(), launch.ConfigEnv+"="+file)
	command.Stdout = b.Logger.BodyWriter()
	command.Stderr = command.Stdout
	left, err := runToEnd(command)
	if len(left) > 0 {
		b.Logger.Bodyf("%s left running, and this build ended: %s", roots.HookName, strings.Join(left, ", "))
	}
	if err != nil {
		return fmt.Errorf("running %s: %w; it runs in the source directory at build time, and its own output is above",
			roots.HookName, err)
	}
	return nil
}

// hookProgram is what runs at build time, in the form that the launcher takes.
func (c *contents) hookProgram() (string, error) {
	hook := c.Roots.Hook
	if hook == "" {
		return roots.HookName, nil // an output has it, which is on PATH
	}
	if info, err := os.Stat(c.folder(hook)); err == nil && info.Mode().IsRegular() {
		return c.programPath(hook, ""), nil
	}
	dir, _ := c.binDirectory(hook)
	switch b := readBin(dir); {
	case b != nil && b.Hook:
		return c.programPath(hook, filepath.Join("bin", roots.HookName)), nil
	case onlyProgram(b) != "":
		return c.programPath(hook, filepath.Join("bin", onlyProgram(b))), nil
	}
	return "", fmt.Errorf("the attribute %s gives %s, which is no program and has in bin neither one program nor one of "+
		"that name", roots.HookName, hook)
}

// programPath is a program's place as the engine shows it.
func (c *contents) programPath(p storepath.Path, file string) string {
	if c.Engine == launch.EngineRelocate {
		return filepath.Join(c.folder(p), file)
	}
	return filepath.Join(p.String(), file)
}
