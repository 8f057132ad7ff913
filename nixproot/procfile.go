package nixproot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// maxProcfile bounds what is read of a Procfile, in bytes.
const maxProcfile = 1 << 20

// ProcfileEntry is one line of a Procfile: a process type and the command that runs it.
type ProcfileEntry struct {
	Type    string
	Command string
}

// ProcfileError is a line of a Procfile that does not parse. Line and Column count from 1.
type ProcfileError struct {
	Line, Column int
	Text         string
	Problem      string
}

// Error shows the line with a caret below the place.
func (e *ProcfileError) Error() string {
	caret := strings.Map(func(c rune) rune {
		if c == '\t' {
			return c
		}
		return ' '
	}, prefix(e.Text, e.Column-1))
	return fmt.Sprintf("Procfile line %d, column %d: %s\n    %s\n    %s^", e.Line, e.Column, e.Problem, e.Text, caret)
}

// processType is what Heroku and the CNB specification both accept as the name of a process type.
var processType = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// ReadProcfile reads the Procfile of a source; a source without one gives no entries and no error.
func ReadProcfile(path string) ([]ProcfileEntry, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Size() > maxProcfile {
		return nil, fmt.Errorf("reading Procfile: it has %d bytes, more than %d", info.Size(), maxProcfile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading Procfile: %w", err)
	}
	return ParseProcfile(string(text))
}

// ParseProcfile reads lines of the form "type: command". Blank lines and lines that start with # are skipped.
//
// The command is checked for shell syntax here, at build time, so that a missing quote does not wait for the first
// start of the app. Its error is a *ProcfileError.
func ParseProcfile(text string) ([]ProcfileEntry, error) {
	var entries []ProcfileEntry
	lines := map[string]int{}
	for i, line := range strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n") {
		line = strings.TrimRight(line, " \t\r")
		trimmed := strings.TrimLeft(line, " \t")
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		refuse := func(column int, format string, args ...any) error {
			return &ProcfileError{Line: i + 1, Column: column, Text: line, Problem: fmt.Sprintf(format, args...)}
		}
		indent := len(line) - len(trimmed)
		name, rest, found := strings.Cut(trimmed, ":")
		if !found {
			return nil, refuse(len(line)+1, "no colon; a line is \"type: command\", for example \"web: run_proot.sh myapp\"")
		}
		name = strings.TrimRight(name, " \t")
		if !processType.MatchString(name) {
			return nil, refuse(indent+1, "the process type %q may hold letters, digits, - and _ only", name)
		}
		command := strings.TrimLeft(rest, " \t")
		column := len(line) - len(command) + 1
		if command == "" {
			return nil, refuse(len(line)+1, "the process type %q has no command", name)
		}
		if first, twice := lines[name]; twice {
			return nil, refuse(indent+1, "the process type %q was already given in line %d", name, first)
		}
		var bad *launch.LineError
		if err := launch.CheckLine(command); errors.As(err, &bad) {
			return nil, refuse(column+max(bad.Column, 1)-1, "%s", bad.Problem)
		} else if err != nil {
			return nil, refuse(column, "%s", err)
		}
		if command == launch.ProgramName {
			return nil, refuse(len(line)+1, "%s is given no program to run, for example \"%s: %s myapp\"", launch.ProgramName,
				name, launch.ProgramName)
		}
		lines[name] = i + 1
		entries = append(entries, ProcfileEntry{Type: name, Command: command})
	}
	return entries, nil
}

// prefix is the first n bytes of s, or all of it.
func prefix(s string, n int) string {
	return s[:min(max(n, 0), len(s))]
}
