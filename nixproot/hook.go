package nixproot

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/launch"
)

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
	command.Stderr = command.Stdout
	left, err := runToEnd(command)
	if len(left) > 0 {
		b.Logger.Bodyf("%s left running, and this build ended: %s", hookName, strings.Join(left, ", "))
	}
	if err != nil {
		return fmt.Errorf("running %s: %w; it runs in the source folder at build time, and its own output is above",
			hookName, err)
	}
	return nil
}
