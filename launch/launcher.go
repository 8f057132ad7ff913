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

// launcher is the state of one start.
type launcher struct {
	config     Config
	self       string // this program's path
	env        environment
	stderr     io.Writer
	debug      bool
	supervisor *supervisor
	engine     *choice
}

// Main runs the launcher with the arguments and environment of its process and returns the exit status, where it
// returns at all: mostly the app takes the process's place.
//
// The name in args[0] decides: run_proot.sh takes a command as its arguments, nix-hydra-launch takes
// --process LINE [ARGUMENT…]. Main is to be called on the process's first thread (runtime.LockOSThread in an init function).
func Main(args, environ []string) int {
	if len(args) > 2 {
		switch args[1] {
		case shimFlag:
			return runShim(args[2:], environ)
		case ownShellFlag:
			return runOwnShell(args[2], args[3:], environ)
		}
	}
	s := &supervisor{}
	if os.Getpid() == 1 {
		s.watch() // the kernel drops what process 1 does not catch
	}
	st, err := start(s, args, environ)
	var failed *failure
	var by *interruptedError
	switch {
	case errors.As(err, &by):
		return status(by.signal).exit()
	case err == nil:
		return st.exit()
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", programName(args), err)
	if errors.As(err, &failed) {
		return failed.code
	}
	return exitCannotRun
}

// start reads the configuration and runs what args ask for.
func start(s *supervisor, args, environ []string) (status, error) {
	self, err := selfPath(args)
	if err != nil {
		return 0, err
	}
	env := environment(environ)
	path, err := FindConfig(env.get, self)
	if err != nil {
		return 0, err
	}
	config, err := ReadConfig(path)
	if err != nil {
		return 0, err
	}
	l := &launcher{
		config: config, self: self, env: env, stderr: os.Stderr, supervisor: s,
		debug: env.get(DebugEnv) == "true" || env.get(DebugEnv) == "1",
	}
	if l.engine, err = newChoice(config, env.get(EngineEnv)); err != nil {
		return 0, err
	}
	l.logChoice()
	l.prepareEnvironment()
	cmd, err := l.command(args)
	if err != nil {
		return 0, err
	}
	return l.run(cmd)
}

// command is what this program was called to start, under either of its names.
func (l *launcher) command(args []string) (*command, error) {
	if filepath.Base(args[0]) != ProcessProgramName {
		if len(args) < 2 {
			return nil, &failure{exitUsage, fmt.Errorf("usage: %s PROGRAM [ARGUMENT…]", ProgramName)}
		}
		return l.program(l.relocatedAll(args[1:]), l.env, true)
	}
	if len(args) < 3 || args[1] != "--process" {
		return nil, &failure{exitUsage, fmt.Errorf("usage: %s --process LINE [ARGUMENT…]", ProcessProgramName)}
	}
	return l.line(l.relocated(args[2]), l.relocatedAll(args[3:]))
}

// program is the command of these words, with its program's file found. "sh -c LINE" becomes a command of the launcher's own
// shell where the image has no such program.
func (l *launcher) program(argv []string, env environment, needsEngine bool) (*command, error) {
	cmd := &command{argv: argv, env: env, needsEngine: needsEngine}
	err := l.locate(cmd)
	if err != nil && isShell(argv[0]) && len(argv) > 2 && argv[1] == "-c" {
		l.debugf("%s cannot be run: its -c line is interpreted", argv[0])
		return l.ownShell(argv[2], argv[3:]), nil
	}
	return cmd, err
}

// run makes the command take this process's place, and supervises it where something needs a parent: an engine, and process 1.
// If the app were process 1, the kernel would drop every signal that the app does not catch, SIGTERM too, and nobody would reap
// orphans.
func (l *launcher) run(cmd *command) (status, error) {
	if os.Getpid() != 1 && l.engine.name != "" {
		return 0, cannotExec(cmd.path, cmd.path, execInPlace(cmd))
	}
	return l.supervisor.run(func() (*app, error) {
		a, err := l.startApp(cmd)
		if err == nil {
			a.shell = cmd.shell
		}
		return a, err
	})
}

// logChoice prints the warning about BPL_NIX_ENGINE, where there is one, and logs the engine where it is decided already.
func (l *launcher) logChoice() {
	if l.engine.warning != "" {
		fmt.Fprintf(l.stderr, "%s: %s\n", ProgramName, l.engine.warning)
	}
	if l.engine.name != "" {
		l.debugf("engine %s: %s", l.engine.name, l.engine.why)
	}
}

func (l *launcher) debugf(format string, args ...any) {
	if l.debug {
		fmt.Fprintf(l.stderr, "%s: %s\n", ProgramName, fmt.Sprintf(format, args...))
	}
}

// failure is an error with the exit status that the launcher ends with.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }

func programName(args []string) string {
	if filepath.Base(args[0]) == ProcessProgramName {
		return ProcessProgramName
	}
	return ProgramName
}

// selfPath finds this program's file, also where /proc is not mounted.
func selfPath(args []string) (string, error) {
	path, err := os.Executable()
	if err != nil && strings.Contains(args[0], "/") {
		path, err = filepath.Abs(args[0])
	}
	if err != nil {
		return "", fmt.Errorf("finding this program, which was not started by its path: %w", err)
	}
	return path, nil
}
