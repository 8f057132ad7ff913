package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings is the nix.conf of the rig's stores: builds run, nothing is downloaded.
const settings = `sandbox = false
build-users-group =
filter-syscalls = false
substituters =
trusted-public-keys =
require-sigs = false
experimental-features = nix-command flakes
max-jobs = 2
warn-dirty = false
`

// How a Store shows its directory as /nix to the programs it runs.
const (
	byNamespace = "namespace" // a mount namespace, with a user namespace where not root
	byDocker    = "docker"    // a container with the directory as a volume
	byPRoot     = "proot"     // Debian's PRoot
)

// Store is a private Nix store in which real Nix builds: a directory that the programs it runs see as /nix. This
// machine's own /nix, if there is one, is neither read nor changed.
type Store struct {
	rig *Rig
	nix *Nix
	dir string
	by  string
}

// Store gives the rig's one shared store; another architecture has one of its own.
func (r *Rig) Store(ctx context.Context) (*Store, error) {
	if r.foreign() {
		return r.StoreAt(ctx, filepath.Join(r.dir, "store-"+r.arch))
	}
	return r.StoreAt(ctx, filepath.Join(r.dir, "store"))
}

// StoreAt gives a store in a directory of the caller's, made when missing.
func (r *Rig) StoreAt(ctx context.Context, dir string) (*Store, error) {
	nix, err := r.Nix(ctx)
	if err != nil {
		return nil, err
	}
	for _, directory := range []string{"nix/store", "nix/var", "home", "etc", "mnt"} {
		if err := os.MkdirAll(filepath.Join(dir, directory), 0o755); err != nil {
			return nil, fmt.Errorf("preparing store: %w", err)
		}
	}
	conf, want := filepath.Join(dir, "etc/nix.conf"), settings
	if r.foreign() {
		want += "system = " + r.System() + "\nextra-platforms = " + r.host().System() + "\n"
	}
	if old, err := os.ReadFile(conf); err != nil || string(old) != want {
		if err := os.WriteFile(conf, []byte(want), 0o644); err != nil {
			return nil, fmt.Errorf("preparing store: %w", err)
		}
	}
	s := &Store{rig: r, nix: nix, dir: dir}
	return s, s.choose(ctx)
}

// Dir is the directory that holds nix/store.
func (s *Store) Dir() string { return s.dir }

// Real is where a path below /nix lies on this machine.
func (s *Store) Real(path string) string { return filepath.Join(s.dir, path) }

// choose finds the cheapest way to show the directory as /nix that works here.
func (s *Store) choose(ctx context.Context) error {
	var failed error
	for _, way := range []string{byNamespace, byDocker, byPRoot} {
		s.by = way
		_, err := s.Run(ctx, "test", "-d", "/nix/store")
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, fmt.Errorf("%s: %w", way, err))
	}
	return fmt.Errorf("finding a way to show a directory as /nix: %w", failed)
}

// Run runs a program with /nix being this store and gives its standard output; the programs of Nix are on its PATH.
func (s *Store) Run(ctx context.Context, name string, args ...string) (string, error) {
	return s.RunIn(ctx, "", name, args...)
}

// RunIn is Run in a directory that the program shall see in any case and works in; "" is the current one.
func (s *Store) RunIn(ctx context.Context, dir, name string, args ...string) (string, error) {
	command, err := s.CommandIn(ctx, dir, name, args...)
	if err != nil {
		return "", err
	}
	out, err := output(command)
	var failed *CommandError
	if errors.As(err, &failed) {
		failed.Name, failed.Args = name, args
	}
	return out, err
}

// Lines is Run for programs that print a list: the lines that are not empty.
func (s *Store) Lines(ctx context.Context, name string, args ...string) ([]string, error) {
	out, err := s.Run(ctx, name, args...)
	return strings.Fields(out), err
}

// Command is what Run runs, for callers who connect its input and output themselves. It works in the current directory;
// /tmp, the current directory and the cache directory are the same inside. Changing its Env or Dir has no effect inside.
func (s *Store) Command(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	return s.CommandIn(ctx, "", name, args...)
}

// CommandIn is Command in another directory than the current one.
func (s *Store) CommandIn(ctx context.Context, here, name string, args ...string) (*exec.Cmd, error) {
	here, err := filepath.Abs(here)
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", name, err)
	}
	program := append([]string{"/usr/bin/env", "-i"}, s.environ()...)
	program = append(append(program, name), args...)
	var command *exec.Cmd
	switch s.by {
	case byNamespace:
		return sandbox{
			Root: "/", Mount: filepath.Join(s.dir, "mnt"), Binds: [][2]string{{"/nix", filepath.Join(s.dir, "nix")}}, Dir: here,
			Env: s.environ(), Args: append([]string{name}, args...),
		}.command(ctx), nil
	case byDocker:
		command, err = s.docker(ctx, here, program)
	case byPRoot:
		command, err = s.proot(ctx, here, program)
	default:
		err = fmt.Errorf("running %s: no way %q to show a directory as /nix", name, s.by)
	}
	if err != nil {
		return nil, err
	}
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	return command, nil
}

// environ is all of the environment that programs see.
func (s *Store) environ() []string {
	return []string{
		"PATH=" + s.nix.Bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + filepath.Join(s.dir, "home"),
		"NIX_CONF_DIR=" + filepath.Join(s.dir, "etc"),
		"NIX_REMOTE=local",
		"LANG=C.UTF-8",
		"TERM=dumb",
	}
}

func (s *Store) docker(ctx context.Context, here string, program []string) (*exec.Cmd, error) {
	images, err := s.rig.Images(ctx)
	if err != nil {
		return nil, err
	}
	user := strconv.Itoa(os.Getuid()) + ":" + strconv.Itoa(os.Getgid())
	args := []string{"run", "--rm", "-i", "--init", "--network", "host", "--user", user, "--workdir", here,
		"--volume", filepath.Join(s.dir, "nix") + ":/nix"}
	shown := map[string]bool{}
	for _, directory := range []string{s.rig.dir, s.dir, here, os.TempDir()} {
		if !shown[directory] {
			shown[directory] = true
			args = append(args, "--volume", directory+":"+directory)
		}
	}
	return exec.CommandContext(ctx, "docker", append(append(args, images.Run), program...)...), nil
}

func (s *Store) proot(ctx context.Context, here string, program []string) (*exec.Cmd, error) {
	proot, err := s.rig.Program(ctx, "proot", "proot")
	if err != nil {
		return nil, err
	}
	args := append([]string{"--kill-on-exit", "-b", filepath.Join(s.dir, "nix") + ":/nix", "-w", here}, program...)
	command := exec.CommandContext(ctx, proot, args...)
	command.Env = append(os.Environ(), "PROOT_NO_SECCOMP=1", "PROOT_DONT_POLLUTE_ROOTFS=1")
	return command, nil
}
