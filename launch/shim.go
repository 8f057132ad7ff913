package launch

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
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

// shimFlag makes this program the shim inside an engine: it sees to it that /nix/store shows the closure, says so on a
// pipe, and starts the app. So the start of the app is the engine's probe, and a working engine costs no second one.
const shimFlag = "--nix-hydra-shim"

// startLimit is how long an engine may take to show the closure, leaveGrace how long PRoot may take to end once its
// app has.
const (
	startLimit = 20 * time.Second
	leaveGrace = 200 * time.Millisecond
)

// shimCall is what the launcher asks of the shim.
type shimCall struct {
	Engine   string   // EngineUserns, EngineProot, or "" for the terminal alone
	Report   int      // descriptor of the pipe that reports go to
	Stderr   int      // descriptor that is the app's standard error, under PRoot
	Terminal int      // standard stream whose terminal the app is given, -1 for none
	View     string   // to be bound at /nix/store, under userns
	Probe    string   // a path below /nix/store that must be seen
	Strict   bool     // refuse the engine also where only newer programs would miss the closure
	Unset    []string // environment variables that were set for the engine only

	path string
	argv []string
}

// args are this program's arguments as the shim.
func (c shimCall) args() []string {
	settings, _ := json.Marshal(c) // strings, numbers and a list: it cannot fail
	return append([]string{ProcessProgramName, shimFlag, string(settings), c.path}, c.argv...)
}

func parseShimCall(args []string) (c shimCall, err error) {
	if len(args) < 3 {
		return c, errors.New("this flag is the launcher's own")
	}
	err = json.Unmarshal([]byte(args[0]), &c)
	c.path, c.argv = args[1], args[2:]
	return c, err
}

// Reports, one per line, from the shim to the launcher.
const (
	reportOK     = "ok"     // <process group>: the closure is seen; the app is up, or is about to take the shim's place
	reportLate   = "late"   // 0 <call>: a newer system call that does not see the closure
	reportDenied = "denied" // <errno> <what>: the engine does not work here
	reportFailed = "failed" // <errno>: the engine works, the app's program does not start
	reportExit   = "exit"   // <wait status>: how the app ended, where the launcher cannot see that itself
)

// reporter is the shim's end of the pipe.
type reporter struct{ io.Writer }

func (r reporter) say(format string, args ...any) { _, _ = fmt.Fprintf(r, format+"\n", args...) }

func (r reporter) denied(err error) int {
	r.say("%s %d %s", reportDenied, errnoOf(err), strings.ReplaceAll(err.Error(), "\n", " "))
	return exitCannotRun
}

func (r reporter) failed(err error) int {
	r.say("%s %d", reportFailed, errnoOf(err))
	return exitCannotRun
}

// runShim is this program as the shim.
func runShim(args, environ []string) int {
	call, err := parseShimCall(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s: %v\n", ProcessProgramName, shimFlag, err)
		return exitUsage
	}
	unix.CloseOnExec(call.Report)
	report := reporter{os.NewFile(uintptr(call.Report), "report")}
	env := newEnvironment(environ)
	for _, name := range call.Unset {
		env.unset(name)
	}
	if call.Engine == EngineUserns {
		if err := enterView(call.View); err != nil {
			return report.denied(err)
		}
	}
	if call.Engine != "" {
		lost, late, err := seen(call.Probe)
		if call.Strict && slices.Contains(late, "statx") || len(lost) > 0 {
			calls := strings.Join(append(lost, late...), ", ")
			return report.denied(fmt.Errorf("%s is not seen by %s: %w", call.Probe, calls, err))
		}
		for _, name := range late {
			report.say("%s 0 %s", reportLate, name)
		}
	}
	if call.Engine == EngineProot {
		return runBelow(call, env, report)
	}
	return runInPlace(call, env, report)
}

// runInPlace makes the app take the shim's place, without the privileges that the shim had in its namespaces.
func runInPlace(call shimCall, env environment, report reporter) int {
	runtime.LockOSThread() // capabilities and death signals are a thread's: the one with the right ones must exec
	if call.Engine == EngineUserns {
		_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0)
		if err := dropPrivileges(); err != nil {
			return report.denied(fmt.Errorf("giving up capabilities: %w", err))
		}
	}
	takeTerminal(call.Terminal)
	report.say("%s %d", reportOK, os.Getpid())
	return report.failed(syscall.Exec(call.path, call.argv, env))
}

// runBelow starts the app as a child and reports how it ended: PRoot says 255 for every signal, and waits for whatever
// the app leaves behind.
func runBelow(call shimCall, env environment, report reporter) int {
	// A PRoot that is killed must not leave its programs running without it; before 5.3 it does not see to that itself.
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0)
	unix.CloseOnExec(call.Stderr)
	self, err := os.Executable()
	if err != nil {
		return report.denied(err)
	}
	stderr := os.NewFile(uintptr(call.Stderr), "stderr")
	cmd := &command{path: call.path, argv: call.argv, env: env}
	pid, err := forkExec(self, cmd, [3]*os.File{os.Stdin, os.Stdout, stderr}, call.Terminal,
		&syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL})
	if err != nil {
		return report.failed(err)
	}
	report.say("%s %d", reportOK, pid)
	for fd := range 3 {
		_ = syscall.Close(fd) // so that the app's end is the end of its streams
	}
	_ = stderr.Close()
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	report.say("%s %d", reportExit, uint32(ws))
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

// probePath is the path that an engine must show: the directory of the closure's first program, or the first root.
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

// startReport is what the shim said of a start.
type startReport struct {
	// up: the engine shows the closure. Then err is why the app's program did not start, else what denied the engine.
	up    bool
	err   error
	group int
	// late lists the newer system calls that do not see the closure.
	late []string
}

// readStart reads the shim's reports up to the app's start. Where the app takes the shim's place, the end of the pipe
// says that it has. Neither up nor an error is an engine that did not come up itself.
func readStart(reports *bufio.Reader, inPlace bool) (r startReport) {
	for {
		text, err := reports.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return r
		}
		if err != nil {
			r.up, r.err = false, err
			return r
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
		number, what, _ := strings.Cut(rest, " ")
		n, _ := strconv.Atoi(number)
		switch word {
		case reportLate:
			r.late = append(r.late, what)
		case reportOK:
			r.up, r.group = true, n
			if !inPlace {
				return r
			}
		case reportFailed:
			r.up, r.err = true, syscall.Errno(n)
			return r
		case reportDenied:
			r.err = &reportedError{what, syscall.Errno(n)}
			return r
		default:
			r.err = fmt.Errorf("unexpected report %q", text)
			return r
		}
	}
}

// reportedError is an error of the shim, with its errno.
type reportedError struct {
	what  string
	errno syscall.Errno
}

func (e *reportedError) Error() string { return e.what }
func (e *reportedError) Unwrap() error { return e.errno }
