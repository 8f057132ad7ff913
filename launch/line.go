package launch

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// LineError says where a Procfile line is not a command line.
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

// CheckLine reports, as a *LineError, why the launcher could not run a process type's command line: it does not parse,
// or holds no command. The build calls it, so that a faulty line never reaches an image.
func CheckLine(line string) error {
	_, err := parseLine(line)
	return err
}

// line is a parsed command line with what the launcher needs to know of it before it runs.
type line struct {
	text string
	file *syntax.File
	// tails are the positions of the commands after which nothing follows, execs those of the "exec" built-in in the
	// main shell; both may replace this process.
	tails, execs map[syntax.Pos]bool
	// jobs are the positions of the commands that run beside the main shell.
	jobs map[syntax.Pos]bool
	// functions are those that the line declares, and whether one runs in a subshell.
	functions map[string]bool
	// calm are the positions of the commands of the main shell before which a trap's action can be run.
	calm map[syntax.Pos]bool
	// mainJobs are the jobs that the main shell starts, mainWaits its calls of "wait".
	mainJobs  []*syntax.Stmt
	mainWaits []*syntax.CallExpr
	// background: something runs beside the main shell, so that nothing may replace this process.
	background bool
	// loops: the line may run long in built-ins alone.
	loops bool
	// needs says what the interpreter cannot do of it, standIn what it could not if it stood for the shell in the line.
	needs, standIn needs
	// appended: the line was made to end in "$@".
	appended bool
	// usesParams: the line places the user's arguments itself.
	usesParams bool
}

func parseLine(text string) (*line, error) {
	file, err := syntax.NewParser().Parse(strings.NewReader(text), "")
	if err != nil {
		var at syntax.ParseError
		if errors.As(err, &at) {
			return nil, &LineError{Line: text, Column: int(at.Pos.Col()), Problem: at.Text}
		}
		return nil, &LineError{Line: text, Problem: err.Error()}
	}
	if len(file.Stmts) == 0 {
		return nil, &LineError{Line: text, Problem: "no command"}
	}
	file.Stmts = hoistExec(file.Stmts)
	l := &line{text: text, file: file, tails: map[syntax.Pos]bool{}, execs: map[syntax.Pos]bool{},
		jobs: map[syntax.Pos]bool{}, calm: map[syntax.Pos]bool{}}
	l.markTail(file.Stmts)
	l.markExecs(file)
	l.inspect()
	l.findNeeds()
	return l, nil
}

// hoistExec rewrites "exec >file; rest" to "{ rest; } >file", which says the same: interp closes the file after the
// first of the two statements.
func hoistExec(stmts []*syntax.Stmt) []*syntax.Stmt {
	for i, st := range stmts {
		rest := stmts[i+1:]
		redirs := bareExec(st)
		if redirs == nil {
			first := st // the leftmost of a && b && c
			for {
				bin, ok := first.Cmd.(*syntax.BinaryCmd)
				if !ok || bin.Op != syntax.AndStmt || len(first.Redirs) > 0 || first.Negated || first.Background {
					break
				}
				if redirs = bareExec(bin.X); redirs != nil {
					*first, rest = *bin.Y, stmts[i:]
					break
				}
				first = bin.X
			}
		}
		if redirs != nil {
			if len(rest) == 0 {
				return stmts
			}
			block := &syntax.Stmt{Position: rest[0].Position, Cmd: &syntax.Block{Stmts: hoistExec(rest)}, Redirs: redirs}
			return append(slices.Clone(stmts[:i]), block)
		}
	}
	return stmts
}

// bareExec returns the redirections of "exec" without a command, nil for any other statement.
func bareExec(st *syntax.Stmt) []*syntax.Redirect {
	call, ok := st.Cmd.(*syntax.CallExpr)
	if !ok || len(call.Args) != 1 || call.Args[0].Lit() != "exec" || len(call.Assigns) > 0 || st.Negated || st.Background {
		return nil
	}
	return st.Redirs
}

// appendParams makes the line end in "$@", unless it places the arguments itself.
func (l *line) appendParams() error {
	if l.usesParams {
		return nil
	}
	st := l.file.Stmts[len(l.file.Stmts)-1]
	for {
		if block, ok := st.Cmd.(*syntax.Block); ok && !block.Lbrace.IsValid() { // one that hoistExec made
			st = block.Stmts[len(block.Stmts)-1]
			continue
		}
		bin, ok := st.Cmd.(*syntax.BinaryCmd)
		if !ok {
			break
		}
		st = bin.Y
	}
	call, ok := st.Cmd.(*syntax.CallExpr)
	if !ok || len(call.Args) == 0 || st.Background {
		return &LineError{Line: l.text, Problem: "arguments were given, but the line does not end in a plain command: " +
			`say "$@" in the line where they belong`}
	}
	l.appended = true
	at := call.Args[0].Pos()
	call.Args = append(call.Args, &syntax.Word{Parts: []syntax.WordPart{&syntax.DblQuoted{
		Left: at, Parts: []syntax.WordPart{&syntax.ParamExp{Dollar: at, Short: true, Param: &syntax.Lit{Value: "@"}}},
	}}})
	return nil
}

// reportStatus makes the line end in a command that is told $?, and "exit" alone say so too: interp.Runner.Run returns
// the error of the last program, which "!", "if" and "while" have long answered.
func (l *line) reportStatus() {
	syntax.Walk(l.file, func(node syntax.Node) bool {
		if call, ok := node.(*syntax.CallExpr); ok && len(call.Args) == 1 && call.Args[0].Lit() == "exit" {
			call.Args = append(call.Args, lastStatus())
			return false
		}
		return true
	})
	l.file.Stmts = append(l.file.Stmts, callOf(ownStatus, lastStatus()))
}

