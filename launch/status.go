package launch

import (
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// status is how a program ended, in the kernel's wait status form.
type status uint32

// exited is the status of a program that ended by itself.
func exited(code int) status { return status(code&0xff) << 8 }

func (s status) wait() syscall.WaitStatus { return syscall.WaitStatus(s) }

// code is the exit status a shell would show: 128+n for a program killed by signal n.
func (s status) code() int {
	if ws := s.wait(); ws.Signaled() {
		return exitSignal + int(ws.Signal())
	}
	return s.wait().ExitStatus()
}

// exit ends this process as the program ended: killed by the same signal where that is possible, which it is not for
// PID 1; otherwise it returns the exit status to end with.
func (s status) exit() int {
	if ws := s.wait(); ws.Signaled() && os.Getpid() != 1 {
		dieBy(ws.Signal())
	}
	return s.code()
}

// dieBy kills this process by sig, past the Go runtime's own handlers, and leaves no second core file.
func dieBy(sig syscall.Signal) {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	setAction(sig, &action{}, nil)
	_ = syscall.Kill(os.Getpid(), sig)
	time.Sleep(time.Second)
}

// stopBy does to this process what the kernel does by a stop signal that nobody catches. It returns when the process
// is continued.
func stopBy(sig syscall.Signal) {
	runtime.LockOSThread() // the signal goes to one thread, so that it has come before the handler is back
	defer runtime.UnlockOSThread()
	var handler action
	setAction(sig, &action{}, &handler)
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
	setAction(sig, &handler, nil)
}

// action has room for the kernel's struct sigaction. Zeros are SIG_DFL, no flags, an empty mask.
type action [64]byte

func setAction(sig syscall.Signal, to, from *action) {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(to)),
		uintptr(unsafe.Pointer(from)), 8, 0, 0)
}
