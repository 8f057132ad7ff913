package launch

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// app is a running app as its supervisor knows it.
type app struct {
	// child is this process's child: the app itself, or PRoot.
	child int
	// group is the app's process group, which signals go to. It is nobody else's.
	group int
	// reported has the app's end where it is not the child; it is closed where nobody knows. nil elsewhere.
	reported <-chan status
	// terminal is the standard stream whose terminal the group was given, -1 for none.
	terminal int
	// shell: the app is a shell that runs a line.
	shell bool
	// how is how its engine works, for the log, where there are several ways.
	how string
}

// supervisor is this process as the parent that an app needs under some engines, and as process 1. Like tini, it puts
// the app into a process group of its own and gives it the terminal, so that what the terminal sends reaches the app
// from the kernel, and what this process receives was sent to it: that it forwards to the group. It reaps every child,
// adopted ones included.
type supervisor struct {
	signals chan os.Signal
	// early are signals that came before the app was up.
	early []syscall.Signal
	// terminated: the app was sent a terminating signal, and may take its time to end.
	terminated bool
}

// drainPoll is how often a supervisor looks whether an app that is ending has ended as a whole.
const drainPoll = 20 * time.Millisecond

// interruptedError says that a terminating signal came before the app was up.
type interruptedError struct{ signal syscall.Signal }

func (e *interruptedError) Error() string { return fmt.Sprintf("ended by %v", e.signal) }

// forwarded lists the signals that are passed on. Not among them are those that cannot be caught, those that are this
// process's own (its children's ends, its writes into closed pipes, the Go runtime's preemption and profiling), those
// that the C library and Go keep for threads, and those that this process was started to ignore, as nohup does.
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

// watch begins to catch signals, once.
func (s *supervisor) watch() {
	if s.signals == nil {
		s.signals = make(chan os.Signal, 64)
		signal.Notify(s.signals, append(forwarded(), syscall.SIGCHLD)...)
	}
}

// run starts an app and stays as its parent until it ends, with all that it has left behind.
func (s *supervisor) run(start func() (*app, error)) (status, error) {
	s.watch()
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	a, err := start()
	if err != nil {
		endOrphans() // a PRoot that is killed while it starts leaves its first program, stopped and not yet its own
		return 0, err
	}
	if a.terminal >= 0 {
		signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU) // the app has the terminal now: a message of this process must not stop it
	}
	for _, sig := range s.early {
		s.forward(a, sig)
	}
	st := s.wait(a)
	if a.child != a.group {
		endTraced(a.child)
	}
	giveTerminal(a.terminal, unix.Getpgrp())
	endOrphans()
	return st, nil
}

// await waits for the outcome of an engine's start. A terminating signal that comes meanwhile, and the end of the
// engine's process, call hurry, once.
func await[T any](s *supervisor, engine int, outcome <-chan T, hurry func()) T {
	hurried := sync.OnceFunc(hurry)
	for {
		select {
		case result := <-outcome:
			return result
		case received := <-s.signals:
			switch sig := received.(syscall.Signal); {
			case sig != syscall.SIGCHLD:
				s.early = append(s.early, sig)
				if terminating(sig) {
					hurried()
				}
			case hasEnded(engine):
				hurried()
			}
		}
	}
}

// hasEnded reports whether a child is a zombie, and leaves it one.
func hasEnded(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo != 0
}

// interrupted is the error of a start that a terminating signal has ended, nil where none came.
func (s *supervisor) interrupted() error {
	for _, sig := range s.early {
		if terminating(sig) {
			return &interruptedError{sig}
		}
	}
	return nil
}

// wait forwards and reaps until the app has ended. Of a line that a shell runs the shell is the first to end by a
// terminating signal; what it ran has got the signal too and may be ending as it should, so that the whole group is
// waited for, as long as whoever sent the signal lets it.
func (s *supervisor) wait(a *app) (st status) {
	ended := false
	var poll <-chan time.Time
	reported := a.reported
	for {
		if child, over := s.reap(a); over && !ended {
			st, ended = reportedOr(reported, child), true
		}
		if ended {
			if !s.terminated || !a.shell || syscall.Kill(-a.group, 0) != nil {
				return st
			}
			poll = time.After(drainPoll)
		}
		select {
		case received := <-s.signals:
			if sig := received.(syscall.Signal); sig != syscall.SIGCHLD {
				s.forward(a, sig)
			}
		case end, known := <-reported:
			reported = nil
			if known {
				st, ended = end, true
			}
		case <-poll:
		}
	}
}

// reportedOr is the app's end as it is reported, else that of the child.
func reportedOr(reported <-chan status, child status) status {
	if reported == nil {
		return child
	}
	select {
	case end, known := <-reported:
		if known {
			return end
		}
	case <-time.After(exitGrace):
	}
	return child
}

// forward passes a signal on to the app's group.
func (s *supervisor) forward(a *app, sig syscall.Signal) {
	s.terminated = s.terminated || terminating(sig)
	_ = syscall.Kill(-a.group, sig)
	if a.reported != nil && (sig == syscall.SIGTSTP || sig == syscall.SIGTTIN || sig == syscall.SIGTTOU) {
		stopWith(a) // an app that is no child of this process cannot be seen to stop
	}
}

// reap takes the status of every child that has ended, adopted ones included, and returns the app's child's. A child
// that stops takes this process with it.
func (s *supervisor) reap(a *app) (st status, ended bool) {
	for {
		var ws syscall.WaitStatus
		pid, _ := syscall.Wait4(-1, &ws, syscall.WNOHANG|syscall.WUNTRACED, nil)
		switch {
		case pid <= 0: // none has ended, or there is none
			return st, ended
		case ws.Stopped() && pid == a.child:
			stopWith(a)
		case pid == a.child:
			st, ended = status(ws), true
		}
	}
}

// stopWith stops this process as its app has stopped, so that a shell with job control sees it, and gives the app the
// terminal again when it is continued; SIGCONT is forwarded as any signal is. Process 1 cannot be stopped.
func stopWith(a *app) {
	if os.Getpid() == 1 {
		return
	}
	giveTerminal(a.terminal, unix.Getpgrp())
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), syscall.SIGSTOP) // to this thread: it has stopped when this returns
	if terminal() == a.terminal {
		giveTerminal(a.terminal, a.group)
	}
}

// orphansGrace is how long what is killed may take to be gone: on a busy machine that is more than one turn of it.
const orphansGrace = 2 * time.Second

// endOrphans kills what has become a child of this process without being waited for, until there is no child any more: the
// children of those that are killed are adopted in their turn. Process 1 need not: its end is theirs.
func endOrphans() {
	if os.Getpid() == 1 {
		return
	}
	for deadline := time.Now().Add(orphansGrace); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		killAll("PPid", os.Getpid())
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if err == syscall.ECHILD {
				return
			}
			if pid <= 0 {
				break
			}
		}
	}
}

// killAll kills every process whose status in /proc has pid in the field.
func killAll(field string, pid int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	want := []byte("\n" + field + ":\t" + strconv.Itoa(pid) + "\n")
	for _, e := range entries {
		other, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile("/proc/" + e.Name() + "/status")
		if err == nil && bytes.Contains(data, want) {
			_ = syscall.Kill(other, syscall.SIGKILL)
		}
	}
}
