package launch

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// noFile in syscall.ProcAttr.Files is a descriptor that the child does not have.
const noFile = ^uintptr(0)

// descriptors lists a child's files for syscall.ForkExec: its standard streams, those that this process inherited
// under the same numbers, and extra ones, of which the first gets the number that is returned.
//
// A descriptor that is merely left open for the child is not safe: between fork and exec, ForkExec moves files and its own
// pipe to the numbers above the end of the list, whatever is open there (golang/go#61751). So the list has all that a child is
// to have.
func descriptors(files [3]*os.File, inherited []int, extra ...*os.File) (list []uintptr, firstExtra int) {
	for _, file := range files {
		list = append(list, file.Fd())
	}
	for _, fd := range inherited {
		for len(list) < fd {
			list = append(list, noFile)
		}
		list = append(list, uintptr(fd))
	}
	firstExtra = len(list)
	for _, file := range extra {
		list = append(list, file.Fd())
	}
	return list, firstExtra
}

// inherited lists the descriptors above the standard ones, in ascending order, that this process was started with and that
// are meant for its children too, as sockets are passed by LISTEN_FDS: all that are not closed on exec. Do not call it while
// another goroutine forks: syscall.ForkExec opens a file for a user namespace that is not closed on exec either.
func inherited() (list []int) {
	limit := 1024 // where /proc is not mounted
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		limit = 0
		for _, entry := range entries {
			if fd, err := strconv.Atoi(entry.Name()); err == nil {
				limit = max(limit, fd+1)
			}
		}
	}
	for fd := 3; fd < limit; fd++ {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			list = append(list, fd)
		}
	}
	return list
}
