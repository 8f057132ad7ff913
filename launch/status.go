package launch

import (
	"os"
	"syscall"
	"time"
)

// status is how a program ended, in the kernel's wait status form.
type status uint32

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
	setDefault(sig)
	_ = syscall.Kill(os.Getpid(), sig)
	time.Sleep(time.Second)
}

// action is as large as the kernel's struct sigaction. Zeros are SIG_DFL, no flags, an empty mask.
type action [64]byte
