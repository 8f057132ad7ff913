package launch

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// needs says what of a line the interpreter would not do as a shell does.
type needs struct {
	// construct is the first such thing, "" for none.
	construct string
	// bash: only bash will do; else any shell.
	bash bool
}

// NeedsShell names what of a process type's command line the launcher cannot do itself, and the shell that it will
// look for in the closure and in the run image: "bash", or "sh" where any will do. Both are empty for all other lines.
// The build calls it, so that it can say what an image without such a shell will not start.
func NeedsShell(line string) (construct, shell string) {
	l, err := parseLine(line)
	if err != nil {
		return "", ""
	}
	found := l.needs
	if found.construct == "" {
		found = l.standIn // a shell that the image lacks is interpreted too
	}
	if found.construct == "" {
		return "", ""
	}
	shells := found.shells()
	return found.construct, shells[len(shells)-1]
}

// shells are the shells that will do, best first.
func (n *needs) shells() []string {
	if n.bash {
		return []string{"bash"}
	}
	return []string{"bash", "sh"}
}

// realShell runs a line that the interpreter does not do as a shell does by a shell of the closure or of the run image.
func (l *launcher) realShell(ln *line, name string, params []string) (status, error) {
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	shells := ln.needs.shells()
	for _, shell := range shells {
		cmd := &command{
			argv: append([]string{shell, "-c", ln.source(), cmp.Or(name, shell)}, params...), dir: dir, env: l.env,
			files: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}, forced: true,
		}
		if l.locate(cmd) == nil {
			l.debugf("%s needs a real shell: running %s", ln.needs.construct, cmd.path)
			return l.replace(cmd)
		}
	}
	return 0, &failure{exitUsage, fmt.Errorf("running command line %q: %s needs a real shell, and neither the closure "+
		"nor the run image has %s: add bash to the closure", ln.text, ln.needs.construct, strings.Join(shells, " or "))}
}

// add notes a construct.
func (n *needs) add(construct string, bash bool) {
	if construct == "" {
		return
	}
	if n.construct == "" {
		n.construct = construct
	}
	n.bash = n.bash || bash
}

// findNeeds looks at every part of the line, and tells the main shell's commands from those of subshells.
func (l *line) findNeeds() {
	l.findFunctions()
	forked := func(n syntax.Node) bool {
		f, ok := n.(*syntax.FuncDecl)
		return forks(n) || ok && l.functions[f.Name.Value]
	}
	bash := false
	l.walk(func(node syntax.Node, above []syntax.Node) {
		l.needs.add(unknownNode(node))
		bash = bash || bashNode(node)
		apart := slices.ContainsFunc(above, forked)
		switch n := node.(type) {
		case *syntax.Stmt:
			if n.Background && !apart {
				l.mainJobs = append(l.mainJobs, n)
			}
		case *syntax.CallExpr:
			if len(n.Args) > 0 {
				l.findCall(n, apart)
				l.calm[n.Pos()] = !apart && !tested(append(slices.Clip(above), n))
			}
		}
	})
	if l.needs.construct != "" && !l.needs.bash {
		l.needs.bash = bash || !posix(l.text)
	}
}

// findCall looks at a command, which runs apart from the main shell or in it.
func (l *line) findCall(call *syntax.CallExpr, apart bool) {
	c := builtinCall{words: literals(call.Args), forked: apart}
	if _, own := l.functions[c.words[0]]; own {
		return
	}
	if c.words[0] == "wait" && !apart {
		l.mainWaits = append(l.mainWaits, call)
	}
	l.needs.add(c.unknown())
	l.standIn.add(c.standIn())
}

// tested reports whether the last of nested nodes is in a condition or negated. There interp.Runner forgets the status
// of an "exit".
func tested(nodes []syntax.Node) bool {
	for i, node := range nodes[:len(nodes)-1] {
		var condition []*syntax.Stmt
		switch n := node.(type) {
		case *syntax.WhileClause:
			condition = n.Cond
		case *syntax.IfClause:
			condition = n.Cond
		case *syntax.Stmt:
			if n.Negated {
				return true
			}
		}
		if st, ok := nodes[i+1].(*syntax.Stmt); ok && slices.Contains(condition, st) {
			return true
		}
	}
	return false
}

// findFunctions notes the functions that the line declares, and which of them subshells call.
func (l *line) findFunctions() {
	l.functions = map[string]bool{}
	l.walk(func(node syntax.Node, _ []syntax.Node) {
		if f, ok := node.(*syntax.FuncDecl); ok {
			l.functions[f.Name.Value] = false
		}
	})
	if len(l.functions) == 0 {
		return
	}
	l.walk(func(node syntax.Node, above []syntax.Node) {
		if call, ok := node.(*syntax.CallExpr); ok && len(call.Args) > 0 && slices.ContainsFunc(above, forks) {
			if _, own := l.functions[call.Args[0].Lit()]; own {
				l.functions[call.Args[0].Lit()] = true
			}
		}
	})
}

// walk visits the line's nodes, each with those that hold it.
func (l *line) walk(visit func(node syntax.Node, above []syntax.Node)) {
	var above []syntax.Node
	syntax.Walk(l.file, func(node syntax.Node) bool {
		if node == nil {
			above = above[:len(above)-1]
			return false
		}
		visit(node, above)
		above = append(above, node)
		return true
	})
}

