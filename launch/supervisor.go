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
	// pgid is the app's process group, which signals are sent to. Only the app and what it has started are in it.
	pgid int
	// reported gives the app's status where the app is not the child, and is closed without one where the status cannot be
	// known. It is nil where the app is the child.
	reported <-chan status
	// terminal is the standard stream whose terminal the app was given, -1 for none.
	terminal int
	// shell says that the app is a shell that runs a line.
	shell bool
	// how says in which way the engine works, for the log; "" where it has only one.
	how string
}

// supervisor is this process as the parent that an app needs under some engines, and as process 1. Like tini, it puts
// the app into a process group of its own and gives it the terminal. The kernel then sends the signals of a terminal's keys to
// the app alone, so every signal that this process receives was sent to it, and is forwarded to the group. It reaps every
// child, adopted ones included.
type supervisor struct {
	signals chan os.Signal
	// early are signals that came before the app was up.
	early []syscall.Signal
	// terminated: the app was sent a terminating signal, and may take its time to end.
	terminated bool
}

// drainPoll is how often a supervisor looks whether anything of a group that was told to end is left.
const drainPoll = 20 * time.Millisecond

// interruptedError says that a terminating signal came before the app was up.
type interruptedError struct{ signal syscall.Signal }

func (e *interruptedError) Error() string { return fmt.Sprintf("ended by %v", e.signal) }

// forwarded lists the signals that are forwarded. Left out are those that cannot be caught, those that this process causes
// itself (a child ends, a pipe is closed, the Go runtime preempts and profiles), those that C libraries and Go use for threads,
// and those that this process was started with ignored, as nohup does.
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

// run starts an app and stays as its parent until the app and all that it has left behind have ended.
func (s *supervisor) run(start func() (*app, error)) (status, error) {
	s.watch()
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	a, err := start()
	if err != nil {
		endOrphans() // PRoot that is killed early leaves its first program, which is stopped and not yet traced
		return 0, err
	}
	if a.terminal >= 0 {
		signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU) // the app has the terminal: to write a message there must not stop this process
	}
	for _, sig := range s.early {
		s.forward(a, sig)
	}
	st := s.wait(a)
	if a.child != a.pgid {
		endTraced(a.child)
	}
	giveTerminal(a.terminal, unix.Getpgrp())
	endOrphans()
	return st, nil
}

// await waits for the outcome of an engine's start. It calls hurry, once, when a terminating signal comes or the engine's process
// ends.
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

// hasEnded reports whether a child has ended, without reaping it.
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

// wait forwards signals and reaps until the app has ended, and returns the app's status. A shell that runs a line may end by a
// terminating signal at once, while the programs that it started, which got the signal too, still finish their work: then
// the whole group is waited for. Whoever has sent the signal limits that by SIGKILL.
func (s *supervisor) wait(a *app) (st status) {
	ended := false
	var poll <-chan time.Time
	reported := a.reported
	for {
		if child, over := s.reap(a); over && !ended {
			st, ended = reportedOr(reported, child), true
		}
		if ended {
			if !s.terminated || !a.shell || syscall.Kill(-a.pgid, 0) != nil {
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

// reportedOr is the app's status where it is reported, else the child's.
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
	_ = syscall.Kill(-a.pgid, sig)
	if a.reported != nil && (sig == syscall.SIGTSTP || sig == syscall.SIGTTIN || sig == syscall.SIGTTOU) {
		stopWith(a) // an app that is no child of this process cannot be seen to stop
	}
}

// reap reaps every child that has ended, adopted ones included, and returns the status of the app's if that is one of them. If
// the app's has stopped, this process stops too.
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

// stopWith stops this process after its app has stopped, so that the shell that has started it sees that. When this process is
// continued, it gives the app the terminal again; SIGCONT itself is forwarded like any signal. Process 1 cannot be stopped.
func stopWith(a *app) {
	if os.Getpid() == 1 {
		return
	}
	giveTerminal(a.terminal, unix.Getpgrp())
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), syscall.SIGSTOP) // to this thread: it has stopped when this returns
	if terminal() == a.terminal {
		giveTerminal(a.terminal, a.pgid)
	}
}

// orphansGrace is how long endOrphans waits for killed processes to end, which takes a while on a busy machine.
const orphansGrace = 2 * time.Second

// endOrphans kills the children that this process still has, most of them adopted, until there are none: the children of a killed
// one are adopted in turn. Process 1 leaves that to the kernel, which kills all of a container when its process 1 exits.
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

// killAll kills every process in whose /proc/<pid>/status the field, PPid or TracerPid, has the value pid.
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
