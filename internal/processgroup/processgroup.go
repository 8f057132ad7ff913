// Package processgroup runs a program in a process group of its own, so that what it starts can be ended with it.
package processgroup

import (
	"errors"
	"os/exec"
	"syscall"
	"time"
)

// Run runs a command of exec.CommandContext. When the context ends, the command's group is sent a signal, and is killed where the
// command goes on for longer than grace; of what it has started nothing in its group is left then. What the command writes is
// read for at most output after its own end: what it leaves behind may hold its pipes. Errors: those of the command.
func Run(cmd *exec.Cmd, end syscall.Signal, grace, output time.Duration) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var killing *time.Timer
	cmd.Cancel = func() error {
		killing = time.AfterFunc(grace, kill)
		return syscall.Kill(-cmd.Process.Pid, end)
	}
	cmd.WaitDelay = output
	err := cmd.Run()
	if killing != nil {
		killing.Stop()
		kill()
	}
	if errors.Is(err, exec.ErrWaitDelay) { // the command itself has succeeded
		return nil
	}
	return err
}
