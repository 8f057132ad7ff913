package launch

import (
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
