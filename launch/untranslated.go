package launch

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// untranslated are the system calls that take a file's name, or make a ring that takes them, and that no PRoot up to 5.4.1
// knows, on either architecture (its src/syscall/sysnums-*.h and enter.c). It lets them through, and the kernel then looks
// for /nix/store where there is none.
var untranslated = []uint32{
	unix.SYS_EXECVEAT, unix.SYS_OPENAT2, unix.SYS_FCHMODAT2, unix.SYS_IO_URING_SETUP, unix.SYS_OPEN_TREE,
	unix.SYS_SETXATTRAT, unix.SYS_GETXATTRAT, unix.SYS_LISTXATTRAT, unix.SYS_REMOVEXATTRAT, unix.SYS_OPEN_TREE_ATTR,
	unix.SYS_FILE_GETATTR, unix.SYS_FILE_SETATTR,
}

// newerCalls are the system calls that some PRoots know and others do not: 5.4 knows faccessat2 on amd64 and not on arm64.
var newerCalls = map[string]uint32{"statx": unix.SYS_STATX, "faccessat2": unix.SYS_FACCESSAT2}

// withhold makes the system calls that PRoot does not translate fail in this process and all that it starts, as if the kernel did
// not have them; of newerCalls, those that are named. Programs then use an older call, which PRoot does translate. So do glibc's
// eaccess, which the shells' test -x calls, its stat and its fexecve.
func withhold(newer []string) error {
	calls := untranslated
	for _, name := range newer {
		calls = append(calls[:len(calls):len(calls)], newerCalls[name])
	}
	filter := withholding(calls)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) // else only root may add a filter
	// The filter is for all threads of this process: any of them may start the app.
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return errno
	}
	return nil
}

// withholding is a seccomp filter by which system calls of these numbers fail with ENOSYS (struct seccomp_data in
// linux/seccomp.h: the number is at 0, the architecture at 4).
func withholding(calls []uint32) []unix.SockFilter {
	machine := uint32(unix.AUDIT_ARCH_X86_64)
	if runtime.GOARCH == "arm64" {
		machine = unix.AUDIT_ARCH_AARCH64
	}
	const load, jumpIfEqual, give = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
		unix.BPF_RET | unix.BPF_K
	n := uint8(len(calls))
	filter := []unix.SockFilter{
		{Code: load, K: 4},
		{Code: jumpIfEqual, K: machine, Jf: n + 1},
		{Code: load, K: 0},
	}
	for i, call := range calls {
		filter = append(filter, unix.SockFilter{Code: jumpIfEqual, K: call, Jt: n - uint8(i)})
	}
	return append(filter, unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
}
