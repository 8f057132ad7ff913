package launch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/interp"
)

// Words that stand for built-ins of the launcher's own; no program is named so.
const (
	ownPrefix = "nix-hydra-launch:"
	ownStatus = ownPrefix + "status" // ends every line, and is told its exit status
	ownStart  = ownPrefix + "start"  // goes before a job
	ownEnd    = ownPrefix + "end"    // ends a job, and is told its exit status
	ownWait   = ownPrefix + "wait"
	ownUmask  = ownPrefix + "umask"
	ownWhich  = ownPrefix + "which" // is told an option, and names
	ownPlace  = ownPrefix + "place" // is told a file
)

type builtinFunc func(ctx context.Context, hc interp.HandlerContext, args []string) error

// builtin returns the implementation of a built-in that every shell has and the interpreter lacks, and of those that
// lines are rewritten with.
func (sh *shell) builtin(cmd *command) builtinFunc {
	if cmd.forced {
		return nil
	}
	switch cmd.argv[0] {
	case ownStatus:
		return sh.status
	case ownStart:
		return sh.jobs.start
	case ownEnd:
		return sh.jobs.end
	case ownWait:
		return sh.jobs.wait
	case ownUmask:
		return umask
	case ownWhich:
		return sh.which
	case ownPlace:
		return sh.place
	case "ulimit":
		return ulimit
	case "kill":
		return kill
	}
	return nil
}

// fallback returns a program that lines use and an empty image lacks; only asked when no such program was found.
func (sh *shell) fallback(name string) builtinFunc {
	if name != "sleep" {
		return nil
	}
	sh.l.keeper.watch()
	return sh.jobs.sleep
}

// complain prints a built-in's error and gives it the exit status code.
func complain(hc interp.HandlerContext, code int, name string, err error) error {
	_, _ = fmt.Fprintf(hc.Stderr, "%s: %s: %v\n", ProgramName, name, err)
	return interp.ExitStatus(code)
}

// execOptions takes the options of the exec built-in: -a NAME, -c and -l.
func execOptions(cmd *command) []string {
	args := cmd.argv
	name, login := "", false
	for len(args) > 1 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-a":
			name, args = args[1], args[1:]
		case "-c":
			cmd.env = nil
		case "-l":
			login = true
		case "--":
			args = args[1:]
			return args
		default:
			return args
		}
		args = args[1:]
	}
	if len(args) == 0 || name == "" && !login {
		return args
	}
	cmd.program = args[0]
	if name == "" {
		name = args[0]
	}
	if login {
		name = "-" + name
	}
	return append([]string{name}, args[1:]...)
}

func umask(_ context.Context, hc interp.HandlerContext, args []string) error {
	if len(args) == 1 {
		old := syscall.Umask(0)
		syscall.Umask(old)
		_, _ = fmt.Fprintf(hc.Stdout, "%04o\n", old)
		return nil
	}
	mask, err := strconv.ParseUint(args[1], 8, 9)
	if err != nil {
		return complain(hc, 1, "umask", fmt.Errorf("%q is not an octal mode", args[1]))
	}
	syscall.Umask(int(mask))
	return nil
}

// limits are the resources that ulimit sets, with the unit of one.
func limits(flag string) (resource int, unit uint64, ok bool) {
	switch flag {
	case "-c":
		return unix.RLIMIT_CORE, 512, true
	case "-d":
		return unix.RLIMIT_DATA, 1024, true
	case "-f":
		return unix.RLIMIT_FSIZE, 512, true
	case "-l":
		return unix.RLIMIT_MEMLOCK, 1024, true
	case "-n":
		return unix.RLIMIT_NOFILE, 1, true
	case "-s":
		return unix.RLIMIT_STACK, 1024, true
	case "-t":
		return unix.RLIMIT_CPU, 1, true
	case "-u":
		return unix.RLIMIT_NPROC, 1, true
	case "-v":
		return unix.RLIMIT_AS, 1024, true
	}
	return 0, 0, false
}

func ulimit(_ context.Context, hc interp.HandlerContext, args []string) error {
	soft, hard, flag, value := true, true, "-f", ""
	for _, arg := range args[1:] {
		switch {
		case arg == "-S":
			hard = false
		case arg == "-H":
			soft = false
		case strings.HasPrefix(arg, "-"):
			if strings.HasPrefix(arg, "-S") || strings.HasPrefix(arg, "-H") {
				soft, hard = arg[1] == 'S', arg[1] == 'H'
				arg = "-" + arg[2:]
			}
			flag = arg
		default:
			value = arg
		}
	}
	resource, unit, ok := limits(flag)
	if !ok {
		return complain(hc, 2, "ulimit", fmt.Errorf("%s: unknown limit", flag))
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(resource, &limit); err != nil {
		return complain(hc, 1, "ulimit", err)
	}
	if value == "" {
		shown := limit.Cur
		if !soft {
			shown = limit.Max
		}
		text := "unlimited"
		if shown != unix.RLIM_INFINITY {
			text = strconv.FormatUint(shown/unit, 10)
		}
		_, _ = fmt.Fprintln(hc.Stdout, text)
		return nil
	}
	n := uint64(unix.RLIM_INFINITY)
	switch value {
	case "unlimited":
	case "hard":
		n = limit.Max
	default:
		number, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return complain(hc, 1, "ulimit", fmt.Errorf("%q is not a number", value))
		}
		n = number * unit
	}
	if soft {
		limit.Cur = n
	}
	if hard {
		limit.Max = n
	}
	if err := syscall.Setrlimit(resource, &limit); err != nil {
		return complain(hc, 1, "ulimit", fmt.Errorf("setting %s to %s: %w", flag, value, err))
	}
	return nil
}

func kill(_ context.Context, hc interp.HandlerContext, args []string) error {
	sig, rest := syscall.SIGTERM, args[1:]
	if len(rest) > 1 && rest[0] == "-s" {
		rest = append([]string{"-" + rest[1]}, rest[2:]...)
	}
	if len(rest) > 0 && strings.HasPrefix(rest[0], "-") && rest[0] != "--" {
		name := strings.TrimPrefix(rest[0], "-")
		if n, err := strconv.Atoi(name); err == nil {
			sig = syscall.Signal(n)
		} else if sig = unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG")); sig == 0 {
			return complain(hc, 1, "kill", fmt.Errorf("%s: no such signal", name))
		}
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return complain(hc, 2, "kill", errors.New("usage: kill [-SIGNAL] PID…"))
	}
	var failed error
	for _, word := range rest {
		pid, err := strconv.Atoi(word)
		if err != nil {
			err = errors.New("is not a process id")
		} else {
			err = syscall.Kill(pid, sig)
		}
		if err != nil {
			failed = complain(hc, 1, "kill", fmt.Errorf("%s: %w", word, err))
		}
	}
	return failed
}

// duration reads what sleep is told: a number of seconds, minutes, hours or days, or infinity.
func duration(word string) (time.Duration, error) {
	unit := time.Second
	switch {
	case strings.HasSuffix(word, "m"):
		unit = time.Minute
	case strings.HasSuffix(word, "h"):
		unit = time.Hour
	case strings.HasSuffix(word, "d"):
		unit = 24 * time.Hour
	}
	n, err := strconv.ParseFloat(strings.TrimRight(word, "smhd"), 64)
	if err != nil || n < 0 || math.IsNaN(n) || len(strings.TrimRight(word, "smhd")) < len(word)-1 {
		return 0, fmt.Errorf("%q is not a time", word)
	}
	if n > math.MaxInt64/float64(unit) {
		return math.MaxInt64, nil
	}
	return time.Duration(n * float64(unit)), nil
}
