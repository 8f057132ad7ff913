//go:build amd64 || arm64

package launch

import (
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// siKernel is the si_code of a signal that the kernel sent, sigaction(2). SIGINT, SIGQUIT and SIGTSTP are that when
// somebody pressed a terminal's key for them, and then every process of the foreground process group gets them.
const siKernel = 0x80

// siSeen takes the place of siKernel in codes once somebody has seen it. No signal has it.
const siSeen = 0x81

// keys lists the signals that a terminal has keys for.
var keys = []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP}

// codes has the si_code of the last signal of each number below 32, by note.
var codes [32]uint32

// onward is the handler that note goes on to: the Go runtime's.
var onward uintptr

// note is a signal handler that keeps a signal's si_code, which the Go runtime does not hand out, and goes on to the
// runtime's. It follows the C ABI and is not to be called.
func note()

// noteAddress returns the address of note.
func noteAddress() uintptr

// noteSenders makes fromKeys know, for signals that come from now on. The signals must have been asked for.
func noteSenders() {
	for _, sig := range keys {
		var action sigaction
		if signal.Ignored(sig) || action.get(sig) != nil || action.handler <= 1 || action.handler == noteAddress() {
			continue // not caught (SIG_DFL is 0, SIG_IGN is 1), or done
		}
		onward, action.handler = action.handler, noteAddress()
		_ = action.set(sig)
	}
}

// fromKeys reports whether the last signal of this number came by a terminal's key, so that the app, which is in the
// same process group, has got it as well. pressed then no longer has it.
func fromKeys(sig syscall.Signal) bool {
	if !slices.Contains(keys, sig) {
		return false
	}
	return atomic.CompareAndSwapUint32(&codes[sig], siKernel, siSeen) || atomic.LoadUint32(&codes[sig]) == siSeen
}

// pressed returns the signals that have come by a terminal's keys and that fromKeys was not yet asked about.
func pressed() (list []syscall.Signal) {
	for _, sig := range keys {
		if atomic.LoadUint32(&codes[sig]) == siKernel {
			list = append(list, sig)
		}
	}
	return list
}

// sigaction is the kernel's struct of this name on amd64 and arm64.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

func (a *sigaction) get(sig syscall.Signal) error { return rtSigaction(sig, nil, a) }
func (a *sigaction) set(sig syscall.Signal) error { return rtSigaction(sig, a, nil) }

func rtSigaction(sig syscall.Signal, action, old *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(action)),
		uintptr(unsafe.Pointer(old)), unsafe.Sizeof(action.mask), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
