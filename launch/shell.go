package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// shell runs one command line in this process. Programs start as children; the one after which nothing follows takes
// this process's place, unless something runs beside it.
type shell struct {
	l    *launcher
	line *line
	// stay: an eval, a sourced file or a trap is in play, so that no position says what comes last.
	stay atomic.Bool
	mu   sync.Mutex
	// end is how the foreground program ended that speaks for the line; endAt where in the line it stands, and ended
	// whether a terminating signal had come by then.
	end   status
	endAt syntax.Pos
	ended bool
	// code is the line's exit status, where it reached its end.
	code  int
	traps traps
	jobs  *jobs
}

const (
	// endGrace is how long, after a terminating signal, the line may take to end once no program of it runs.
	endGrace = 100 * time.Millisecond
	// jobGrace is how long programs that still run beside the end of a line may take to end by SIGTERM, where none was
	// sent to the line itself.
	jobGrace = 200 * time.Millisecond
)

// shell runs a line whose $0 is name and whose arguments are params.
//
// Signals are caught from the first child on, and before it where the line may wait: catching them takes longer than
// all the rest of a start.
func (l *launcher) shell(ln *line, name string, params []string) (status, error) {
	if ln.needs.construct != "" {
		return l.realShell(ln, name, params)
	}
	if name != "" {
		ln.file.Name = name
	}
	ln.reportStatus()
	ln.reportJobs()
	if l.engine.chosen() != EngineNative {
		ln.placeTests()
	}
	sh := &shell{l: l, line: ln, end: statusNone, jobs: newJobs(), traps: traps{actions: map[syscall.Signal]string{}}}
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	runner, err := interp.New(
		interp.Env(expand.ListEnviron(l.env...)), interp.Dir(dir), interp.Params(append([]string{"--"}, params...)...),
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr), interp.CallHandler(sh.call),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return sh.exec }),
		interp.StatHandler(sh.stat), interp.OpenHandler(sh.open), interp.ReadDirHandler2(sh.readDir),
	)
	if err != nil {
		return 0, fmt.Errorf("starting the shell interpreter: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l.keeper.onEnd, l.keeper.trap, l.keeper.trapped = func() { cancel(); go sh.endSoon() }, sh.takes, sh.jobs.unheard
	if ln.loops || ln.background {
		l.keeper.watch()
	}
	return sh.outcome(sh.run(ctx, runner))
}

// run interprets the line; what the interpreter cannot do, it says by a panic.
func (sh *shell) run(ctx context.Context, runner *interp.Runner) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = &failure{exitUsage, fmt.Errorf("running command line %q: %v: this needs a real shell: add bash to the "+
				"closure and say %s bash -c '…'", sh.line.text, problem, ProgramName)}
		}
	}()
	return runner.Run(ctx, sh.line.file)
}

// outcome turns the interpreter's result into a status, and ends what still runs beside the line.
func (sh *shell) outcome(err error) (status, error) {
	sh.l.keeper.endAll(jobGrace)
	sig := sh.l.keeper.endedBy()
	sh.mu.Lock()
	end, at := sh.end, sh.endAt
	sh.mu.Unlock()
	var code interp.ExitStatus
	var failed *failure
	switch {
	case errors.As(err, &failed):
		return 0, err
	case sig != 0 && end != statusNone:
		return end, nil
	case sig != 0:
		return exited(exitSignal + int(sig)), nil
	case err == nil || errors.As(err, &code):
		if err == nil {
			code = interp.ExitStatus(sh.code)
		}
		if sh.line.tails[at] && !sh.stay.Load() && end.wait().Signaled() && end.code() == int(code) {
			return end, nil
		}
		return exited(int(code)), nil
	}
	return 0, &failure{exitUsage, fmt.Errorf("running command line %q: %w", sh.line.text, err)}
}

// endSoon ends this process when a terminating signal has ended every program but not the line, which may be waiting
// in a built-in.
func (sh *shell) endSoon() {
	for idle := time.Duration(0); idle < endGrace; idle += endGrace / 10 {
		time.Sleep(endGrace / 10)
		if sh.l.keeper.alive() > 0 {
			idle = 0
		}
	}
	st, _ := sh.outcome(nil)
	sh.l.keeper.clear()
	os.Exit(st.exit())
}

// call sees every command before it runs, built-ins included.
func (sh *shell) call(ctx context.Context, args []string) ([]string, error) {
	hc := interp.HandlerCtx(ctx)
	if sh.line.calm[hc.Pos] || args[0] == ownStatus {
		args = sh.heard(args)
	}
	if which, ok := asksWhich(args); ok {
		return which, nil
	}
	args = sh.placed(hc, args)
	switch args[0] {
	case "eval", "source", ".", "builtin", "command":
		sh.stay.Store(true)
	case "trap":
		sh.stay.Store(true)
		return sh.trap(args)
	case "read", "wait", ownWait, "mapfile", "readarray":
		sh.l.keeper.watch()
	case "umask":
		args[0] = ownUmask
	}
	return args, nil
}

