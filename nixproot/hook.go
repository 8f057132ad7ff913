package nixproot

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// hookGrace is how long a hook may go on after it was told to end.
const hookGrace = 5 * time.Second

// runHook runs heroku-compile-hook once, in the source folder, through the launcher, so that it sees its store as the
// app will.
func (b Build) runHook(ctx context.Context, s *site, c *contents, launcher libcnb.Layer) error {
	program := c.hookProgram()
	if program == "" {
		return nil
	}
	b.Logger.Headerf("Running %s", hookName)
	command := exec.CommandContext(ctx, filepath.Join(launcher.Path, "bin", launch.ProgramName), program)
	command.Dir = s.source
	command.Env = append(os.Environ(), launch.ConfigEnv+"="+filepath.Join(s.layers.Path, runLayer, launch.ConfigName))
	command.Stdout = b.Logger.BodyWriter()
	command.Stderr = b.Logger.BodyWriter()
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = hookGrace
	if err := command.Run(); err != nil {
		return fmt.Errorf("running %s: %w; it runs in the source folder at build time, and its own output is above",
			hookName, err)
	}
	return nil
}