// reportJobs makes every job of the main shell, where that waits for jobs, report its start and its end: the wait of
// interp.Runner knows no -n and no traps.
func (l *line) reportJobs() {
	if len(l.mainWaits) == 0 {
		return
	}
	for _, job := range l.mainJobs {
		reportJob(job)
	}
	for _, wait := range l.mainWaits {
		wait.Args[0] = &syntax.Word{Parts: []syntax.WordPart{&syntax.Lit{ValuePos: wait.Pos(), Value: ownWait}}}
	}
}

// reportJob turns "job &" into "{ start; (job) && end 0 || end $? & }". Neither an exit in the job nor "set -e" for it
// keeps the end from being reported.
func reportJob(st *syntax.Stmt) {
	job := *st
	job.Background = false
	both := func(op syntax.BinCmdOperator, x, y *syntax.Stmt) *syntax.Stmt {
		return &syntax.Stmt{Cmd: &syntax.BinaryCmd{Op: op, X: x, Y: y}}
	}
	alone := &syntax.Stmt{Cmd: &syntax.Subshell{Stmts: []*syntax.Stmt{&job}}}
	ended := both(syntax.OrStmt, both(syntax.AndStmt, alone, callOf(ownEnd, word("0"))), callOf(ownEnd, lastStatus()))
	ended.Background = true
	*st = syntax.Stmt{Position: st.Position, Cmd: &syntax.Block{Stmts: []*syntax.Stmt{callOf(ownStart), ended}}}
}

// word is a word that says what it is.
func word(text string) *syntax.Word {
	return &syntax.Word{Parts: []syntax.WordPart{&syntax.Lit{Value: text}}}
}

// lastStatus is the word $?.
func lastStatus() *syntax.Word {
	return &syntax.Word{Parts: []syntax.WordPart{&syntax.ParamExp{Short: true, Param: &syntax.Lit{Value: "?"}}}}
}

// callOf is the command that calls name.
func callOf(name string, args ...*syntax.Word) *syntax.Stmt {
	return &syntax.Stmt{Cmd: &syntax.CallExpr{Args: append([]*syntax.Word{word(name)}, args...)}}
}

// source is the line as a shell reads it, appended arguments included.
func (l *line) source() string {
	if !l.appended {
		return l.text
	}
	var b strings.Builder
	if err := syntax.NewPrinter(syntax.SingleLine(true)).Print(&b, l.file); err != nil {
		return l.text
	}
	return b.String()
}

// markTail notes the simple commands that end the main shell.
func (l *line) markTail(stmts []*syntax.Stmt) {
	if len(stmts) == 0 {
		return
	}
	st := stmts[len(stmts)-1]
	if st.Negated || st.Background || st.Coprocess {
		return
	}
	switch cmd := st.Cmd.(type) {
	case *syntax.CallExpr:
		if len(cmd.Args) > 0 {
			l.tails[cmd.Args[0].Pos()] = true
		}
	case *syntax.BinaryCmd:
		if cmd.Op == syntax.AndStmt || cmd.Op == syntax.OrStmt {
			l.markTail([]*syntax.Stmt{cmd.Y})
		}
	case *syntax.Block:
		l.markTail(cmd.Stmts)
	case *syntax.IfClause:
		for c := cmd; c != nil; c = c.Else {
			l.markTail(c.Then)
		}
	case *syntax.CaseClause:
		for _, item := range cmd.Items {
			l.markTail(item.Stmts)
		}
	}
}

// markExecs notes the calls of "exec" that the main shell itself makes.
func (l *line) markExecs(file *syntax.File) {
	syntax.Walk(file, func(node syntax.Node) bool {
		switch n := node.(type) {
		case *syntax.Stmt:
			return !n.Background && !n.Coprocess
		case *syntax.BinaryCmd:
			return n.Op == syntax.AndStmt || n.Op == syntax.OrStmt
		case *syntax.Subshell, *syntax.CmdSubst, *syntax.ProcSubst, *syntax.FuncDecl:
			return false
		case *syntax.CallExpr:
			if len(n.Args) > 1 && n.Args[0].Lit() == "exec" {
				l.execs[n.Args[0].Pos()] = true
			}
		}
		return true
	})
}

// inspect finds whatever makes a line run beside itself, run long or place its arguments.
func (l *line) inspect() {
	syntax.Walk(l.file, func(node syntax.Node) bool {
		switch n := node.(type) {
		case *syntax.Stmt:
			if n.Background || n.Coprocess {
				l.markJob(n)
			}
		case *syntax.ProcSubst:
			l.markJob(n)
		case *syntax.WhileClause, *syntax.ForClause:
			l.loops = true
		case *syntax.ParamExp:
			switch p := n.Param; {
			case p == nil:
			case p.Value == "@" || p.Value == "*" || p.Value == "#" || len(p.Value) == 1 && p.Value >= "1" && p.Value <= "9":
				l.usesParams = true
			}
		}
		return true
	})
}

// markJob notes that whatever node holds runs beside the main shell.
func (l *line) markJob(node syntax.Node) {
	l.background = true
	syntax.Walk(node, func(node syntax.Node) bool {
		if call, ok := node.(*syntax.CallExpr); ok && len(call.Args) > 0 {
			l.jobs[call.Args[0].Pos()] = true
		}
		return true
	})
}
