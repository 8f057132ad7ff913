package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Exit statuses of the launcher itself, as shells have them.
const (
	exitUsage     = 2
	exitCannotRun = 126
	exitNotFound  = 127
	exitSignal    = 128
)

// launcher is one run: what the image holds, what was asked for, and the engine once it is known.
type launcher struct {
	config Config
	self   string // this program's path
	env    environment
	stderr io.Writer
	debug  bool
	keeper *keeper
	engine *choice
}

// Main runs the launcher with the arguments and environment of its process and returns the exit status, where it
// returns at all: mostly the app takes the process's place.
//
// The name in args[0] decides: run_proot.sh takes a command as its arguments, nix-hydra-launch takes
// --process LINE [ARGUMENT…].
func Main(args, environ []string) int {
	if len(args) > 1 && args[1] == innerFlag {
		return runInner(args[2:], environ)
	}
	k := newKeeper()
	if os.Getpid() == 1 {
		k.watch() // the kernel drops what process 1 does not catch, and Go's own answer to it is not the app's
	}
	env := newEnvironment(environ)
	fail := func(code int, err error) int {
		fmt.Fprintf(os.Stderr, "%s: %v\n", programName(args), err)
		return code
	}
	self, err := selfPath(args)
	if err != nil {
		return fail(exitCannotRun, err)
	}
	path, err := FindConfig(env.get, self)
	if err != nil {
		return fail(exitCannotRun, err)
	}
	config, err := ReadConfig(path)
	if err != nil {
		return fail(exitCannotRun, err)
	}
	l := &launcher{
		config: config, self: self, env: env, stderr: os.Stderr, keeper: k,
		debug: env.get(DebugEnv) == "true" || env.get(DebugEnv) == "1",
	}
	l.engine, err = newChoice(config, env.get(EngineEnv))
	if err != nil {
		return fail(exitCannotRun, err)
	}
	l.notes()
	l.env.prependPath(l.engine.bin)
	st, err := l.run(args)
	k.clear()
	var failed *failure
	switch {
	case errors.Is(err, errEnding):
		return status(k.endedBy()).exit()
	case errors.As(err, &failed):
		return fail(failed.code, failed.err)
	case err != nil:
		return fail(exitUsage, err)
	}
	return st.exit()
}

// run tells the two ways of being called apart.
func (l *launcher) run(args []string) (status, error) {
	if filepath.Base(args[0]) != ProcessProgramName {
		if len(args) < 2 {
			return 0, fmt.Errorf("usage: %s PROGRAM [ARGUMENT…]", ProgramName)
		}
		return l.command(args[1:])
	}
	if len(args) < 3 || args[1] != "--process" {
		return 0, fmt.Errorf("usage: %s --process LINE [ARGUMENT…]", ProcessProgramName)
	}
	ln, err := parseLine(args[2])
	if err != nil {
		return 0, err
	}
	if len(args) > 3 {
		if err := ln.appendParams(); err != nil {
			return 0, err
		}
	}
	return l.shell(ln, "", args[3:])
}

// command runs a program that nothing follows: where no parent is needed it takes this process's place.
func (l *launcher) command(argv []string) (status, error) {
	cmd := &command{argv: argv, env: l.env, files: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}, forced: true}
	err := l.locate(cmd)
	if failed := (*failure)(nil); errors.As(err, &failed) && failed.code == exitNotFound {
		if ln, name, params, ok := shellCommand(argv); ok {
			l.debugf("no %s in the image: running its -c line in this process", argv[0])
			return l.shell(ln, name, params)
		}
	}
	if err != nil {
		return 0, err
	}
	return l.replace(cmd)
}

// shellCommand takes "sh -c LINE [NAME [ARGUMENT…]]" apart, for images that hold no such shell.
func shellCommand(argv []string) (ln *line, name string, params []string, ok bool) {
	switch filepath.Base(argv[0]) {
	case "sh", "bash", "dash", "ash":
	default:
		return nil, "", nil, false
	}
	if len(argv) < 3 || argv[1] != "-c" {
		return nil, "", nil, false
	}
	ln, err := parseLine(argv[2])
	if err != nil {
		return nil, "", nil, false
	}
	if len(argv) > 3 {
		name, params = argv[3], argv[4:]
	}
	return ln, name, params, true
}

// notes says what the person who set BPL_NIX_ENGINE should know, and the engine where that is already decided.
func (l *launcher) notes() {
	if l.engine.warning != "" {
		fmt.Fprintf(l.stderr, "%s: %s\n", ProgramName, l.engine.warning)
	}
	if name := l.engine.chosen(); name != "" {
		l.debugf("engine %s: %s", name, l.engine.why)
	}
}

func (l *launcher) debugf(format string, args ...any) {
	if l.debug {
		fmt.Fprintf(l.stderr, "%s: %s\n", ProgramName, fmt.Sprintf(format, args...))
	}
}

// failure is an error that ends the launcher with a certain exit status.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func programName(args []string) string {
	if len(args) > 0 && filepath.Base(args[0]) == ProcessProgramName {
		return ProcessProgramName
	}
	return ProgramName
}

// selfPath finds this program's file, also where /proc is not mounted.
func selfPath(args []string) (string, error) {
	if path, err := os.Executable(); err == nil {
		return path, nil
	}
	if len(args) > 0 && strings.Contains(args[0], "/") {
		return filepath.Abs(args[0])
	}
	if len(args) > 0 {
		for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
			path := filepath.Join(dir, args[0])
			if executable(path) == nil {
				return filepath.Abs(path)
			}
		}
	}
	return "", errors.New("finding this program: /proc is not mounted and it was not started by its path")
}
