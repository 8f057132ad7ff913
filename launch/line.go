package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// LineError says why a Procfile line is not a command line, and where.
type LineError struct {
	// Line is the text, Column the 1-based byte it goes wrong at; 0 where no single place is at fault.
	Line   string
	Column int
	// Problem says what is wrong there.
	Problem string
}

// Error names the problem and its place.
func (e *LineError) Error() string {
	if e.Column == 0 {
		return fmt.Sprintf("parsing command line %q: %s", e.Line, e.Problem)
	}
	return fmt.Sprintf("parsing command line %q: column %d: %s", e.Line, e.Column, e.Problem)
}

// Line is the command line of a process type, as it is written and as a shell reads it. ParseLine makes one.
type Line struct {
	text string
	file *syntax.File
	// command is the one command that the line consists of; nil where a shell has to run the line.
	command *syntax.CallExpr
}

// maxBrackets bounds how deeply a line can nest. The parser calls itself for each level, and of a line as long as an argument
// can be, 128 KiB of brackets take 512 MB of stack and seconds: at 1 GB Go ends the program. All else that nests takes
// two characters and more for a level, and 64 MB at most.
const maxBrackets = 5000

// ParseLine reads a process type's command line. The error is a *LineError, which says why the line could not be run: it
// does not parse, nests too deeply, or holds no command. The build reads every line, so that a faulty one never reaches an
// image.
func ParseLine(text string) (Line, error) {
	if strings.Count(text, "(")+strings.Count(text, "{")+strings.Count(text, "[") > maxBrackets {
		return Line{}, &LineError{Line: text, Problem: fmt.Sprintf("it has more than %d brackets", maxBrackets)}
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(text), "")
	if err != nil {
		var at syntax.ParseError
		if errors.As(err, &at) {
			return Line{}, &LineError{Line: text, Column: int(at.Pos.Col()), Problem: at.Text}
		}
		return Line{}, &LineError{Line: text, Problem: err.Error()}
	}
	if len(file.Stmts) == 0 {
		return Line{}, &LineError{Line: text, Problem: "no command"}
	}
	return Line{text, file, plainCommand(file)}, nil
}

// NeedsShell reports whether a line is more than one command, so that a shell has to run it.
func (l Line) NeedsShell() bool { return l.command == nil }

// Program is the program that a line names, where the line is one command and says that word as it is; "" for any other
// line, and where the line sets PATH itself.
func (l Line) Program() string {
	setsPath := func(a *syntax.Assign) bool { return a.Name.Value == "PATH" }
	if l.NeedsShell() || slices.ContainsFunc(l.command.Assigns, setsPath) {
		return ""
	}
	words := l.command.Args
	for len(words) > 1 && words[0].Lit() == ProgramName {
		words = words[1:]
	}
	return words[0].Lit()
}

// Files are the words of a line's commands that may name files, in their order and as they are written. Words that only a
// shell can expand are left out, and so are programs that are looked up in PATH.
func (l Line) Files() (words []string) {
	syntax.Walk(l.file, func(node syntax.Node) bool {
		call, ok := node.(*syntax.CallExpr)
		if !ok {
			return true
		}
		program := true
		for _, word := range call.Args {
			text := word.Lit()
			if text != "" && (!program || strings.Contains(text, "/")) {
				words = append(words, text)
			}
			program = program && (text == ProgramName || text == "exec")
		}
		return true
	})
	return words
}

// line is the command that runs a process type's line: the line's own where it is one command, else a shell that is given the
// line. args are the user's; they come last, or where a line for a shell says "$@".
func (l *launcher) line(text string, args []string) (*command, error) {
	line, err := ParseLine(text)
	if err != nil {
		return nil, &failure{exitUsage, err}
	}
	if line.NeedsShell() {
		if text, err = line.withArguments(args); err != nil {
			return nil, &failure{exitUsage, err}
		}
		return l.shell(text, args)
	}
	argv, env, err := l.expand(line.command)
	if err != nil {
		return nil, &failure{1, fmt.Errorf("expanding command line %q: %w", text, err)}
	}
	argv = append(argv, args...)
	needsEngine := false
	for len(argv) > 1 && l.isSelf(argv[0]) { // run_proot.sh in a line is no second start
		argv, needsEngine = argv[1:], true
	}
	if len(argv) == 0 {
		return nil, &failure{exitUsage, &LineError{Line: text, Problem: "no command"}}
	}
	return l.program(argv, env, needsEngine)
}

// plainCommand is the command of a line that is one command of words, quotes, variables and assignments before it, without the
// word exec; nil for any other line, which needs a shell.
func plainCommand(file *syntax.File) *syntax.CallExpr {
	st := file.Stmts[0]
	call, ok := st.Cmd.(*syntax.CallExpr)
	if !ok || len(file.Stmts) > 1 || st.Negated || st.Background || len(st.Redirs) > 0 {
		return nil
	}
	if len(call.Args) > 1 && call.Args[0].Lit() == "exec" && !strings.HasPrefix(call.Args[1].Lit(), "-") {
		call = &syntax.CallExpr{Assigns: call.Assigns, Args: call.Args[1:]} // a plain command is exec'd in any case
	}
	if len(call.Args) == 0 || interp.IsBuiltin(call.Args[0].Lit()) {
		return nil
	}
	plain := true
	syntax.Walk(call, func(node syntax.Node) bool {
		plain = plain && plainNode(node)
		return plain
	})
	if !plain {
		return nil
	}
	return call
}