// exec runs a program, or one of the built-ins that the interpreter lacks.
func (sh *shell) exec(ctx context.Context, args []string) error {
	hc := interp.HandlerCtx(ctx)
	cmd := &command{argv: args, dir: hc.Dir}
	cmd.env = sh.l.env.overlay(hc.Env)
	replace := sh.line.tails[hc.Pos]
	if sh.line.execs[hc.Pos] && !sh.stay.Load() {
		replace = true
		cmd.argv = execOptions(cmd)
	}
	for len(cmd.argv) > 0 && sh.isSelf(cmd.argv[0]) {
		cmd.argv, cmd.forced = cmd.argv[1:], true
	}
	if len(cmd.argv) == 0 {
		return sh.report(hc, &failure{exitUsage, fmt.Errorf("usage: %s PROGRAM [ARGUMENT…]", ProgramName)})
	}
	if own := sh.builtin(cmd); own != nil {
		return own(ctx, hc, cmd.argv)
	}
	start := sh.l.start
	if err := sh.l.locate(cmd); err != nil {
		if own := sh.fallback(cmd.argv[0]); own != nil {
			return own(ctx, hc, cmd.argv)
		}
		if _, _, _, ok := shellCommand(cmd.argv); !ok {
			return sh.report(hc, err)
		}
		// No such shell in the image: another launcher stands for it, outside of any engine.
		cmd.path, cmd.argv, start = sh.l.self, append([]string{ProgramName}, cmd.argv...), sh.l.startPlain
	}
	closeFiles, err := sh.files(cmd, hc)
	if err != nil {
		return sh.report(hc, &failure{exitCannotRun, err})
	}
	if replace && !sh.stay.Load() && !sh.line.background && sh.l.engine.inPlace() && len(closeFiles.copies) == 0 {
		return sh.report(hc, sh.l.exec(cmd))
	}
	child, err := start(cmd)
	closeFiles.opened()
	if err != nil {
		closeFiles.wait()
		return sh.report(hc, err)
	}
	st := sh.attend(child, hc.Pos)
	closeFiles.wait()
	if code := st.code(); code != 0 {
		return interp.ExitStatus(code)
	}
	return nil
}

// status is the built-in that notes the line's exit status, and succeeds itself, so that no "set -e" or trap takes it
// for a failure.
func (sh *shell) status(_ context.Context, _ interp.HandlerContext, args []string) error {
	if code, err := strconv.Atoi(args[1]); err == nil {
		sh.code = code
	}
	return nil
}

// statusNone is no status at all: no program ended yet.
const statusNone = ^status(0)

// attend waits for a foreground or background child. Of the foreground ones that a terminating signal ends at once, the
// last of the pipeline speaks for the line.
func (sh *shell) attend(c *child, at syntax.Pos) status {
	st := sh.l.keeper.wait(c)
	if sh.line.jobs[at] {
		return st
	}
	ending := sh.l.keeper.endedBy() != 0
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !sh.ended || at.After(sh.endAt) {
		sh.end, sh.endAt, sh.ended = st, at, ending
	}
	return st
}

// report prints a command's failure as shells do, and gives it its exit status.
func (sh *shell) report(hc interp.HandlerContext, err error) error {
	if errors.Is(err, errEnding) {
		return interp.ExitStatus(exitSignal + int(sh.l.keeper.endedBy()))
	}
	code := exitCannotRun
	if failed := (*failure)(nil); errors.As(err, &failed) {
		code = failed.code
	}
	_, _ = fmt.Fprintf(hc.Stderr, "%s: %v\n", ProgramName, err)
	return interp.ExitStatus(code)
}

// isSelf reports whether a word names this launcher, so that it need not start itself again.
func (sh *shell) isSelf(word string) bool {
	if filepath.Base(word) != ProgramName {
		return false
	}
	if word == ProgramName {
		return true
	}
	a, err1 := os.Stat(word)
	b, err2 := os.Stat(sh.l.self)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// pass holds what must be closed or waited for around a start.
type pass struct {
	copies []<-chan struct{}
	ours   []*os.File
}

func (p *pass) opened() {
	for _, file := range p.ours {
		_ = file.Close()
	}
}

func (p *pass) wait() {
	for _, done := range p.copies {
		<-done
	}
}

// files gives the command its streams; what is not a file, as in $(…), is copied through a pipe.
func (sh *shell) files(cmd *command, hc interp.HandlerContext) (*pass, error) {
	p := &pass{}
	if in, ok := hc.Stdin.(*os.File); ok {
		cmd.files[0] = in
	}
	for i, w := range []io.Writer{hc.Stdout, hc.Stderr} {
		file, ok := w.(*os.File)
		switch {
		case ok:
		case i == 1 && w == hc.Stdout:
			file = cmd.files[1]
		case w == io.Discard:
			null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
			if err != nil {
				continue // closed, as asked for
			}
			p.ours, file = append(p.ours, null), null
		default:
			read, write, err := os.Pipe()
			if err != nil {
				return p, err
			}
			done := make(chan struct{})
			go func() {
				_, _ = io.Copy(w, read)
				_ = read.Close()
				close(done)
			}()
			p.ours, p.copies, file = append(p.ours, write), append(p.copies, done), write
		}
		cmd.files[i+1] = file
	}
	return p, nil
}
