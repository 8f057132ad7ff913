package launch_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/starttime"
)

// startCommand is a command as starttime measures it.
func startCommand(cmd *exec.Cmd) starttime.Command {
	return starttime.Command{Argv: cmd.Args, Env: cmd.Env, Dir: cmd.Dir}
}

// TestLauncherAddsNoMoreThanFiveMilliseconds compares a relocated app's start by the launcher with its bare start.
// The best of many is compared: other work on the machine only ever adds.
func TestLauncherAddsNoMoreThanFiveMilliseconds(t *testing.T) {
	RegisterTestingT(t)
	img := newImage(t, true)
	bare := starttime.Command{Argv: []string{filepath.Join(img.config.Bin[0], "app"), "exit", "0"}, Env: []string{}}
	for name, cmd := range map[string]*exec.Cmd{
		"command": img.command("app", "exit", "0"), "line": img.process("run_proot.sh app exit 0"),
		"shell line": img.process("cd / && exec run_proot.sh app exit $((0))"),
	} {
		without, with, err := starttime.Compare(context.Background(), 40, bare, startCommand(cmd))
		Expect(err).NotTo(HaveOccurred())
		t.Logf("%s: %v bare, %v launched (medians %v, %v)", name, without.Best, with.Best, without.Median, with.Median)
		Expect(with.Best-without.Best).To(BeNumerically("<", 5*time.Millisecond), name)
	}
}

// BenchmarkStart shows the start of an app by each engine; "bare" is the app alone.
func BenchmarkStart(b *testing.B) {
	RegisterTestingT(b)
	t := &testing.T{}
	relocated, unrelocated := newImage(t, true), newImage(t, false)
	unrelocated.configure(func(c *launch.Config) { c.PRoot, _ = exec.LookPath("proot") })
	by := func(engine string) func() *exec.Cmd {
		return func() *exec.Cmd {
			cmd := unrelocated.command("app", "exit", "0")
			cmd.Env = append(cmd.Env, launch.EngineEnv+"="+engine)
			return cmd
		}
	}
	for _, c := range []struct {
		name string
		make func() *exec.Cmd
	}{
		{"bare", func() *exec.Cmd { return exec.Command(filepath.Join(relocated.config.Bin[0], "app"), "exit", "0") }},
		{"relocate", func() *exec.Cmd { return relocated.command("app", "exit", "0") }},
		{"relocate-line", func() *exec.Cmd { return relocated.process("run_proot.sh app exit 0") }},
		{"relocate-child", func() *exec.Cmd { return relocated.process("app exit 0; true") }},
		{"userns", by(launch.EngineUserns)},
		{"proot", by(launch.EngineProot)},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if err := c.make().Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
