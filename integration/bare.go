package integration

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// Bare is a platform without containers: it calls bin/detect and bin/build as the lifecycle does, and keeps between
// two builds what the lifecycle would keep.
type Bare struct {
	Buildpack *Buildpack
	// Dir holds everything; it should be short, as store paths are rewritten to a place below it.
	Dir string
	// Env are the user's settings for every build.
	Env map[string]string
	// Bindings are service bindings: name to files.
	Bindings map[string]map[string]string
	// Prepare, when not nil, changes the copy of the source before each build: a copy has regular files only.
	Prepare func(app string) error
	// KillAfter, when not zero, is how long bin/build may run until Signal is sent to it and all that it started: SIGKILL
	// where Signal is zero.
	KillAfter time.Duration
	Signal    syscall.Signal
	// Died, when not nil, is called after a bin/build that did not succeed, before the previous image is put back.
	Died func()
	// Before is a line of shell that runs before bin/build in its process: limits, for example.
	Before string
}

// Outcome is what came of a build.
type Outcome struct {
	// Status is the exit status of bin/build, or of bin/detect where that did not pass (100).
	Status int
	// Log is everything that was said, without colours.
	Log string
	// Elapsed is what bin/build took.
	Elapsed time.Duration
	// Peak is how much memory bin/build had at most, in bytes.
	Peak int64
	// Dying is how long bin/build went on after it was sent a signal, 0 where it was sent none.
	Dying time.Duration
}

// Layers is the buildpack's layers directory.
func (b *Bare) Layers() string { return filepath.Join(b.Dir, "l") }

// App is the directory that sources are copied to.
func (b *Bare) App() string { return filepath.Join(b.Dir, "app") }

// Build copies a source, a directory on this machine, and builds it with further settings. An error says that it could
// not be run; that it failed is in the Outcome.
func (b *Bare) Build(ctx context.Context, source string, env map[string]string) (*Outcome, error) {
	if err := b.prepare(source, env); err != nil {
		return nil, fmt.Errorf("preparing a bare build: %w", err)
	}
	var log bytes.Buffer
	plan := filepath.Join(b.Dir, "plan.toml")
	detected, err := b.run(ctx, &log, env, "detect", b.platform(), plan)
	if err != nil || detected.Status != 0 {
		return detected, err
	}
	if err := b.setAside(); err != nil {
		return nil, fmt.Errorf("preparing a bare build: %w", err)
	}
	o, err := b.run(ctx, &log, env, "build", b.Layers(), b.platform(), filepath.Join(b.Dir, "entries.toml"))
	if err == nil && o.Status == 0 {
		return o, errors.Join(b.export(ctx), b.keepToolchain())
	}
	if b.Died != nil {
		b.Died()
	}
	return o, errors.Join(err, b.revert(), b.restoreToolchain())
}

// keepToolchain copies the toolchain's layer, as the lifecycle exports it to its cache, unless that is done.
func (b *Bare) keepToolchain() error {
	if !b.HasLayer(toolchainLayer) || exists(b.kept()) {
		return nil
	}
	if err := os.CopyFS(filepath.Join(b.kept(), toolchainLayer), os.DirFS(filepath.Join(b.Layers(),
		toolchainLayer))); err != nil {
		return err
	}
	metadata, err := os.ReadFile(filepath.Join(b.Layers(), toolchainLayer+".toml"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.kept(), toolchainLayer+".toml"), metadata, 0o644)
}

// restoreToolchain puts the layer back that the cache holds, as a failed build exports nothing.
func (b *Bare) restoreToolchain() error {
	layer := filepath.Join(b.Layers(), toolchainLayer)
	if err := errors.Join(nar.RemoveAll(layer), nar.RemoveAll(layer+".toml")); err != nil || !exists(b.kept()) {
		return err
	}
	return os.CopyFS(b.Layers(), os.DirFS(b.kept()))
}

// toolchainLayer is the one cached layer that is costly to make.
const toolchainLayer = "nix"

func (b *Bare) kept() string { return filepath.Join(b.Dir, "kept") }

func (b *Bare) platform() string { return filepath.Join(b.Dir, "platform") }

// prepare lays out the directories of one build.
func (b *Bare) prepare(source string, env map[string]string) error {
	for _, dir := range []string{b.App(), b.platform()} {
		if err := nar.RemoveAll(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{b.App(), b.Layers(), filepath.Join(b.platform(), "env"), filepath.Join(b.Dir, "home"),
		filepath.Join(b.Dir, "tmp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{filepath.Join(b.Dir, "entries.toml"): "[[entries]]\nname = \"nix-hydra\"\n"}
	for name, value := range b.environment(env) {
		files[filepath.Join(b.platform(), "env", name)] = value
	}
	for binding, contents := range b.Bindings {
		for name, value := range contents {
			files[filepath.Join(b.platform(), "bindings", binding, name)] = value
		}
	}
	for name, value := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(value), 0o644); err != nil {
			return err
		}
	}
	if source == "" {
		return nil
	}
	if err := os.CopyFS(b.App(), os.DirFS(source)); err != nil || b.Prepare == nil {
		return err
	}
	return b.Prepare(b.App())
}

func (b *Bare) environment(more map[string]string) map[string]string {
	all := map[string]string{}
	for _, settings := range []map[string]string{b.Env, more} {
		for name, value := range settings {
			all[name] = value
		}
	}
	return all
}

// run calls one of the buildpack's programs in the source.
func (b *Bare) run(ctx context.Context, log *bytes.Buffer, env map[string]string, program string,
	args ...string) (*Outcome, error) {
	command := exec.CommandContext(ctx, filepath.Join(b.Buildpack.Dir, "bin", program), args...)
	if b.Before != "" && program == "build" {
		command = exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", b.Before + ` && exec "$0" "$@"`, command.Path}, args...)...)
	}
	command.Dir = b.App()
	command.Stdout, command.Stderr = log, log
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(b.Dir, "home"), "TMPDIR=" + filepath.Join(b.Dir, "tmp"),
		"CNB_BUILDPACK_DIR=" + b.Buildpack.Dir, "CNB_PLATFORM_DIR=" + b.platform(), "CNB_LAYERS_DIR=" + b.Layers(),
		"CNB_BP_PLAN_PATH=" + filepath.Join(b.Dir, "entries.toml"), "CNB_BUILD_PLAN_PATH=" + filepath.Join(b.Dir,
			"plan.toml"),
		"CNB_TARGET_OS=linux", "CNB_TARGET_ARCH=" + cmp.Or(b.Buildpack.Arch, runtime.GOARCH), "CNB_STACK_ID=",
	}
	for name, value := range b.environment(env) {
		command.Env = append(command.Env, name+"="+value)
	}
	if len(b.Bindings) > 0 {
		command.Env = append(command.Env, "SERVICE_BINDING_ROOT="+filepath.Join(b.platform(), "bindings"))
	}
	o := &Outcome{}
	start := time.Now()
	err := b.wait(command, o, program == "build")
	o.Elapsed, o.Log = time.Since(start), plainText(log.String())
	return o, err
}

