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
	command, err := l.rig.sandboxed(ctx, sandbox{
		Root: dir, Mount: filepath.Join(l.state, "mount"), Dir: file.Config.WorkingDir, User: User, Group: Group,
		Env: environ, Args: append([]string{"/cnb/process/" + process}, args...),
	})
	if err != nil {
		return nil, err
	}
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
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Stop sends SIGTERM, waits, and gives the exit code and how long it took. A process that does not end within ten
// seconds is killed, code 137.
func (p *Process) Stop() (code int, took time.Duration) {
	start := time.Now()
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.command.Process.Kill()
		<-p.done
	}
	return p.Wait(), time.Since(start)
}

// Wait waits for the end and gives the exit code, 128 and the signal's number when a signal ended it.
func (p *Process) Wait() int {
	<-p.done
	if status, ok := p.command.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.command.ProcessState.ExitCode()
}

// Output is what the process wrote, once it has ended.
func (p *Process) Output() string {
	<-p.done
	return p.output.String()
}
