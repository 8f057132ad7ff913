package rig

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// CommandError is a program that failed.
type CommandError struct {
	Name   string   // the program's base name
	Args   []string // its arguments
	Stderr string   // what it wrote to standard error
	Err    error    // how it ended, often an *exec.ExitError
}

// Error is one line with the end of what the program said.
func (e *CommandError) Error() string {
	var lines []string
	for _, line := range strings.Split(e.Stderr, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) > 12 {
		lines = lines[len(lines)-12:]
	}
	said := strings.Join(lines, "; ")
	args := strings.Join(e.Args, " ")
	if len(args) > 300 {
		args = args[:300] + "..."
	}
	return fmt.Sprintf("running %s %s: %v: %s", e.Name, args, e.Err, said)
}

// Unwrap is how the program ended.
func (e *CommandError) Unwrap() error { return e.Err }

// output runs the command and gives its standard output.
func output(command *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	if command.Stdout == nil {
		command.Stdout = &stdout
	}
	if command.Stderr == nil {
		command.Stderr = &stderr
	}
	if err := command.Run(); err != nil {
		return stdout.String(), &CommandError{
			Name: filepath.Base(command.Path), Args: command.Args[1:], Stderr: stderr.String(), Err: err,
		}
	}
	return stdout.String(), nil
}

// run runs a program of this machine and gives its standard output.
func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = dir
	return output(command)
}
