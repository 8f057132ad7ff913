package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// shimFlag makes this program the shim inside an engine: it checks that /nix/store shows the closure, reports that on a
// pipe, and starts the app. So the start of the app is the engine's probe, and a working engine costs no second one.
const shimFlag = "--nix-hydra-shim"

// startTimeout is how long an engine may take to show the closure, exitGrace how long PRoot may take to end once its
// app has.
const (
	startTimeout = 20 * time.Second
	exitGrace    = 200 * time.Millisecond
)

// shimCall is what the launcher asks of the shim.
type shimCall struct {
	Engine   string   // EngineUserns or EngineProot
	Report   int      // descriptor of the pipe that reports go to
	Stderr   int      // descriptor that is the app's standard error, under PRoot
	Terminal int      // standard stream whose terminal the app is given, -1 for none
	View     string   // to be bound at /nix/store, under userns
	Probe    string   // a path below /nix/store that must be seen
	Strict   bool     // refuse the engine also where only statx, which newer programs use, misses the closure
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

// report is what the shim sends of a start, one after the other on the pipe.
type report struct {
	// Ready says that the engine shows the closure.
	Ready bool `json:",omitempty"`
	// Newer lists the newer system calls that do not see the closure and could not be withheld.
	Newer []string `json:",omitempty"`
	// Pgid is the app's process group, once the app is up or about to take the shim's place.
	Pgid int `json:",omitempty"`
	// Problem says why the engine does not work or, where it is ready, why the program did not start; Errno is its cause.
	Problem string        `json:",omitempty"`
	Errno   syscall.Errno `json:",omitempty"`
	// Exit is the app's status, where the app is not the launcher's child.
	Exit *status `json:",omitempty"`
}

func (r *report) Error() string { return r.Problem }

func (r *report) Unwrap() error { return r.Errno }

// reporter is the shim's end of the pipe.
type reporter struct {
	report
	pipe *os.File
}

func (r *reporter) send() { _ = json.NewEncoder(r.pipe).Encode(r.report) }

// fail reports a problem and returns this program's exit status.
func (r *reporter) fail(err error) int {
	r.Problem, r.Errno = err.Error(), syscall.EINVAL
	_ = errors.As(err, &r.Errno)
	r.send()
	return exitCannotRun
}

// runShim is Main where this program is the shim.
func runShim(args, environ []string) int {
	call, err := parseShimCall(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s: %v\n", ProcessProgramName, shimFlag, err)
		return exitUsage
	}
	unix.CloseOnExec(call.Report)
	r := &reporter{pipe: os.NewFile(uintptr(call.Report), "report")}
	env := environment(environ)
	for _, name := range call.Unset {
		env.unset(name)
	}
	if call.Engine == EngineUserns {
		if err := enterView(call.View); err != nil {
			return r.fail(err)
		}
	}
	missed, newer, err := probe(call.Probe)
	if call.Strict && slices.Contains(newer, "statx") || len(missed) > 0 {
		return r.fail(fmt.Errorf("%s is not seen by %s: %w", call.Probe, strings.Join(append(missed, newer...), ", "), err))
	}
	if call.Engine == EngineProot && withhold(newer) == nil {
		newer = nil
	}
	r.Newer = newer
	if call.Engine == EngineProot {
		return runChild(call, env, r)
	}
	return runInPlace(call, env, r)
}

// runInPlace gives up the privileges that the shim has in its namespaces, and makes the app take the shim's place.
func runInPlace(call shimCall, env environment, r *reporter) int {
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0)
	if err := dropPrivileges(); err != nil {
		return r.fail(fmt.Errorf("giving up capabilities: %w", err))
	}
	if call.Terminal >= 0 {
		signal.Ignore(syscall.SIGTTOU) // by which the kernel stops a process that takes a terminal from the background
		giveTerminal(call.Terminal, unix.Getpgrp())
		setDefault(syscall.SIGTTOU)
	}
	r.Ready, r.Pgid = true, os.Getpid()
	r.send()
	return r.fail(execInPlace(&command{path: call.path, argv: call.argv, env: env}))
}

// runChild starts the app as a child and reports its status. PRoot's own would not do: it is 255 for every signal, and comes
// when all that the app has left behind has ended.
func runChild(call shimCall, env environment, r *reporter) int {
	// A PRoot that is killed must not leave its programs running without it; before 5.3 it does not see to that itself.
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0)
	unix.CloseOnExec(call.Stderr)
	stderr := os.NewFile(uintptr(call.Stderr), "stderr")
	var err error
	r.Ready = true
	tty := call.Terminal
	if tty == 2 {
		tty = call.Stderr // descriptor 2 is the pipe for PRoot's own messages
	}
	r.Pgid, err = forkExec(&command{path: call.path, argv: call.argv, env: env}, stderr, tty, syscall.SIGKILL)
	if err != nil {
		return r.fail(err)
	}
	r.send()
	for fd := range 3 {
		_ = syscall.Close(fd) // so that the app's end is the end of its streams
	}
	_ = stderr.Close()
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(r.Pgid, &ws, 0, nil); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	end := status(ws)
	r.report = report{Exit: &end}
	r.send()
	return end.code()
}

// probe looks at a path by every system call that programs use for that, since engines have kept a binding for one and dropped it
// for another. missed are the calls that do not see the path and that every program needs; newer are those that came to Linux
// later, so that older engines do not know them and only newer programs need them.
func probe(path string) (missed, newer []string, why error) {
	check := func(list *[]string, call string, err error) {
		// ENOSYS and EPERM are a kernel or a seccomp filter without the call: programs then use another.
		if err != nil && !errors.Is(err, syscall.ENOSYS) && !errors.Is(err, syscall.EPERM) {
			*list, why = append(*list, call), err
		}
	}
	var st unix.Stat_t
	var stx unix.Statx_t
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	_, listed := os.ReadDir(storepath.Dir)
	check(&missed, "open", err)
	check(&missed, "stat", unix.Stat(path, &st))
	check(&missed, "lstat", unix.Lstat(path, &st))
	check(&missed, "access", unix.Access(path, unix.R_OK))
	check(&missed, "getdents", listed)
	check(&newer, "statx", unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS, &stx))
	check(&newer, "faccessat2", unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS))
	return missed, newer, why
}

// probePath is the path that an engine must show: the directory of the closure's first program, or the first root.
func (l *launcher) probePath() string {
	for _, dir := range slices.Concat(l.config.Bin, l.config.StorePaths) {
		if strings.HasPrefix(dir, storepath.Dir+"/") {
			return dir
		}
	}
	return storepath.Dir
}

// readStart reads the shim's reports until the app is up or the start has failed. Where the app takes the shim's place, the end
// of the pipe says that it has. A report that is not ready, without an error, says that the engine ended before the shim began.
func readStart(reports *json.Decoder, inPlace bool) (r report, err error) {
	for {
		var next report
		switch err := reports.Decode(&next); {
		case errors.Is(err, io.EOF):
			return r, nil
		case err != nil:
			return report{}, err
		}
		r = next
		switch {
		case r.Problem != "":
			return r, &r
		case !inPlace:
			return r, nil
		}
	}
}
