package rig

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Process is a process of an image, started without a container engine.
type Process struct {
	command *exec.Cmd
	done    chan struct{}
	output  strings.Builder
}

// Start unpacks an image into dir, unless dir exists, and starts a process type of it ("web") there, as the image's
// user, with the environment given beside the image's own.
func (l *Lifecycle) Start(
	ctx context.Context, image, dir, process string, env map[string]string, args ...string,
) (*Process, error) {
	if _, err := os.Stat(dir); err != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if err := l.Unpack(image, dir); err != nil {
			return nil, err
		}
	}
	built, err := l.Image(image)
	if err != nil {
		return nil, err
	}
	file, err := built.ConfigFile()
	if err != nil {
		return nil, err
	}
	environ := append([]string{"HOME=/home/cnb"}, file.Config.Env...)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		environ = append(environ, name+"="+env[name])
	}
	command := sandbox{
		Root: dir, Mount: filepath.Join(l.state, "mount"), Binds: kernel, Dir: file.Config.WorkingDir, User: User, Group: Group,
		Env: environ, Args: append([]string{"/cnb/process/" + process}, args...),
	}.command(ctx)
	p := &Process{command: command, done: make(chan struct{})}
	command.Stdout, command.Stderr = &p.output, &p.output
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", process, err)
	}
	go func() {
		_ = command.Wait()
		close(p.done)
	}()
	return p, nil
}

// Running says whether the process still runs.
func (p *Process) Running(context.Context) bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Stop sends SIGTERM, waits, and gives the exit code, 128 and the signal's number when a signal ended it, and how long it
// took. A process that does not end within ten seconds is killed.
func (p *Process) Stop(context.Context) (code int, took time.Duration, err error) {
	start := time.Now()
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.command.Process.Kill()
		<-p.done
	}
	took = time.Since(start)
	if status, ok := p.command.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), took, nil
	}
	return p.command.ProcessState.ExitCode(), took, nil
}

// Logs is what the process has written, once it has ended.
func (p *Process) Logs(context.Context) (string, error) {
	<-p.done
	return p.output.String(), nil
}
