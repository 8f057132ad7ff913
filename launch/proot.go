package launch

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// PRoot's own variables that this program sets, where the user did not.
const (
	prootNoSeccomp = "PROOT_NO_SECCOMP"
	prootTempDir   = "PROOT_TMP_DIR"
	// Else PRoot, where it may, makes /nix/store in the image itself, unreadable, and leaves it there when it is killed.
	prootNoPollute = "PROOT_DONT_POLLUTE_ROOTFS"
)

// leaveGrace is how long PRoot may take to end once the app has, before it is killed with all that the app left.
const leaveGrace = 200 * time.Millisecond

// startProot starts the command under PRoot, which shows the view at /nix/store. PRoot's accelerated mode is tried
// first and kept only where it shows every binding.
func (l *launcher) startProot(cmd *command) (*child, error) {
	if l.config.PRoot == "" {
		return nil, &deniedError{what: "the image holds no PRoot", help: "build it again with BP_NIX_ENGINE=proot"}
	}
	if err := executable(l.config.PRoot); err != nil {
		return nil, &deniedError{what: fmt.Sprintf("%s: %v", l.config.PRoot, err)}
	}
	temp, err := l.prootTemp(cmd.env)
	if err != nil {
		return nil, err
	}
	if cmd.env.get(prootNoSeccomp) != "" {
		return l.startTraced(cmd, temp, false)
	}
	if l.engine.chosen() == "" {
		c, err := l.startTraced(cmd, temp, true)
		if !retryable(err) {
			l.engine.seccomp = true
			return c, err
		}
		l.debugf("proot with seccomp acceleration: %v", err)
	}
	return l.startTraced(cmd, temp, l.engine.seccomp)
}

func retryable(err error) bool {
	denied := (*deniedError)(nil)
	return errors.As(err, &denied)
}

// prootTemp finds a folder in which PRoot may write and execute its loader.
func (l *launcher) prootTemp(env environment) (string, error) {
	if dir := env.get(prootTempDir); dir != "" {
		return dir, nil
	}
	var tried []string
	for _, dir := range []string{env.get("TMPDIR"), "/tmp", "/dev/shm", "/var/tmp", env.get("HOME")} {
		if !filepath.IsAbs(dir) || slices.Contains(tried, dir) {
			continue
		}
		tried = append(tried, dir)
		var fs unix.Statfs_t
		if unix.Access(dir, unix.W_OK|unix.X_OK) == nil && unix.Statfs(dir, &fs) == nil && fs.Flags&unix.ST_NOEXEC == 0 {
			return dir, nil
		}
	}
	return "", &deniedError{
		what: "no folder is both writable and executable for PRoot's loader: tried " + strings.Join(tried, ", "),
		help: "mount a tmpfs without noexec (docker run --tmpfs /tmp:exec), or set " + prootTempDir,
	}
}

