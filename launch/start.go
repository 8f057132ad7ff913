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
		l.chosen(name, a)
		return a, err
	}
	if !cmd.needsEngine && !cmd.closure {
		l.debugf("no engine works here: starting %s, which is not in the closure, without one", cmd.path)
		return l.startPlain(cmd)
	}
	return nil, &failure{exitCannotRun, l.noEngine()}
}

// chosen logs which engine works, and warns where that is not the one that BP_NIX_ENGINE asked for. a is nil where the engine
// works and the program did not start.
func (l *launcher) chosen(name string, a *app) {
	ch := l.engine
	switch {
	case ch.strict:
		ch.why = EngineEnv + " asks for it, and its start shows the closure at /nix/store"
	case name == l.config.Requested:
		ch.why = "BP_NIX_ENGINE asked for it, and its start shows the closure at /nix/store"
	default:
		ch.why = "the first that shows the closure at /nix/store"
	}
	if a != nil && a.how != "" {
		ch.why += "; " + a.how
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

// startPlain starts the command as a child, without an engine around it.
func (l *launcher) startPlain(cmd *command) (*app, error) {
	tty := terminal()
	pid, err := forkExec(cmd, os.Stderr, tty, 0)
	if err != nil {
		return nil, cannotExec(cmd.path, l.onDisk(cmd.path), err)
	}
	return &app{child: pid, pgid: pid, terminal: tty}, nil
}

// readShim waits for the shim's report of a start. It waits for startTimeout at most, and for exitGrace once a terminating signal
// has come or the engine's process has ended: what that has left may keep the pipe open.
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

// endChild kills a child, if it has not ended yet, and returns its status.
func endChild(pid int) status {
	var ws syscall.WaitStatus
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_, _ = syscall.Wait4(pid, &ws, 0, nil)
	return status(ws)
}
