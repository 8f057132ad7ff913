package launch

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/syntax"
)

// traps are a line's traps on the signals that would end it. The programs that run get such a signal all the same, so
// that they need not end by themselves before an action is run. The interpreter has the traps on EXIT and ERR.
type traps struct {
	actions map[syscall.Signal]string
	exit    bool // there is one on EXIT: a signal without a trap of its own runs it by ending the line in good order
}

// trap takes the traps on signals out of a call of trap, and leaves the interpreter the rest.
func (sh *shell) trap(args []string) ([]string, error) {
	operands := args[1:]
	if len(operands) > 0 && operands[0] == "--" {
		operands = operands[1:]
	}
	if len(operands) == 0 {
		return args, nil
	}
	action, names := "-", operands
	if len(operands) > 1 {
		action, names = operands[0], operands[1:]
	}
	var rest []string
	for _, word := range names {
		switch name := signalName(word); {
		case name == "EXIT" || name == "ERR":
			rest = append(rest, name)
		case !trappable(name) || action == "":
			return nil, &failure{exitUsage, fmt.Errorf("running command line %q: trap %q %s needs a real shell: add bash "+
				"to the closure and say %s bash -c '…'", sh.line.text, action, word, ProgramName)}
		}
	}
	if action == "-" {
		action = ""
	}
	sh.setTraps(action, names)
	if len(rest) == 0 {
		return []string{"true"}, nil
	}
	return append([]string{"trap", "--", action}, rest...), nil
}

// setTraps notes traps; an empty action takes them back.
func (sh *shell) setTraps(action string, names []string) {
	sh.l.keeper.watch()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, word := range names {
		name := signalName(word)
		sig := unix.SignalNum("SIG" + name)
		switch {
		case name == "EXIT":
			sh.traps.exit = action != ""
		case sig == 0:
		case action == "":
			delete(sh.traps.actions, sig)
		default:
			sh.traps.actions[sig] = action
		}
	}
}

// takes reports whether a trap takes a signal, and keeps it until its action can be run.
func (sh *shell) takes(sig syscall.Signal) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if _, own := sh.traps.actions[sig]; !own && !sh.traps.exit {
		return false
	}
	sh.jobs.change(func() { sh.jobs.signals = append(sh.jobs.signals, sig) })
	go sh.endUnheard(sig)
	return true
}

// endUnheard ends the line by a trapped signal that no command hears of: one that waits in a built-in, as read does.
func (sh *shell) endUnheard(sig syscall.Signal) {
	for idle := time.Duration(0); idle < endGrace; idle += endGrace / 10 {
		time.Sleep(endGrace / 10)
		if sh.l.keeper.alive() > 0 {
			idle = 0
		}
		if !slices.Contains(sh.jobs.unheard(), sig) {
			return
		}
	}
	sh.l.keeper.end(sig)
}

// heard puts the actions of signals that came before a command of the main shell.
func (sh *shell) heard(args []string) []string {
	sh.jobs.mu.Lock()
	signals := sh.jobs.signals
	sh.jobs.signals = nil
	sh.jobs.mu.Unlock()
	if len(signals) == 0 {
		return args
	}
	var script []string
	sh.mu.Lock()
	for _, sig := range signals {
		if action, own := sh.traps.actions[sig]; own {
			script = append(script, action)
			continue
		}
		code := exitSignal + int(sig)
		if sh.end != statusNone {
			code = sh.end.code()
		}
		script = append(script, fmt.Sprintf("exit %d", code))
	}
	sh.mu.Unlock()
	words := make([]string, len(args))
	for i, arg := range args {
		words[i], _ = syntax.Quote(arg, syntax.LangBash) // it only fails for what no word can hold
	}
	return []string{"eval", strings.Join(append(script, strings.Join(words, " ")), "\n")}
}
