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

// exit ends this process by the signal that has killed the program. Where none has, and for process 1, which cannot be killed so,
// it returns the exit status to end with.
func (s status) exit() int {
	if ws := s.wait(); ws.Signaled() && os.Getpid() != 1 {
		dieBy(ws.Signal())
	}
	return s.code()
}

// dieBy kills this process by sig, which the Go runtime would handle. The app may have left a core file; this process leaves none.
func dieBy(sig syscall.Signal) {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	setDefault(sig)
	_ = syscall.Kill(os.Getpid(), sig)
	time.Sleep(time.Second)
}

// action stands for the kernel's struct sigaction, which is not larger. Zeros are SIG_DFL, no flags and an empty mask.
type action [64]byte
