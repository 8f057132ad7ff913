package launch

import (
	"bytes"
	"errors"
	"os"
	"os/signal"
	"strconv"
	"sync"
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
	var fallback [64]byte // struct sigaction of zeros: SIG_DFL, no flags, empty mask
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&fallback)), 0, 8, 0, 0)
	_ = syscall.Kill(os.Getpid(), sig)
	time.Sleep(time.Second)
}

// child is a program that this process stays behind for.
type child struct {
	pid  int
	done chan struct{} // closed once the process is reaped, status being set

	status status

	// target is the process that signals go to: the app itself, which under PRoot is not the child. 0 until it is
	// known; signals then wait in early.
	target int
	early  []syscall.Signal
}

// keeper starts programs and does what a parent owes them: it forwards signals, reaps every child, adopted ones
// included, and knows the true status of each.
type keeper struct {
	mu       sync.Mutex
	children map[int]*child
	ending   syscall.Signal // the terminating signal that was received, 0 for none
	onEnd    func()
	watching bool
	wake     chan struct{}
}

func newKeeper() *keeper { return &keeper{children: map[int]*child{}, wake: make(chan struct{}, 1)} }

// errEnding refuses to start a program after a terminating signal.
var errEnding = errors.New("ending by a signal")

// spec is what a child is started with beyond what every program has.
type spec struct {
	path, dir string
	argv, env []string
	files     []uintptr
	inherit   []*os.File // passed on under the same descriptor numbers
	sys       *syscall.SysProcAttr
	deferred  bool // the target of signals is reported later, by aim
}

// start starts a child. Starts are serial, so that a descriptor made inheritable for one never leaks into another.
func (k *keeper) start(s spec) (*child, error) {
	k.watch()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending != 0 {
		return nil, errEnding
	}
	for _, file := range s.inherit {
		unix.CloseOnExec(int(file.Fd()))
		if _, err := unix.FcntlInt(file.Fd(), unix.F_SETFD, 0); err != nil {
			return nil, err
		}
	}
	pid, err := syscall.ForkExec(s.path, s.argv, &syscall.ProcAttr{Dir: s.dir, Env: s.env, Files: s.files, Sys: s.sys})
	for _, file := range s.inherit {
		unix.CloseOnExec(int(file.Fd()))
	}
	if err != nil {
		return nil, err
	}
	c := &child{pid: pid, target: pid, done: make(chan struct{})}
	if s.deferred {
		c.target = 0
	}
	k.children[pid] = c
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return c, nil
}

// aim says which process a deferred child's signals go to, and delivers those that came before it was known.
func (k *keeper) aim(c *child, pid int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c.target = pid
	for _, sig := range c.early {
		_ = syscall.Kill(pid, sig)
	}
	c.early = nil
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
	received := make(chan os.Signal, 64)
	signal.Notify(received, forwarded()...)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a built-in's broken pipe must not end this process
	go k.forward(received)
	go k.reap()
}

// forwarded lists the signals that are passed on: all that can be caught but those that only concern this process's
// own terminal job, faults and children.
func forwarded() []os.Signal {
	var list []os.Signal
	for n := syscall.Signal(1); n <= 64; n++ {
		switch n {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPIPE, syscall.SIGTSTP,
			syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL,
			syscall.SIGTRAP, syscall.SIGSYS, 32, 33:
			continue
		}
		list = append(list, n)
	}
	return list
}

func (k *keeper) forward(received <-chan os.Signal) {
	for s := range received {
		sig, ok := s.(syscall.Signal)
		if !ok {
			continue
		}
		ends := sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT
		// A terminal sends these to its whole foreground group, so the children have them already.
		shared := (sig == syscall.SIGINT || sig == syscall.SIGQUIT) && inForeground()
		k.mu.Lock()
		var onEnd func()
		if ends && k.ending == 0 {
			k.ending, onEnd = sig, k.onEnd
		}
		for _, c := range k.children {
			switch {
			case c.target == 0:
				c.early = append(c.early, sig)
			case !shared:
				_ = syscall.Kill(c.target, sig)
			}
		}
		k.mu.Unlock()
		if onEnd != nil {
			onEnd()
		}
	}
}

// inForeground reports whether this process is in the foreground group of its controlling terminal.
func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer func() { _ = tty.Close() }()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == syscall.Getpgrp()
}

// reap waits for every child there is, as long as the process lives.
func (k *keeper) reap() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			<-k.wake // no children: wait for the next start
			continue
		}
		k.mu.Lock()
		if c := k.children[pid]; c != nil {
			delete(k.children, pid)
			c.status = status(ws)
			close(c.done)
		}
		k.mu.Unlock()
	}
}

// wait waits for the child's end.
func (k *keeper) wait(c *child) status {
	<-c.done
	return c.status
}

// alive returns how many children are running.
func (k *keeper) alive() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.children)
}

// endedBy returns the terminating signal that was received, 0 for none.
func (k *keeper) endedBy() syscall.Signal {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ending
}

// signalAll sends sig to every running child.
func (k *keeper) signalAll(sig syscall.Signal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.children {
		if c.target != 0 {
			_ = syscall.Kill(c.target, sig)
		}
	}
}

// clear ends whatever programs left behind that became this process's children. PID 1 need not: its end is theirs.
func (k *keeper) clear() {
	k.mu.Lock()
	watching := k.watching
	k.mu.Unlock()
	if !watching || os.Getpid() == 1 {
		return
	}
	for range 10 { // the children of those that are killed are adopted in their turn
		if killAll("PPid", os.Getpid()) == 0 {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// killAll kills every process whose status in /proc has pid in the field, and returns how many there were.
func killAll(field string, pid int) int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	want, killed := []byte("\n"+field+":\t"+strconv.Itoa(pid)+"\n"), 0
	for _, e := range entries {
		other, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile("/proc/" + e.Name() + "/status")
		if err == nil && bytes.Contains(data, want) && !bytes.Contains(data, []byte("\nState:\tZ")) {
			_ = syscall.Kill(other, syscall.SIGKILL)
			killed++
		}
	}
	return killed
}

// release ends the parent's duties before a program takes this process's place.
func (k *keeper) release() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending != 0 {
		return errEnding
	}
	if k.watching {
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	}
	return nil
}
