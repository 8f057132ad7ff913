package launch

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a program that this process stays behind for.
type child struct {
	pid  int
	done chan struct{} // closed once the process is reaped, status being set

	status status

	// target is the process that signals go to: the app itself, which under PRoot is not the child. 0 until it is
	// known; signals then wait in early.
	target int
	early  []syscall.Signal

	// told: it got a terminating signal.
	told bool
}

// keeper starts programs and does what a parent owes them: it forwards signals, reaps every child, adopted ones
// included, and knows the true status of each.
type keeper struct {
	mu       sync.Mutex
	children map[int]*child
	asked    bool           // a terminating signal was received
	ending   syscall.Signal // the one that no trap took, 0 for none
	over     bool           // nothing is to be started any more
	onEnd    func()
	trap     func(syscall.Signal) bool // whether a trap takes a terminating signal; called with mu held
	trapped  func() []syscall.Signal   // those taken whose actions are still to be run; called with mu held
	watching bool
	// inherited lists the descriptors that every child gets too.
	inherited func() []int
}

func newKeeper() *keeper {
	return &keeper{children: map[int]*child{}, inherited: sync.OnceValue(inherited)}
}

// errEnding refuses to start a program after a terminating signal, or at a line's end.
var errEnding = errors.New("ending by a signal")

// spec is what a child is started with beyond what every program has.
type spec struct {
	path, dir string
	argv, env []string
	files     []uintptr
	sys       *syscall.SysProcAttr
	deferred  bool // the target of signals is reported later, by aim
	stage     bool // the program is this one, as the stage inside an engine, and becomes the app
}

// start starts a child. A
// trapped signal that came too late for the line to act on before the start is the child's, too: else its action would
// wait for the child's own end.
func (k *keeper) start(s spec) (*child, error) {
	k.watch()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending != 0 || k.over {
		return nil, errEnding
	}
	pid, missed, err := forkExec(s.path, s.argv, &syscall.ProcAttr{Dir: s.dir, Env: s.env, Files: s.files, Sys: s.sys},
		s.stage)
	if err != nil {
		return nil, err
	}
	c := &child{pid: pid, target: pid, done: make(chan struct{})}
	if s.deferred {
		c.target = 0
	}
	k.children[pid] = c
	for _, sig := range missed {
		c.send(sig)
	}
	if k.trapped != nil {
		for _, sig := range k.trapped() {
			c.send(sig)
		}
	}
	return c, nil
}

// forkExec is syscall.ForkExec. missed are the signals of a terminal's keys that the program has to be sent, as they
// came before it was there. stage says that the program is this one, which such a signal ends.
func forkExec(path string, argv []string, attr *syscall.ProcAttr, stage bool) (pid int, missed []syscall.Signal,
	err error) {
	missed = pressed()
	if pid, err = syscall.ForkExec(path, argv, attr); err != nil {
		return 0, nil, err
	}
	for _, sig := range pressed() {
		// It came meanwhile. A program that it would have ended and that has not ended has not got it.
		if !slices.Contains(missed, sig) && (stage || !minds(pid, sig)) {
			missed = append(missed, sig)
		}
	}
	return pid, missed, nil
}

// minds reports whether a process catches or ignores a signal, or whether that cannot be known.
func minds(pid int, sig syscall.Signal) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return true
	}
	for _, field := range []string{"SigIgn", "SigCgt"} {
		_, rest, found := bytes.Cut(text, []byte("\n"+field+":\t"))
		mask, err := strconv.ParseUint(string(rest[:min(len(rest), 16)]), 16, 64)
		if !found || err != nil || mask&(1<<(sig-1)) != 0 {
			return true
		}
	}
	return false
}

// send passes a signal on to the child, as soon as it is known which process is meant.
func (c *child) send(sig syscall.Signal) {
	c.told = c.told || terminating(sig)
	if c.target == 0 {
		c.early = append(c.early, sig)
		return
	}
	_ = syscall.Kill(c.target, sig)
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

// ended reports whether the child has ended and is reaped.
func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// onEnd calls a function when the child ends, but not after stop has returned.
func (c *child) onEnd(do func()) (stop func()) {
	stopped, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-c.done:
			do()
		case <-stopped:
		}
	}()
	return func() {
		close(stopped)
		<-over
	}
}

// reap takes the status of every child that has ended, adopted ones included.
func (k *keeper) reap() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil || pid == 0:
			return
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

// end lets nothing more be started, as sig ends it all.
func (k *keeper) end(sig syscall.Signal) {
	k.mu.Lock()
	onEnd := k.begin(sig)
	k.mu.Unlock()
	onEnd()
}

// begin is end under the lock; what it returns is to be called without.
func (k *keeper) begin(sig syscall.Signal) func() {
	if k.ending != 0 || k.onEnd == nil {
		k.ending = cmp.Or(k.ending, sig)
		return func() {}
	}
	k.ending = sig
	return k.onEnd
}

// endedBy returns the terminating signal that was received and that no trap took, 0 for none.
func (k *keeper) endedBy() syscall.Signal {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ending
}

// endAll ends what still runs, and lets nothing more be started. After a terminating signal, which whoever sent it
// follows up when its patience is over, that may take its time; else no longer than grace.
func (k *keeper) endAll(grace time.Duration) {
	k.mu.Lock()
	k.over = true
	running := slices.Collect(maps.Values(k.children))
	for _, c := range running {
		if c.target != 0 && !c.told {
			_ = syscall.Kill(c.target, syscall.SIGTERM)
		}
	}
	patience := time.After(grace)
	if k.asked {
		patience = nil
	}
	k.mu.Unlock()
	for _, c := range running {
		select {
		case <-c.done:
		case <-patience:
			k.killRest()
			return
		}
	}
}

// killRest kills what still runs.
func (k *keeper) killRest() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.children {
		_ = syscall.Kill(cmp.Or(c.target, c.pid), syscall.SIGKILL)
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
