package launch

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal is the standard stream that is the terminal whose foreground process group this process is in, -1 for none.
func terminal() int {
	for fd := range 3 {
		if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && group == unix.Getpgrp() {
			return fd
		}
	}
	return -1
}

// giveTerminal makes a process group the foreground one of a terminal; -1 stands for none.
func giveTerminal(fd, group int) {
	if fd >= 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group)
	}
}

// takeTerminal makes this process's group, which is a new one, the foreground one of a terminal. That is done from
// inside, before the app is started, so that the app never reads from a terminal that is not yet its own.
func takeTerminal(fd int) {
	if fd < 0 {
		return
	}
	if !signal.Ignored(syscall.SIGTTOU) {
		signal.Ignore(syscall.SIGTTOU)
		defer signal.Notify(make(chan os.Signal, 1), syscall.SIGTTOU) // exec makes what is caught the default again
	}
	giveTerminal(fd, unix.Getpgrp())
}
