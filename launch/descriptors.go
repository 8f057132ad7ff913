package launch

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// noFile is how syscall.ForkExec takes a descriptor that is closed in the child.
const noFile = ^uintptr(0)

// descriptors lists a child's files for syscall.ForkExec: its standard streams, those that this process inherited
// under the same numbers, and extra ones, of which the first gets the number that is returned.
//
// What is not in that list is not safe: between fork and exec ForkExec moves files, and its own pipe, to numbers just
// above the highest that it was given, whatever is open there (golang/go#61751). So everything that a child is to have
// is in the list, and never passed by leaving it open.
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

// inherited lists the descriptors above the standard ones, in ascending order, that this process was started with for
// its children too, as sockets are passed by LISTEN_FDS. It is not to be asked while a fork is under way: what this
// process opens itself is closed on exec, but for a file that syscall.ForkExec opens for a user namespace.
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
