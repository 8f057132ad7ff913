package launch

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwarded lists the signals that are passed on. Not among them are those that cannot be caught, those that are this
// process's own (its children's ends, its writes into closed pipes, the Go runtime's preemption and profiling), those
// that the C library and Go keep for threads, and those that this process was told to ignore, as nohup does.
func forwarded() []os.Signal {
	var list []os.Signal
	for n := syscall.Signal(1); n <= 64; n++ {
		switch n {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGPIPE, syscall.SIGURG, syscall.SIGPROF, 32, 33, 34:
			continue
		}
		if !signal.Ignored(n) {
			list = append(list, n)
		}
	}
	return list
}

// terminating reports whether a signal asks a program to end.
func terminating(sig syscall.Signal) bool {
	return sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT
}

// stopping reports whether a signal asks a program to stop until it is continued.
func stopping(sig syscall.Signal) bool {
	return sig == syscall.SIGTSTP || sig == syscall.SIGTTIN || sig == syscall.SIGTTOU
}

// watch begins to reap and to forward, once: from then on this process is a parent.
func (k *keeper) watch() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.watching {
		return
	}
	k.watching = true
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	received, ended := make(chan os.Signal, 64), make(chan os.Signal, 1)
	signal.Notify(received, forwarded()...)
	signal.Notify(ended, syscall.SIGCHLD)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a built-in's broken pipe must not end this process
	noteSenders()
	go func() {
		for s := range received {
			k.forward(s.(syscall.Signal))
		}
	}()
	go func() {
		for range ended {
			k.reap()
		}
	}()
}

// forward passes a signal on to every child.
func (k *keeper) forward(sig syscall.Signal) {
	onEnd := func() {}
	k.mu.Lock()
	shared := fromKeys(sig) // the children have it already
	if terminating(sig) {
		k.asked = true
		if k.trap == nil || !k.trap(sig) {
			onEnd = k.begin(sig)
		}
	}
	for _, c := range k.children {
		if !shared {
			c.send(sig)
		}
		c.told = c.told || terminating(sig)
	}
	k.mu.Unlock()
	onEnd()
	if stopping(sig) && os.Getpid() != 1 {
		stopBy(sig)
	}
}