// startTraced is one start of PRoot in one of its two modes.
func (l *launcher) startTraced(cmd *command, temp string, seccomp bool) (*child, error) {
	reports, reportEnd, err := os.Pipe()
	if err != nil {
		return nil, prootDenied("making a pipe: "+err.Error(), "")
	}
	said, saidEnd, err := os.Pipe()
	if err != nil {
		return nil, prootDenied("making a pipe: "+err.Error(), "")
	}
	stderr, err := keepStderr(cmd.files[2])
	if err != nil {
		return nil, prootDenied("passing standard error on: "+err.Error(), "")
	}
	files, first := descriptors([3]*os.File{cmd.files[0], cmd.files[1], saidEnd}, l.keeper.inherited(), reportEnd, stderr)
	env := cmd.env
	call := innerCall{
		engine: EngineProot, report: first, stderr: first + 1, probe: l.probePath(), strict: seccomp,
		dir: cmd.dir, path: cmd.path, argv: cmd.argv,
	}
	set := func(name, value string) {
		if env.index(name) < 0 {
			env.set(name, value)
			call.unset = append(call.unset, name)
		}
	}
	if env.index("PWD") < 0 {
		call.unset = append(call.unset, "PWD") // PRoot sets it
	}
	set(prootTempDir, temp)
	set(prootNoPollute, "1")
	if !seccomp {
		set(prootNoSeccomp, "1")
	}
	argv := []string{l.config.PRoot, "-b", l.config.View + ":" + storepath.Dir, l.self}
	c, err := l.keeper.start(spec{
		path: l.config.PRoot, argv: append(argv, call.args()...), env: env, dir: cmd.dir, files: files,
		deferred: true, sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	for _, file := range []*os.File{reportEnd, saidEnd, stderr} {
		_ = file.Close()
	}
	if err != nil {
		_, _ = reports.Close(), said.Close()
		if errors.Is(err, errEnding) {
			return nil, err
		}
		return nil, prootDenied(fmt.Sprintf("starting %s: %v", l.config.PRoot, err), "")
	}
	words := &lastWords{launcher: l}
	go words.listen(said)
	return l.seeStart(cmd, c, reports, words)
}

// seeStart waits for the stage inside PRoot to report the app's start, and hands the child out if it does.
func (l *launcher) seeStart(cmd *command, c *child, pipe *os.File, words *lastWords) (*child, error) {
	_ = pipe.SetReadDeadline(time.Now().Add(startLimit))
	reports := bufio.NewReader(pipe)
	heard := c.onEnd(func() {
		// A PRoot that is killed early leaves a stopped child of its own, which holds the pipe open.
		_ = pipe.SetReadDeadline(time.Now().Add(leaveGrace))
	})
	pid, late, ok, err := started(reports)
	heard()
	if errors.Is(err, os.ErrDeadlineExceeded) && c.ended() {
		err = nil
	}
	if ok && err == nil {
		_ = pipe.SetReadDeadline(time.Time{})
		l.warnLate(late)
		l.keeper.aim(c, pid)
		outer := &child{pid: c.pid, done: make(chan struct{})}
		go l.follow(outer, c, pipe, reports)
		return outer, nil
	}
	defer func() { _ = pipe.Close() }()
	if err != nil { // it said why, or said nothing in time; else it is ending by itself
		l.endTraced(c)
	}
	<-c.done
	if ok {
		real, _ := l.onDisk(cmd.path)
		return nil, cannotExec(cmd.path, real, err)
	}
	if l.keeper.endedBy() != 0 {
		return nil, errEnding
	}
	if err != nil {
		return nil, prootDenied("proot: "+err.Error(), words.text())
	}
	return nil, prootDenied(fmt.Sprintf("proot ended with status %d", c.status.code()), words.text())
}

// warnLate says once which newer system calls this PRoot does not translate.
func (l *launcher) warnLate(late []string) {
	if l.engine.chosen() != "" || len(late) == 0 {
		return
	}
	text := fmt.Sprintf("this PRoot hides %s from %s: programs that use it miss their files", storepath.Dir,
		strings.Join(late, ", "))
	if slices.Contains(late, "statx") { // nearly every new program uses it
		fmt.Fprintf(l.stderr, "%s: %s: PRoot 5.4.0 or newer does not\n", ProgramName, text)
		return
	}
	l.debugf("%s", text)
}

// follow completes the app's child when the app has ended: with the status that the stage inside reports, else with
// PRoot's own.
func (l *launcher) follow(app, proot *child, pipe *os.File, reports *bufio.Reader) {
	defer close(app.done)
	defer func() { _ = pipe.Close() }()
	text, err := reports.ReadString('\n')
	number, found := strings.CutPrefix(strings.TrimSpace(text), reportExit+" ")
	ws, bad := strconv.ParseUint(number, 10, 32)
	if err != nil || !found || bad != nil {
		<-proot.done
		app.status = proot.status
		return
	}
	app.status = status(ws)
	l.endTraced(proot)
}

// endTraced ends what the app left behind, then PRoot, which waits for all of it and ignores every polite signal.
func (l *launcher) endTraced(proot *child) {
	deadline := time.After(leaveGrace)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for first := true; ; first = false {
		select {
		case <-proot.done:
			return
		case <-deadline:
			_ = syscall.Kill(proot.pid, syscall.SIGKILL) // its tracees die with it
			<-proot.done
			return
		case <-tick.C:
			if !first {
				killAll("TracerPid", proot.pid)
			}
		}
	}
}

// keepStderr duplicates the app's standard error, so that PRoot's own messages can go elsewhere.
func keepStderr(file *os.File) (*os.File, error) {
	if file == nil {
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "stderr"), nil
}

// lastWords keeps the errors that PRoot itself prints: they belong into a message when the start fails, and nowhere
// otherwise.
type lastWords struct {
	launcher *launcher
	mu       sync.Mutex
	said     string
}

func (w *lastWords) listen(pipe *os.File) {
	defer func() { _ = pipe.Close() }()
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		w.launcher.debugf("%s", lines.Text())
		w.mu.Lock()
		if said, ok := strings.CutPrefix(lines.Text(), "proot error: "); ok && len(w.said)+len(said) < 512 {
			w.said = strings.TrimPrefix(w.said+"; "+said, "; ")
		}
		w.mu.Unlock()
	}
}

// text is what was said, once a moment has passed for the last of it to arrive.
func (w *lastWords) text() string {
	for range 20 {
		w.mu.Lock()
		said := w.said
		w.mu.Unlock()
		if said != "" {
			return said
		}
		time.Sleep(time.Millisecond)
	}
	return ""
}