// posix reports whether a shell that is not bash can read the text.
func posix(text string) bool {
	_, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(text), "")
	return err == nil
}

// bashNode reports whether a node is bash's alone although it looks like an ordinary command to other shells.
func bashNode(node syntax.Node) bool {
	switch n := node.(type) {
	case *syntax.TestClause, *syntax.LetClause, *syntax.TimeClause:
		return true
	case *syntax.DeclClause:
		return n.Variant.Value != "export" && n.Variant.Value != "readonly" && n.Variant.Value != "local"
	case *syntax.CallExpr:
		return len(n.Args) > 0 && n.Args[0].Lit() == "source"
	}
	return false
}

// forks reports whether what a node holds runs in a subshell.
func forks(node syntax.Node) bool {
	switch n := node.(type) {
	case *syntax.Subshell, *syntax.CmdSubst, *syntax.ProcSubst, *syntax.CoprocClause:
		return true
	case *syntax.Stmt:
		return n.Background || n.Coprocess
	case *syntax.BinaryCmd:
		return n.Op == syntax.Pipe || n.Op == syntax.PipeAll
	}
	return false
}

// unknownNode names a node of the language that the interpreter does not know, or does otherwise; "" for the others.
func unknownNode(node syntax.Node) (construct string, bash bool) {
	switch n := node.(type) {
	case *syntax.Stmt:
		if bareExec(n) != nil {
			return "exec with redirections alone inside another command", false
		}
	case *syntax.CoprocClause:
		return "coproc", true
	case *syntax.TimeClause:
		return "time", true
	case *syntax.ForClause:
		if n.Select {
			return "select", true
		}
	case *syntax.CaseItem:
		if n.Op == syntax.Fallthrough || n.Op == syntax.Resume || n.Op == syntax.ResumeKorn {
			return "case with " + n.Op.String(), true
		}
	case *syntax.ExtGlob:
		return "extended glob " + n.Op.String(), true
	case *syntax.Redirect:
		return unknownRedirect(n), false
	case *syntax.DeclClause:
		return unknownDeclaration(n)
	case *syntax.ParamExp:
		if n.Param == nil {
			break
		}
		switch name := n.Param.Value; name {
		case "!", "-", "LINENO":
			return "$" + name, false
		case "_", "PIPESTATUS", "BASHPID", "BASH_SOURCE", "FUNCNAME", "SECONDS", "EPOCHSECONDS", "EPOCHREALTIME":
			return "$" + name, true
		}
	}
	return "", false
}

// unknownRedirect names a redirection that interp.Runner answers with a panic; "" for the others.
func unknownRedirect(rd *syntax.Redirect) string {
	if rd.N != nil {
		switch rd.N.Value {
		case "0", "1", "2":
		default:
			return "redirection of file descriptor " + rd.N.Value
		}
	}
	word := ""
	if rd.Word != nil {
		word = rd.Word.Lit()
	}
	switch rd.Op {
	case syntax.RdrOut, syntax.AppOut, syntax.RdrIn, syntax.RdrAll, syntax.AppAll, syntax.Hdoc, syntax.DashHdoc,
		syntax.WordHdoc:
		return ""
	case syntax.DplOut:
		if word == "1" || word == "2" || word == "-" {
			return ""
		}
	case syntax.DplIn:
		if word == "-" {
			return ""
		}
	default:
		word = ""
	}
	return "redirection " + rd.Op.String() + word
}

// unknownDeclaration names an option of "declare", "export" and the like that the interpreter does not know.
func unknownDeclaration(d *syntax.DeclClause) (construct string, bash bool) {
	for _, as := range d.Args {
		if as.Name != nil {
			continue
		}
		flag, _ := literal(as.Value)
		switch {
		case !strings.HasPrefix(flag, "-") && !strings.HasPrefix(flag, "+"):
		case flag == "-n" && d.Variant.Value == "export",
			!slices.Contains([]string{"-x", "-r", "-a", "-g", "-A", "-n"}, flag):
			return d.Variant.Value + " " + flag, flag != "-p"
		}
	}
	return "", false
}

// dynamic stands for the text of a word that only an expansion will give.
const dynamic = "\x00"

// literals gives words their text where it is written out.
func literals(words []*syntax.Word) []string {
	texts := make([]string, len(words))
	for i, w := range words {
		text, ok := literal(w)
		if !ok {
			text = dynamic
		}
		texts[i] = text
	}
	return texts
}

// literal is a word's text, where no expansion makes it.
func literal(w *syntax.Word) (text string, ok bool) {
	if w == nil {
		return "", false
	}
	var b strings.Builder
	for _, part := range w.Parts {
		switch p := part.(type) {
		case *syntax.Lit:
			b.WriteString(p.Value)
		case *syntax.SglQuoted:
			if p.Dollar {
				return "", false
			}
			b.WriteString(p.Value)
		case *syntax.DblQuoted:
			inner, ok := literal(&syntax.Word{Parts: p.Parts})
			if !ok {
				return "", false
			}
			b.WriteString(inner)
		default:
			return "", false
		}
	}
	return b.String(), true
}
