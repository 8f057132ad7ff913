package launch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// innerFlag makes this program the stage inside an engine: it sees to it that /nix/store shows the closure, says so on
// a pipe, and starts the app. So the start of the app is the engine's probe, and a working engine costs no second one.
const innerFlag = "--nix-hydra-inner"

// startLimit is how long an engine may take to show the closure.
const startLimit = 20 * time.Second

// innerCall is what the launcher tells the stage inside, as arguments.
type innerCall struct {
	engine string
	report int      // descriptor of the pipe that reports go to
	stderr int      // descriptor that is the app's standard error; -1: it has it already
	view   string   // to be bound at /nix/store, under userns
	probe  string   // a path below /nix/store that must be seen
	strict bool     // refuse the engine also where only newer programs would miss the closure
	unset  []string // environment variables that were set for the engine only
	dir    string
	path   string
	argv   []string
}

func (c innerCall) args() []string {
	return append([]string{innerFlag, c.engine, strconv.Itoa(c.report), strconv.Itoa(c.stderr), c.view, c.probe,
		strconv.FormatBool(c.strict), strings.Join(c.unset, ","), c.dir, c.path}, c.argv...)
}

func parseInnerCall(args []string) (c innerCall, err error) {
	if len(args) < 10 {
		return c, errors.New("this flag is the launcher's own")
	}
	var bad [2]error
	c.engine, c.view, c.probe, c.strict = args[0], args[3], args[4], args[5] == "true"
	c.dir, c.path, c.argv = args[7], args[8], args[9:]
	c.report, bad[0] = strconv.Atoi(args[1])
	c.stderr, bad[1] = strconv.Atoi(args[2])
	if args[6] != "" {
		c.unset = strings.Split(args[6], ",")
	}
	return c, errors.Join(bad[:]...)
}

// Reports, one per line, from the stage inside to the launcher.
const (
	reportOK     = "ok"     // <pid>: the closure is seen; the app is, or is about to be, this process
	reportLate   = "late"   // 0 <call>: a newer system call that does not see the closure
	reportDenied = "denied" // <errno> <what>: the engine does not work here
	reportFailed = "failed" // <errno>: the engine works, the app's program does not start
	reportExit   = "exit"   // <wait status>: how the app ended, where the launcher cannot see that itself
)

// runInner is this program as the stage inside an engine.
func runInner(args, environ []string) int {
	call, err := parseInnerCall(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s: %v\n", ProcessProgramName, innerFlag, err)
		return exitUsage
	}
	unix.CloseOnExec(call.report)
	if call.stderr >= 0 {
		unix.CloseOnExec(call.stderr)
	}
	report := os.NewFile(uintptr(call.report), "report")
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(report, format+"\n", args...) }
	env := newEnvironment(environ)
	for _, name := range call.unset {
		env.unset(name)
	}
	if call.engine == EngineProot {
		catch()
	} else if err := enterView(call.view); err != nil {
		return denied(say, err)
	}
	lost, late, err := seen(call.probe)
	if call.strict && slices.Contains(late, "statx") || len(lost) > 0 {
		return denied(say, fmt.Errorf("%s is not seen by %s: %w", call.probe, strings.Join(append(lost, late...), ", "), err))
	}
	for _, name := range late {
		say("%s 0 %s", reportLate, name)
	}
	if call.engine == EngineUserns {
		return runInPlace(call, env, say)
	}
	return runBelow(call, env, say)
}

// catch makes this process outlive what a terminal sends to it as well as to the app that it stays beside. Each caught
// signal costs PRoot some time, so there are no more than these.
func catch() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	noteSenders()
}

func denied(say func(string, ...any), err error) int {
	var errno syscall.Errno
	errors.As(err, &errno)
	say("%s %d %s", reportDenied, int(errno), strings.ReplaceAll(err.Error(), "\n", " "))
	return exitCannotRun
}

// runInPlace makes the app take the stage's place, without the privileges the stage had in its namespaces.
func runInPlace(call innerCall, env environment, say func(string, ...any)) int {
	runtime.LockOSThread() // capabilities and death signals are a thread's: the one with the right ones must exec
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0)
	if err := dropPrivileges(); err != nil {
		return denied(say, fmt.Errorf("giving up capabilities: %w", err))
	}
	if err := enter(call.dir); err != nil {
		return denied(say, err)
	}
	say("%s %d", reportOK, os.Getpid())
	err := syscall.Exec(call.path, call.argv, env)
	say("%s %d", reportFailed, errnoOf(err))
	return exitCannotRun
}

