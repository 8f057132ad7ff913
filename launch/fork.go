package launch

import (
	"os"
	"os/signal"
	"syscall"
	"unsafe"
)

// execInPlace makes a command take this process's place. It returns only an error.
//
// A key that is pressed meanwhile must end the app, or this process. exec ends all threads but the one that calls it: a signal
// that the Go runtime's handler has just taken on another thread would be lost. So the signals by which people and platforms
// end or stop a program get the kernel's default action first, but for those that this process ignores, as nohup has it: the
// app is to ignore them too.
func execInPlace(cmd *command) error {
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGTSTP} {
		if !signal.Ignored(sig) {
			setDefault(sig)
		}
	}
	return syscall.Exec(cmd.path, cmd.argv, cmd.env)
}

// setDefault gives a signal the kernel's default action. signal.Reset would leave the Go runtime's handler.
func setDefault(sig syscall.Signal) {
	var byDefault action
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
}

// forkExec starts a command in a process group of its own, which is the foreground group of the terminal tty (-1 for none) before
// the command runs. The child has this process's descriptors, with stderr as its standard error, and is sent the signal dies
// when this process ends. The error is that of exec: a terminal that has gone away is no reason not to start.
//
// No key is lost, and no signal stays blocked in the app: syscall.ForkExec blocks all signals until the child has the terminal,
// which it could not take from the background otherwise (SIGTTOU), and gives them their default action before it unblocks them.
func forkExec(cmd *command, stderr *os.File, tty int, dies syscall.Signal) (int, error) {
	list, _ := descriptors([3]*os.File{os.Stdin, os.Stdout, stderr}, inherited())
	sys := &syscall.SysProcAttr{Setpgid: true, Foreground: tty >= 0, Ctty: tty, Pdeathsig: dies}
	attr := &syscall.ProcAttr{Env: cmd.env, Files: list, Sys: sys}
	pid, err := syscall.ForkExec(cmd.path, cmd.argv, attr)
	if err != nil && sys.Foreground {
		sys.Foreground = false
		return syscall.ForkExec(cmd.path, cmd.argv, attr)
	}
	return pid, err
}
