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

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

// hasHook reports whether there is something to run at build time.
func (c *contents) hasHook() bool {
	return c.Roots.Hook != "" || slices.ContainsFunc(c.Bins, func(b *bin) bool { return b != nil && b.Hook })
}

// runHook runs heroku-compile-hook once, in the source directory, through the launcher, so that it sees its store as the
// app will. Afterwards the layers are as they were before. After an error they are of no use to anybody.
func (b Build) runHook(ctx context.Context, in *inputs, c *contents, launcher libcnb.Layer) error {
	if !c.hasHook() {
		return nil
	}
	b.Logger.Headerf("Running %s", roots.HookName)
	app, err := b.borrow(ctx, in, c, c.Roots.All(), c.Changed)
	if err != nil {
		return fmt.Errorf("preparing %s: %w", roots.HookName, err)
	}
	if app.Fetched.Paths > 0 {
		b.Logger.Bodyf("Fetched for the hook alone: %s", tallied(app.Fetched))
	}
	if app.View.Dir() != c.View.Dir() { // what only the hook needs cannot be relocated
		app.Engine, app.Reason = b.describeRelocation(in, previous{}, app.Result)
	}
	if err := app.writeView(ctx, in); err != nil {
		return err
	}
	if err := b.callHook(ctx, in, app.contents, launcher); err != nil {
		return err
	}
	if err := app.giveBack(); err != nil {
		return err
	}
	return c.writeView(ctx, in)
}

// callHook starts the hook and waits for it and for all that it has started.
func (b Build) callHook(ctx context.Context, in *inputs, c *contents, launcher libcnb.Layer) error {
	program, err := c.hookProgram()
	if err != nil {
		return err
	}
	config := in.launchConfig(c)
	if _, err := in.addPRoot(ctx, &config, libcnb.Layers{Path: in.asideDir()}); err != nil {
		return err
	}
	if err := os.MkdirAll(in.asideDir(), 0o755); err != nil {
		return fmt.Errorf("preparing %s: %w", roots.HookName, err)
	}
	file := filepath.Join(in.asideDir(), launch.ConfigName)
	if err := config.Write(file); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, filepath.Join(launcher.Path, "bin", launch.ProgramName), program)
	command.Dir = in.source
	command.Env = append(os.Environ(), launch.ConfigEnv+"="+file)
	said := &wholeLines{to: b.Logger.BodyWriter()}
	command.Stdout, command.Stderr = said, said
	left, err := runToEnd(command)
	said.end()
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
	if info, err := os.Stat(c.dirOf(hook)); err == nil && info.Mode().IsRegular() {
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
		return filepath.Join(c.dirOf(p), file)
	}
	return filepath.Join(p.String(), file)
}
