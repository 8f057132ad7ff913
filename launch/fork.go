package launch

import (
	"encoding/binary"
	"io"
	"os"
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Exec ends every thread of a process but one. A signal that another of them has just taken is lost with it, and then nothing
// ends an app by the key that was pressed while it started. So where a program that this process becomes may be sent one, no
// handler of the Go runtime takes it: this process has the kernel's own for such signals (execInPlace), or is of one thread
// only (forkExec).

// endings lists the signals by which people and platforms end or stop a program and that this process does not ignore: a
// program that is started with one ignored, as by nohup, keeps that.
func endings() (list []syscall.Signal) {
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGTSTP} {
		if !signal.Ignored(sig) {
			list = append(list, sig)
		}
	}
	return list
}

// execInPlace makes a command take this process's place. It returns only an error.
func execInPlace(cmd *command) error {
	for _, sig := range endings() {
		setDefault(sig)
	}
	return syscall.Exec(cmd.path, cmd.argv, cmd.env)
}

// setDefault gives a signal the kernel's handler, past the Go runtime's own.
//
//go:norace
//go:nosplit
func setDefault(sig syscall.Signal) {
	var byDefault action
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
}

// forkExec starts a command in a process group of its own, to which a terminal is given before (tty, -1 for none), and which
// gets dies when this process ends. It has this process's descriptors, with stderr as its standard error. The error is that
// of exec.
func forkExec(cmd *command, stderr *os.File, tty int, dies syscall.Signal) (int, error) {
	if tty < 0 {
		list, _ := descriptors([3]*os.File{os.Stdin, os.Stdout, stderr}, inherited())
		sys := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: dies}
		return syscall.ForkExec(cmd.path, cmd.argv, &syscall.ProcAttr{Env: cmd.env, Files: list, Sys: sys})
	}
	path, err := syscall.BytePtrFromString(cmd.path)
	if err != nil {
		return 0, err
	}
	argv, err := syscall.SlicePtrFromStrings(cmd.argv)
	if err != nil {
		return 0, err
	}
	env, err := syscall.SlicePtrFromStrings(cmd.env)
	if err != nil {
		return 0, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer func() { _ = read.Close() }()
	c := child{path: path, argv: &argv[0], env: &env[0], stderr: stderr.Fd(), tty: uintptr(tty), dies: uintptr(dies),
		report: write.Fd(), endings: endings()}
	_ = syscall.Exec("", nil, nil) // fails, having given back the limit of descriptors that Go has raised for itself
	syscall.ForkLock.Lock()
	pid, errno := c.fork()
	syscall.ForkLock.Unlock()
	_ = write.Close()
	if errno != 0 {
		return 0, errno
	}
	var failed [8]byte
	if _, err := io.ReadFull(read, failed[:]); err != nil {
		return pid, nil // exec has closed the pipe
	}
	_, _ = syscall.Wait4(pid, nil, 0, nil)
	return 0, syscall.Errno(binary.NativeEndian.Uint64(failed[:]))
}

// child is what a child needs between fork and exec, where nothing can be allocated.
type child struct {
	path                      *byte
	argv, env                 **byte
	stderr, tty, dies, report uintptr
	endings                   []syscall.Signal
}

// fork is syscall.ForkExec but for the terminal: os/exec can give it to a child only where the child then has SIGTTOU ignored
// or blocked for good, as nobody else may take it. Here every signal is blocked in the child until it has the terminal.
//
//go:norace
//go:noinline
func (c *child) fork() (pid int, errno syscall.Errno) {
	all, before := ^uint64(0), uint64(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&before)), 8, 0, 0)
	forked, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || forked != 0 {
		syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&before)), 0, 8, 0, 0)
		return int(forked), errno
	}
	own, _, _ := syscall.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
	group := int32(own)
	syscall.RawSyscall(unix.SYS_SETPGID, 0, 0, 0)
	syscall.RawSyscall(unix.SYS_IOCTL, c.tty, unix.TIOCSPGRP, uintptr(unsafe.Pointer(&group)))
	if c.dies != 0 {
		syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, c.dies, 0)
	}
	if c.stderr != 2 {
		syscall.RawSyscall(unix.SYS_DUP3, c.stderr, 2, 0)
	}
	for _, sig := range c.endings {
		setDefault(sig)
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&before)), 0, 8, 0, 0)
	_, _, failed := syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(c.path)), uintptr(unsafe.Pointer(c.argv)), uintptr(unsafe.Pointer(c.env)))
	number := uint64(failed)
	syscall.RawSyscall(unix.SYS_WRITE, c.report, uintptr(unsafe.Pointer(&number)), 8)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, exitCannotRun, 0, 0)
	}
}