// wait runs a command to its end, or kills its process group after a while, which is the signal's number and 128.
func (b *Bare) wait(command *exec.Cmd, o *Outcome, mayBeKilled bool) error {
	var signalled atomic.Int64 // when, in nanoseconds since 1970
	if b.KillAfter > 0 && mayBeKilled {
		command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	if err := command.Start(); err != nil {
		return err
	}
	signal := cmp.Or(b.Signal, syscall.SIGKILL)
	if command.SysProcAttr != nil {
		timer := time.AfterFunc(b.KillAfter, func() {
			signalled.Store(time.Now().UnixNano())
			_ = syscall.Kill(-command.Process.Pid, signal)
		})
		defer timer.Stop()
	}
	peak, stop := watchMemory(command.Process.Pid)
	err := command.Wait()
	stop()
	o.Peak = peak.Load()
	if at := signalled.Load(); at != 0 {
		o.Dying = time.Since(time.Unix(0, at))
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	if o.Status = command.ProcessState.ExitCode(); o.Status < 0 {
		if command.SysProcAttr == nil {
			return err
		}
		o.Status = 128 + int(signal)
	}
	return nil
}

// watchMemory looks again and again at how much memory a process has had at most, in bytes, until it is stopped. What the
// kernel tells of an ended one counts its parent's, too.
func watchMemory(pid int) (peak *atomic.Int64, stop func()) {
	peak = new(atomic.Int64)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
				if found := highWater.FindSubmatch(text); found != nil {
					kib, _ := strconv.ParseInt(string(found[1]), 10, 64)
					peak.Store(max(peak.Load(), kib<<10))
				}
			}
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return peak, func() { close(done); <-ended }
}

var highWater = regexp.MustCompile(`VmHWM:\s+([0-9]+) kB`)

// NewImage forgets the image and what evaluation kept, so that the next build is a first one, on a machine that has
// the toolchain in its cache where an earlier build wanted it.
func (b *Bare) NewImage() error {
	if err := errors.Join(nar.RemoveAll(b.Layers()), nar.RemoveAll(b.previous()), nar.RemoveAll(b.analyzed())); err != nil {
		return err
	}
	return b.restoreToolchain()
}

// WithoutCache is NewImage on a machine that has nothing in its cache.
func (b *Bare) WithoutCache() error {
	return errors.Join(nar.RemoveAll(b.kept()), b.NewImage())
}

// HasLayer reports whether the last build left a layer of that name, with or without its directory.
func (b *Bare) HasLayer(name string) bool {
	_, err := os.Lstat(filepath.Join(b.Layers(), name+".toml"))
	return err == nil
}

// Roots are the store paths that the last build made its image of, as its launcher is told.
func (b *Bare) Roots() ([]string, error) {
	text, err := os.ReadFile(filepath.Join(b.Layers(), "run", launch.ConfigName))
	if err != nil {
		return nil, fmt.Errorf("reading the launcher's configuration: %w", err)
	}
	var config launch.Config
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("reading the launcher's configuration: %w", err)
	}
	return config.StorePaths, nil
}

// Processes are the image's process types with their command lines, as in launch.toml.
func (b *Bare) Processes() (map[string][]string, error) {
	var launch struct {
		Processes []struct {
			Type    string   `toml:"type"`
			Command []string `toml:"command"`
			Args    []string `toml:"args"`
		} `toml:"processes"`
	}
	if _, err := toml.DecodeFile(filepath.Join(b.Layers(), "launch.toml"), &launch); err != nil {
		return nil, fmt.Errorf("reading process types: %w", err)
	}
	all := map[string][]string{}
	for _, p := range launch.Processes {
		all[p.Type] = append(slices.Clone(p.Command), p.Args...)
	}
	return all, nil
}

// Start runs a program in the image's environment, as "docker run IMAGE program args" would, and gives its output.
func (b *Bare) Start(ctx context.Context, args ...string) (string, error) {
	launcher := filepath.Join(b.Layers(), "launcher/bin")
	command := exec.CommandContext(ctx, filepath.Join(launcher, "run_proot.sh"), args...)
	command.Dir = b.App()
	command.Env = []string{"PATH=" + launcher + ":" + os.Getenv("PATH"), "HOME=" + b.App(),
		"NIX_HYDRA_LAUNCH=" + filepath.Join(b.Layers(), "run/nix-hydra.json")}
	out, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("starting %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}