// plainNode reports whether a part of a command means the same to every shell and to this program.
func plainNode(node syntax.Node) bool {
	switch n := node.(type) {
	case nil, *syntax.CallExpr, *syntax.Word, *syntax.SglQuoted, *syntax.DblQuoted, *syntax.Comment:
		return true
	case *syntax.Lit:
		return !strings.ContainsAny(n.Value, "*?[{")
	case *syntax.Assign:
		return !n.Append
	case *syntax.ParamExp:
		if n.Exp != nil && n.Exp.Op != syntax.DefaultUnset && n.Exp.Op != syntax.DefaultUnsetOrNull &&
			n.Exp.Op != syntax.AlternateUnset && n.Exp.Op != syntax.AlternateUnsetOrNull {
			return false
		}
		return !n.Excl && !n.Length && n.Index == nil && n.Slice == nil && n.Repl == nil && plainVariable(n.Param.Value)
	}
	return false
}

// plainVariable reports whether a variable comes from the environment. The others are the user's arguments ($1, $@) and those that
// shells set themselves.
func plainVariable(name string) bool {
	switch name {
	case "_", "LINENO", "RANDOM", "SRANDOM", "SECONDS", "UID", "EUID", "PPID", "SHLVL", "OLDPWD", "GROUPS", "HOSTNAME",
		"HOSTTYPE", "MACHTYPE", "OSTYPE", "FUNCNAME", "PIPESTATUS", "DIRSTACK":
		return false
	}
	return syntax.ValidName(name) && !strings.HasPrefix(name, "BASH") && !strings.HasPrefix(name, "EPOCH")
}

// expand expands a plain command's words and assignments, as a shell does, to its arguments and environment.
func (l *launcher) expand(call *syntax.CallExpr) (argv []string, env environment, err error) {
	dir, _ := os.Getwd()
	config := func() *expand.Config { // shells set PWD, and do not take IFS from their environment
		return &expand.Config{Env: expand.ListEnviron(slices.Concat([]string{"PWD=" + dir}, env, []string{"IFS= \t\n"})...)}
	}
	env = l.env
	if argv, err = expand.Fields(config(), call.Args...); err != nil {
		return nil, nil, err
	}
	for _, assign := range call.Assigns { // a value may use the variables that are assigned before it; the words may not
		value, err := expand.Literal(config(), assign.Value)
		if err != nil {
			return nil, nil, err
		}
		env.set(assign.Name.Value, value)
	}
	return argv, env, nil
}

// isSelf reports whether a word names this launcher.
func (l *launcher) isSelf(word string) bool {
	return word == ProgramName || filepath.Base(word) == ProgramName && sameFile(word, l.self)
}

// saysArguments reports whether a line has "$@", "$1" or the like, and so says itself where the user's arguments go.
func (l Line) saysArguments() (says bool) {
	syntax.Walk(l.file, func(node syntax.Node) bool {
		if p, ok := node.(*syntax.ParamExp); ok {
			name := p.Param.Value
			says = says || strings.ContainsAny(name, "@*#") || name != "0" && strings.Trim(name, "0123456789") == ""
		}
		return true
	})
	return says
}

// withArguments is the text of a line for a shell. Where there are arguments and the line does not say where they go, "$@" is
// added to its last command; the error is a *LineError where that is none that can take arguments.
func (l Line) withArguments(args []string) (string, error) {
	if len(args) == 0 || l.saysArguments() {
		return l.text, nil
	}
	st := l.file.Stmts[len(l.file.Stmts)-1]
	for {
		bin, ok := st.Cmd.(*syntax.BinaryCmd)
		if !ok {
			break
		}
		st = bin.Y
	}
	call, ok := st.Cmd.(*syntax.CallExpr)
	if !ok || len(call.Args) == 0 || st.Background {
		return "", &LineError{Line: l.text, Problem: "arguments were given, but the line does not end in a plain command: " +
			`say "$@" in the line where they belong`}
	}
	end := int(call.Args[len(call.Args)-1].End().Offset())
	return l.text[:end] + ` "$@"` + l.text[end:], nil
}

// shell is the command that runs a line by the closure's shell, else by the run image's, else by the launcher's own.
func (l *launcher) shell(text string, args []string) (*command, error) {
	if !slices.Contains(filepath.SplitList(l.env.get("PATH")), filepath.Dir(l.self)) {
		// The line may say run_proot.sh.
		l.env.set("PATH", strings.TrimPrefix(l.env.get("PATH")+":"+filepath.Dir(l.self), ":"))
	}
	for _, program := range []string{l.relocated(l.config.Shell), "bash", "sh"} {
		if program == "" {
			continue
		}
		name := filepath.Base(program)
		cmd := &command{argv: append([]string{name, "-c", text, name}, args...), program: program, env: l.env,
			needsEngine: true, shell: true}
		if l.locate(cmd) == nil {
			l.debugf("shell %s", cmd.path)
			return cmd, nil
		}
	}
	l.debugf("no shell in the closure and in the run image: the line is interpreted")
	return l.ownShell(text, append([]string{"sh"}, args...)), nil
}

// isShell reports whether a program is a shell by its name.
func isShell(program string) bool {
	return slices.Contains([]string{"sh", "bash", "dash", "ash"}, filepath.Base(program))
}
