package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNoDocker says that no Docker engine answers here.
var ErrNoDocker = errors.New("no Docker engine answers (start one, or join its group)")

// Docker is nil where a Docker engine answers, else an error that wraps ErrNoDocker.
func (r *Rig) Docker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := run(ctx, "", "docker", "version", "--format", "{{.Server.Version}}"); err != nil {
		return fmt.Errorf("%w: %w", ErrNoDocker, err)
	}
	return nil
}

// apiVersion is the version of the engine's API, as "1.41".
func apiVersion(ctx context.Context) (string, error) {
	out, err := run(ctx, "", "docker", "version", "--format", "{{.Server.APIVersion}}")
	return strings.TrimSpace(out), err
}

// Confinement is how a container is shut in.
type Confinement string

// The confinements of hosts that apps run on.
const (
	// Default is Docker's own seccomp profile.
	Default Confinement = "default"
	// Hostile denies ptrace, namespaces and mounts, as Heroku does.
	Hostile Confinement = "hostile"
	// Unconfined has no seccomp profile, and AppArmor off.
	Unconfined Confinement = "unconfined"
)

// hostileProfile lets everything pass but what PRoot and namespaces need.
const hostileProfile = `{
  "defaultAction": "SCMP_ACT_ALLOW",
  "syscalls": [{
    "names": ["ptrace", "process_vm_readv", "process_vm_writev", "unshare", "setns", "mount", "umount2", "pivot_root",
      "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig", "mount_setattr", "chroot"],
    "action": "SCMP_ACT_ERRNO", "errnoRet": 1
  }, {
    "names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
    "args": [{"index": 0, "value": 268435456, "valueTwo": 268435456, "op": "SCMP_CMP_MASKED_EQ"}]
  }, {
    "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38
  }]
}
`

// SecurityOptions gives the arguments of docker run for a confinement.
func (r *Rig) SecurityOptions(ctx context.Context, confinement Confinement) ([]string, error) {
	switch confinement {
	case Default, "":
		return nil, nil
	case Unconfined:
		return []string{"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"}, nil
	case Hostile:
		dir, err := r.cached(ctx, "seccomp", []string{hostileProfile}, func(_ context.Context, dir, _ string) error {
			return os.WriteFile(filepath.Join(dir, "hostile.json"), []byte(hostileProfile), 0o644)
		})
		return []string{"--security-opt", "seccomp=" + filepath.Join(dir, "hostile.json")}, err
	}
	return nil, fmt.Errorf("no confinement %q", confinement)
}

// ContainerOptions say how Start and Output run an image: as 1001:1000, with all capabilities dropped and no new privileges.
type ContainerOptions struct {
	Confinement Confinement
	// ReadOnly makes the root file system read-only, with a /tmp in memory.
	ReadOnly   bool
	Env        map[string]string
	Entrypoint string
	Args       []string
	// More are further arguments of docker run, before the image.
	More []string
}

func (r *Rig) runArgs(ctx context.Context, image string, options ContainerOptions) ([]string, error) {
	security, err := r.SecurityOptions(ctx, options.Confinement)
	if err != nil {
		return nil, err
	}
	args := append([]string{"run", "--user", "1001:1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}, security...)
	if options.ReadOnly {
		args = append(args, "--read-only", "--tmpfs", "/tmp")
	}
	for name, value := range options.Env {
		args = append(args, "--env", name+"="+value)
	}
	if options.Entrypoint != "" {
		args = append(args, "--entrypoint", options.Entrypoint)
	}
	return append(append(append(args, options.More...), image), options.Args...), nil
}

// Output runs an image to its end and gives standard output, standard error and the exit code.
func (r *Rig) Output(
	ctx context.Context, image string, options ContainerOptions,
) (stdout, stderr string, code int, err error) {
	options.More = append([]string{"--rm"}, options.More...)
	args, err := r.runArgs(ctx, image, options)
	if err != nil {
		return "", "", 0, err
	}
	var out, errs strings.Builder
	command := exec.CommandContext(ctx, "docker", args...)
	command.Stdout, command.Stderr = &out, &errs
	err = command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return out.String(), errs.String(), exit.ExitCode(), nil
	}
	return out.String(), errs.String(), 0, err
}

// Container is a container that runs in the background.
type Container struct {
	ID string
}

// Start starts an image in the background on the host's network, so that it is reached on loopback.
func (r *Rig) Start(ctx context.Context, image string, options ContainerOptions) (*Container, error) {
	options.More = append([]string{"--detach", "--network", "host"}, options.More...)
	args, err := r.runArgs(ctx, image, options)
	if err != nil {
		return nil, err
	}
	out, err := run(ctx, "", "docker", args...)
	if err != nil {
		return nil, err
	}
	return &Container{ID: strings.TrimSpace(out)}, nil
}

// Logs gives what the container has written so far, standard output and standard error together.
func (c *Container) Logs(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", "logs", c.ID).CombinedOutput()
	return string(out), err
}

// Running says whether the container still runs.
func (c *Container) Running(ctx context.Context) bool {
	out, err := run(ctx, "", "docker", "inspect", "--format", "{{.State.Running}}", c.ID)
	return err == nil && strings.TrimSpace(out) == "true"
}

// Stop sends SIGTERM, waits, and gives the exit code and how long it took. A container that does not end within ten
// seconds is killed, code 137.
func (c *Container) Stop(ctx context.Context) (code int, took time.Duration, err error) {
	start := time.Now()
	if _, err := run(ctx, "", "docker", "stop", "--time", "10", c.ID); err != nil {
		return 0, 0, err
	}
	took = time.Since(start)
	out, err := run(ctx, "", "docker", "inspect", "--format", "{{.State.ExitCode}}", c.ID)
	if err != nil {
		return 0, took, err
	}
	_, err = fmt.Sscan(out, &code)
	return code, took, err
}

// Remove removes the container, running or not.
func (c *Container) Remove(ctx context.Context) error {
	_, err := run(ctx, "", "docker", "rm", "--force", c.ID)
	return err
}
