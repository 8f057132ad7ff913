package launch

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// replace runs the command in this process's place, or stays as its parent where the engine needs one.
func (l *launcher) replace(cmd *command) (status, error) {
	if l.engine.inPlace() {
		return 0, l.exec(cmd)
	}
	c, err := l.start(cmd)
	if err != nil {
		return 0, err
	}
	return l.keeper.wait(c), nil
}

// exec makes the command take this process's place; it only returns when it cannot.
func (l *launcher) exec(cmd *command) error {
	if err := l.keeper.release(); err != nil {
		return err
	}
	if err := takeFiles(cmd.files); err != nil {
		return &failure{exitCannotRun, fmt.Errorf("passing files to %s: %w", cmd.path, err)}
	}
	if err := enter(cmd.dir); err != nil {
		return &failure{exitCannotRun, err}
	}
	real, _ := l.onDisk(cmd.path)
	return cannotExec(cmd.path, real, syscall.Exec(cmd.path, cmd.argv, cmd.env))
}

// enter changes to a folder, "" being the present one.
func enter(dir string) error {
	if dir == "" {
		return nil
	}
	return os.Chdir(dir)
}

// takeFiles makes files this process's standard input, output and error.
func takeFiles(files [3]*os.File) error {
	var high [3]int
	for i, file := range files {
		high[i] = -1
		if file == nil {
			continue
		}
		if int(file.Fd()) == i {
			continue
		}
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 10)
		if err != nil {
			return err
		}
		high[i] = fd
	}
	for i, file := range files {
		switch {
		case file == nil:
			_ = syscall.Close(i)
		case high[i] >= 0:
			_ = syscall.SetNonblock(high[i], false)
			if err := syscall.Dup3(high[i], i, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// start starts the command as a child under the run's engine, which the first start decides.
func (l *launcher) start(cmd *command) (*child, error) {
	ch := l.engine
	if name := ch.chosen(); name != "" {
		return l.startBy(name, cmd)
	}
	ch.starting.Lock()
	defer ch.starting.Unlock()
	if name := ch.chosen(); name != "" { // by a start that ran beside this one
		return l.startBy(name, cmd)
	}
	for len(ch.candidates) > 0 {
		name := ch.candidates[0]
		c, err := l.startBy(name, cmd)
		if denied := (*deniedError)(nil); errors.As(err, &denied) {
			l.debugf("engine %s does not work here: %v", name, denied)
			ch.denied = append(ch.denied, denial{name, denied})
			ch.candidates = ch.candidates[1:]
			continue
		}
		if errors.Is(err, errEnding) {
			return nil, err
		}
		ch.decide(name, l.whyChosen(name))
		l.debugf("engine %s: %s", name, ch.why)
		for _, d := range ch.denied {
			if d.engine == l.config.Requested && !ch.strict {
				fmt.Fprintf(l.stderr, "%s: BP_NIX_ENGINE=%s does not work here, running by %s: %v\n", ProgramName, d.engine,
					name, d.err)
			}
		}
		return c, err
	}
	if !cmd.forced && !cmd.closure {
		l.debugf("no engine works here: starting %s, which is not in the closure, without one", cmd.path)
		return l.startPlain(cmd)
	}
	if ch.refused {
		return nil, &failure{exitCannotRun, fmt.Errorf("%s: not started, for the reasons above", cmd.path)}
	}
	ch.refused = true
	return nil, &failure{exitCannotRun, l.noEngine()}
}

func (l *launcher) whyChosen(name string) string {
	why := "the first that shows the closure at /nix/store"
	switch {
	case l.engine.strict:
		why = EngineEnv + " asks for it, and its start shows the closure at /nix/store"
	case name == l.config.Requested:
		why = "BP_NIX_ENGINE asked for it, and its start shows the closure at /nix/store"
	}
	switch {
	case name != EngineProot:
	case l.engine.seccomp:
		why += "; with seccomp acceleration, which was seen to keep the binding"
	default:
		why += "; without seccomp acceleration"
	}
	return why
}

func (l *launcher) startBy(name string, cmd *command) (*child, error) {
	switch name {
	case EngineUserns:
		return l.startUserns(cmd)
	case EngineProot:
		return l.startProot(cmd)
	}
	return l.startPlain(cmd)
}

// startPlain starts the command as an ordinary child.
func (l *launcher) startPlain(cmd *command) (*child, error) {
	files, _ := descriptors(cmd.files, l.keeper.inherited())
	c, err := l.keeper.start(spec{
		path: cmd.path, argv: cmd.argv, env: cmd.env, dir: cmd.dir, files: files,
		sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM},
	})
	if err != nil && !errors.Is(err, errEnding) {
		real, _ := l.onDisk(cmd.path)
		return nil, cannotExec(cmd.path, real, err)
	}
	return c, err
}
