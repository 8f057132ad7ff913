package launch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// asksWhich makes "command -v" and "type" calls of the built-in which: the interpreter would look for programs outside
// of any engine.
func asksWhich(args []string) ([]string, bool) {
	if args[0] == "command" && len(args) > 1 && (args[1] == "-v" || args[1] == "-V") {
		return append([]string{ownWhich}, args[1:]...), true
	}
	if args[0] != "type" {
		return nil, false
	}
	mode, names := "-V", args[1:]
	for len(names) > 0 && slices.Contains([]string{"-t", "-p", "-P"}, names[0]) {
		mode, names = names[0], names[1:]
	}
	return append([]string{ownWhich, mode}, names...), true
}

// which says what names stand for, in the form that the option in args[1] asks for.
func (sh *shell) which(_ context.Context, hc interp.HandlerContext, args []string) error {
	mode, names := args[1], args[2:]
	found := 0
	for _, name := range names {
		kind, path := sh.kindOf(hc, name, mode == "-P")
		if kind != "" {
			found++
		}
		text := ""
		switch {
		case kind == "" && mode == "-V":
			_, _ = fmt.Fprintf(hc.Stderr, "%s: %s: not found\n", ProgramName, name)
		case kind == "":
		case mode == "-t":
			text = kind
		case kind == "file" && mode == "-V":
			text = name + " is " + path
		case kind == "file":
			text = path
		case mode == "-v":
			text = name
		case mode == "-V":
			text = name + " is a " + strings.Replace(kind, "builtin", "shell builtin", 1)
		}
		if text != "" {
			_, _ = fmt.Fprintln(hc.Stdout, text)
		}
	}
	if found == len(names) || found > 0 && mode == "-v" {
		return nil
	}
	return exitStatus(1)
}

// kindOf says what a name stands for: a keyword, function, builtin or file, and where the file is for the line's
// programs. Both are empty for nothing.
func (sh *shell) kindOf(hc interp.HandlerContext, name string, onlyFile bool) (kind, path string) {
	_, function := sh.line.functions[name]
	switch {
	case onlyFile:
	case syntax.IsKeyword(name):
		return "keyword", ""
	case function:
		return "function", ""
	case interp.IsBuiltin(name) || slices.Contains([]string{"ulimit", "kill", "export", "declare", "local", "readonly",
		"typeset", "let"}, name):
		return "builtin", ""
	}
	cmd := &command{argv: []string{name}, dir: hc.Dir, env: sh.l.env.overlay(hc.Env)}
	if sh.l.locate(cmd) == nil {
		return "file", cmd.path
	}
	if name == "sleep" && !onlyFile {
		return "builtin", ""
	}
	return "", ""
}
