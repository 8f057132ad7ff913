package launch

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// PRoot's own variables that this program sets, where the user did not.
const (
	prootNoSeccomp = "PROOT_NO_SECCOMP"
	prootTempDir   = "PROOT_TMP_DIR"
	// Without it, PRoot makes an unreadable /nix/store in the image where it has the rights, and leaves that when it is killed.
	prootNoPollute = "PROOT_DONT_POLLUTE_ROOTFS"
)

// startProot starts the command under PRoot, which shows the view at /nix/store. PRoot's accelerated mode is tried
// first and kept only where it shows every binding.
func (l *launcher) startProot(cmd *command) (*app, error) {
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
	if cmd.env.get(prootNoSeccomp) == "" {
		a, err := l.startTraced(cmd, temp, true)
		if denied := (*deniedError)(nil); !errors.As(err, &denied) || l.supervisor.interrupted() != nil {
			return a, err
		}
		l.debugf("proot with seccomp acceleration: %v", err)
	}
	return l.startTraced(cmd, temp, false)
}

// prootTemp finds a directory in which PRoot may write and execute its loader.
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
		what: "no directory is both writable and executable for PRoot's loader: tried " + strings.Join(tried, ", "),
		help: "mount a tmpfs without noexec (docker run --tmpfs /tmp:exec), or set " + prootTempDir,
	}
}

// startTraced starts PRoot in one of its two modes, in a process group of its own. The shim is in that group too; the app that it
// starts has another.
func (l *launcher) startTraced(cmd *command, temp string, seccomp bool) (*app, error) {
	reports, reportEnd, noReports := os.Pipe()
	output, outputEnd, noOutput := os.Pipe()
	if err := cmp.Or(noReports, noOutput); err != nil {
		return nil, prootDenied("making a pipe: "+err.Error(), "")
	}
	files, first := descriptors([3]*os.File{os.Stdin, os.Stdout, outputEnd}, inherited(), reportEnd, os.Stderr)
	tty := terminal()
	call := shimCall{
		Engine: EngineProot, Report: first, Stderr: first + 1, Terminal: tty, Probe: l.probePath(), Strict: seccomp,
		path: cmd.path, argv: cmd.argv,
	}
	env := cmd.env
	set := func(name, value string) {
		if env.index(name) < 0 {
			env.set(name, value)
			call.Unset = append(call.Unset, name)
		}
	}
	if env.index("PWD") < 0 {
		call.Unset = append(call.Unset, "PWD") // PRoot sets it
	}
	set(prootTempDir, temp)
	set(prootNoPollute, "1")
	if !seccomp {
		set(prootNoSeccomp, "1")
	}
	argv := append([]string{l.config.PRoot, "-b", l.config.View + ":" + storepath.Dir, l.self}, call.args()[1:]...)
	pid, err := syscall.ForkExec(l.config.PRoot, argv, &syscall.ProcAttr{
		Env: env, Files: files, Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	for _, file := range []*os.File{reportEnd, outputEnd} {
		_ = file.Close()
	}
	if err != nil {
		_, _ = reports.Close(), output.Close()
		return nil, prootDenied(fmt.Sprintf("starting %s: %v", l.config.PRoot, err), "")
	}
	messages := make(chan string, 1)
	go l.readMessages(output, messages)
	how := "without seccomp acceleration"
	if seccomp {
		how = "with seccomp acceleration, which was seen to keep the binding"
	}
	return l.awaitStart(cmd, &app{child: pid, terminal: tty, how: how}, reports, messages)
}

// awaitStart waits for the shim inside PRoot to report the app's start.
func (l *launcher) awaitStart(cmd *command, a *app, pipe *os.File, messages <-chan string) (*app, error) {
	reports := json.NewDecoder(pipe)
	r, err := l.readShim(a.child, pipe, reports, false)
	if r.Ready && err == nil {
		l.warnNewer(r.Newer)
		ends := make(chan status, 1)
		a.pgid, a.reported = r.Pgid, ends
		go readExit(pipe, reports, ends)
		return a, nil
	}
	_ = pipe.Close()
	st := endTraced(a.child)
	what := fmt.Sprintf("proot ended with status %d", st.code())
	switch {
	case r.Ready:
		return nil, cannotExec(cmd.path, l.onDisk(cmd.path), r.Errno)
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		what = "proot: " + err.Error()
	}
	select {
	case output := <-messages:
		return nil, prootDenied(what, output)
	case <-time.After(exitGrace): // a process that PRoot has left keeps the pipe open
		return nil, prootDenied(what, "")
	}
}

// warnNewer says which newer system calls this PRoot does not translate.
func (l *launcher) warnNewer(newer []string) {
	if len(newer) == 0 {
		return
	}
	text := fmt.Sprintf("this PRoot hides %s from %s: programs that use it miss their files", storepath.Dir,
		strings.Join(newer, ", "))
	if slices.Contains(newer, "statx") { // nearly every new program uses it
		fmt.Fprintf(l.stderr, "%s: %s: PRoot 5.3.0 or newer does not\n", ProgramName, text)
		return
	}
	l.debugf("%s", text)
}

// readExit reads how the app ended, as the shim reports it.
func readExit(pipe *os.File, reports *json.Decoder, ends chan<- status) {
	defer close(ends)
	defer func() { _ = pipe.Close() }()
	var r report
	if _ = reports.Decode(&r); r.Exit != nil {
		ends <- *r.Exit
	}
}

// endTraced kills what the app left behind, for which PRoot waits, and returns PRoot's status. A PRoot that does not end then is
// killed: it ignores SIGTERM.
func endTraced(proot int) status {
	var ws syscall.WaitStatus
	for deadline := time.Now().Add(exitGrace); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if pid, _ := syscall.Wait4(proot, &ws, syscall.WNOHANG, nil); pid != 0 { // it has ended, or is no child any more
			return status(ws)
		}
		killAll("TracerPid", proot)
	}
	return endChild(proot) // its tracees die with it
}

// readMessages reads what PRoot itself prints, until it has ended. All of it goes to the debug log, and the errors to messages,
// for the error of a start that failed.
func (l *launcher) readMessages(pipe *os.File, messages chan<- string) {
	defer func() { _ = pipe.Close() }()
	var all string
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		l.debugf("%s", lines.Text())
		if text, ok := strings.CutPrefix(lines.Text(), "proot error: "); ok && len(all)+len(text) < 512 {
			all = strings.TrimPrefix(all+"; "+text, "; ")
		}
	}
	messages <- all
}
