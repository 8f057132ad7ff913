package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// startApp starts the command as an app to be supervised, under the first engine that works.
func (l *launcher) startApp(cmd *command) (*app, error) {
	ch := l.engine
	if ch.name != "" {
		return l.startPlain(cmd)
	}
	for _, name := range ch.candidates {
		start := l.startProot
		if name == EngineUserns {
			start = l.startUserns
		}
		a, err := start(cmd)
		if err != nil {
			if interrupted := l.supervisor.interrupted(); interrupted != nil {
				return nil, interrupted
			}
		}
		if denied := (*deniedError)(nil); errors.As(err, &denied) {
			l.debugf("engine %s does not work here: %v", name, denied)
			ch.denied = append(ch.denied, denial{name, denied})
			continue
		}
		l.chosen(name)
		return a, err
	}
	if !cmd.needsEngine && !cmd.closure {
		l.debugf("no engine works here: starting %s, which is not in the closure, without one", cmd.path)
		return l.startPlain(cmd)
	}
	return nil, &failure{exitCannotRun, l.noEngine()}
}

// chosen says which engine has turned out to work, and what did not although it was asked for.
func (l *launcher) chosen(name string) {
	ch := l.engine
	switch {
	case ch.strict:
		ch.why = EngineEnv + " asks for it, and its start shows the closure at /nix/store" + ch.why
	case name == l.config.Requested:
		ch.why = "BP_NIX_ENGINE asked for it, and its start shows the closure at /nix/store" + ch.why
	default:
		ch.why = "the first that shows the closure at /nix/store" + ch.why
	}
	ch.name = name
	l.debugf("engine %s: %s", name, ch.why)
	for _, d := range ch.denied {
		if d.engine == l.config.Requested {
			fmt.Fprintf(l.stderr, "%s: BP_NIX_ENGINE=%s does not work here, running by %s: %v\n", ProgramName, d.engine, name,
				d.err)
		}
	}
}

// startPlain starts the command as a child.
func (l *launcher) startPlain(cmd *command) (*app, error) {
	files := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	tty := terminal()
	pid, err := forkExec(l.self, cmd, files, tty, &syscall.SysProcAttr{})
	if err != nil {
		return nil, cannotExec(cmd.path, l.onDisk(cmd.path), err)
	}
	return &app{child: pid, group: pid, terminal: tty}, nil
}

// forkExec starts a command in a process group of its own. Where that is to be given a terminal, it is started through
// the shim. The error is that of exec.
func forkExec(self string, cmd *command, files [3]*os.File, tty int, sys *syscall.SysProcAttr) (int, error) {
	sys.Setpgid = true
	if tty < 0 {
		list, _ := descriptors(files, inherited())
		return syscall.ForkExec(cmd.path, cmd.argv, &syscall.ProcAttr{Env: cmd.env, Files: list, Sys: sys})
	}
	read, write, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer func() { _ = read.Close() }()
	list, report := descriptors(files, inherited(), write)
	call := shimCall{Report: report, Terminal: tty, path: cmd.path, argv: cmd.argv}
	pid, err := syscall.ForkExec(self, call.args(), &syscall.ProcAttr{Env: cmd.env, Files: list, Sys: sys})
	_ = write.Close()
	if err != nil {
		return 0, err
	}
	_, err = readStart(json.NewDecoder(read), true)
	return pid, err
}

// readShim waits for what the shim in an engine reports of a start, at most for startTimeout, and no longer than exitGrace
// once a terminating signal has come or the engine has ended, of which something may live on that holds the pipe.
func (l *launcher) readShim(pid int, pipe *os.File, reports *json.Decoder, inPlace bool) (report, error) {
	type outcome struct {
		report
		err error
	}
	_ = pipe.SetReadDeadline(time.Now().Add(startTimeout))
	outcomes := make(chan outcome, 1)
	go func() {
		r, err := readStart(reports, inPlace)
		outcomes <- outcome{r, err}
	}()
	o := await(l.supervisor, pid, outcomes, func() { _ = pipe.SetReadDeadline(time.Now().Add(exitGrace)) })
	_ = pipe.SetReadDeadline(time.Time{})
	return o.report, o.err
}

// endChild kills a child that is of no use, and returns its status: its own where it has ended by itself.
func endChild(pid int) status {
	var ws syscall.WaitStatus
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_, _ = syscall.Wait4(pid, &ws, 0, nil)
	return status(ws)
}