// runBelow starts the app as a child and reports how it ended: PRoot says 255 for every signal, and waits for
// whatever the app leaves behind. The launcher passes signals on to the app, all but a terminal's keys, which the app
// has by itself; those that were pressed before it was there it gets from here.
func runBelow(call innerCall, env environment, say func(string, ...any)) int {
	// A PRoot that is killed must not leave its programs running without it; before 5.3 it does not see to that itself.
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0)
	files, _ := descriptors([3]*os.File{os.Stdin, os.Stdout,
		os.NewFile(uintptr(call.stderr), "stderr")}, inherited())
	pid, missed, err := forkExec(call.path, call.argv, &syscall.ProcAttr{
		Dir: call.dir, Env: env, Files: files,
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}, false)
	if err != nil {
		say("%s %d", reportFailed, errnoOf(err))
		return exitCannotRun
	}
	for _, sig := range missed {
		_ = syscall.Kill(pid, sig)
	}
	say("%s %d", reportOK, pid)
	for fd := range 3 {
		_ = syscall.Close(fd) // so that the app's end is the end of its streams
	}
	_ = syscall.Close(call.stderr)
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		break
	}
	say("%s %d", reportExit, uint32(ws))
	return status(ws).code()
}

func errnoOf(err error) int {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return int(errno)
	}
	return int(syscall.EINVAL)
}

// seen looks at the probe in every way that programs do: engines have lost bindings for one system call and kept them
// for another. lost are the calls that no program does without, late those that came to Linux later and that older
// engines do not know, so that only newer programs miss them.
func seen(probe string) (lost, late []string, why error) {
	check := func(list *[]string, call string, err error) {
		// ENOSYS and EPERM are a kernel or a seccomp filter without the call: programs then use another.
		if err != nil && !errors.Is(err, syscall.ENOSYS) && !errors.Is(err, syscall.EPERM) {
			*list, why = append(*list, call), err
		}
	}
	var st unix.Stat_t
	var stx unix.Statx_t
	fd, err := unix.Open(probe, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	_, listed := os.ReadDir(storepath.Dir)
	check(&lost, "open", err)
	check(&lost, "stat", unix.Stat(probe, &st))
	check(&lost, "lstat", unix.Lstat(probe, &st))
	check(&lost, "access", unix.Access(probe, unix.R_OK))
	check(&lost, "getdents", listed)
	check(&late, "statx", unix.Statx(unix.AT_FDCWD, probe, 0, unix.STATX_BASIC_STATS, &stx))
	check(&late, "faccessat2", unix.Faccessat(unix.AT_FDCWD, probe, unix.R_OK, unix.AT_EACCESS))
	return lost, late, why
}

// probePath is the path that an engine must show: the folder of the closure's first program, or the first root.
func (l *launcher) probePath() string {
	for _, dir := range slices.Concat(l.config.Bin, l.config.StorePaths) {
		if strings.HasPrefix(dir, storepath.Dir+"/") {
			return dir
		}
	}
	entries, err := os.ReadDir(l.config.View)
	if err != nil || len(entries) == 0 {
		return storepath.Dir
	}
	return filepath.Join(storepath.Dir, entries[0].Name())
}

// started reads the stage's reports up to the app's start. ok is false where the pipe ended without any: the engine
// itself did not come up. late lists the newer system calls that do not see the closure.
func started(reports *bufio.Reader) (pid int, late []string, ok bool, err error) {
	for {
		text, err := reports.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return 0, nil, false, nil
		}
		if err != nil {
			return 0, nil, false, err
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
		number, what, _ := strings.Cut(rest, " ")
		n, _ := strconv.Atoi(number)
		switch word {
		case reportLate:
			late = append(late, what)
		case reportOK:
			return n, late, true, nil
		case reportFailed:
			return 0, late, true, syscall.Errno(n)
		case reportDenied:
			return 0, late, false, &reportedError{what, syscall.Errno(n)}
		default:
			return 0, late, false, fmt.Errorf("unexpected report %q", text)
		}
	}
}

// reportedError is an error of the stage inside, with its errno.
type reportedError struct {
	what  string
	errno syscall.Errno
}

func (e *reportedError) Error() string { return e.what }
func (e *reportedError) Unwrap() error { return e.errno }
