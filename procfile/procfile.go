// Package procfile reads Procfiles by the rules of Heroku's Cloud Native Buildpack (heroku/buildpacks-procfile: SPEC.md).
package procfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

const (
	// Name is the file that names the process types.
	Name = "Procfile"
	// MaxSize bounds what is read of a Procfile, in bytes.
	MaxSize = 1 << 20
)

// Entry is one line of a Procfile: a process type and the command that runs it.
type Entry struct {
	Type    string
	Command string
}

// FileError is a Procfile none of whose lines can be read.
type FileError struct {
	Kind Kind
	Err  error
}

// Kind is what is wrong with a whole Procfile.
type Kind int

const (
	// BadLink is a symbolic link to nothing, or to what is not in the source.
	BadLink Kind = iota + 1
	// BadFile is a directory, a device or the like, or a file that is too large.
	BadFile
	// BadEncoding is a text in another encoding than UTF-8.
	BadEncoding
)

func (e *FileError) Error() string { return fmt.Sprintf("reading Procfile: %s", e.Err) }

func (e *FileError) Unwrap() error { return e.Err }

// Error is a line of a Procfile that does not parse. Line and Column count from 1.
type Error struct {
	Line, Column int
	Text         string
	Problem      string
}

// Error shows the line with a caret below the place.
func (e *Error) Error() string {
	text, column := e.Text, min(max(e.Column-1, 0), len(e.Text))
	if from := column - maxShown; from > 0 {
		text, column = "…"+strings.ToValidUTF8(text[from:], ""), maxShown+len("…")
	}
	if len(text) > column+maxShown {
		text = strings.ToValidUTF8(text[:column+maxShown], "") + "…"
	}
	caret := strings.Map(func(c rune) rune {
		if c == '\t' {
			return c
		}
		return ' '
	}, text[:min(column, len(text))])
	return fmt.Sprintf("Procfile line %d, column %d: %s\n    %s\n    %s^", e.Line, e.Column, e.Problem, visible(text), caret)
}

// maxShown is how much of a line is shown on either side of the place, in bytes.
const maxShown = 120

// visible is a line with a character in place of each that would steer a terminal, so that the caret stays below its place.
func visible(line string) string {
	return strings.Map(func(c rune) rune {
		if c != '\t' && !unicode.IsGraphic(c) {
			return '\uFFFD'
		}
		return c
	}, line)
}

// File is what a Procfile says.
type File struct {
	// Entries are its process types, each once.
	Entries []Entry
	// Empty is set for a Procfile that is there and names no process type.
	Empty bool
	// Warnings say what was read otherwise than it is written, a line each: the first maxWarnings, and how many more.
	Warnings []string
}

// maxWarnings is how many odd lines of a Procfile are spelled out, so that a generated one does not bury the log.
const maxWarnings = 10

var (
	// processType is the name of a process type as Heroku's Cloud Native Buildpack and Kubernetes have it
	// (heroku/buildpacks-procfile: SPEC.md).
	processType = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$`)
	// lineEnd ends a line, as any system writes it.
	lineEnd = regexp.MustCompile(`\r\n|\r|\n`)
)

const (
	// maxProcessType is how long the name of a process type may be, in bytes.
	maxProcessType = 63
	// maxCommand is the longest text that Linux takes as an argument of a program, in bytes, without the byte that ends
	// it (execve(2), MAX_ARG_STRLEN).
	maxCommand = 128<<10 - 1
)

// Read reads the Procfile of a source, which may be a symbolic link to another file of it; a source without one
// gives no entries and no error.
func Read(ctx context.Context, source string) (File, error) {
	file, err := regularfile.Resolve(source, Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(filepath.Join(source, Name)); err == nil { // as of one to a submodule that is not there
			return File{}, &FileError{Kind: BadLink, Err: errors.New("it is a link that leads nowhere")}
		}
		return File{Warnings: misnamed(source)}, nil
	case errors.Is(err, regularfile.ErrOutside):
		return File{}, &FileError{Kind: BadLink, Err: err}
	case err != nil:
		return File{}, fmt.Errorf("reading Procfile: %w", err)
	}
	text, err := regularfile.Read(ctx, filepath.Join(source, file), MaxSize)
	if err != nil {
		return File{}, &FileError{Kind: BadFile, Err: err}
	}
	return Parse(ctx, string(text))
}

// misnamed has a warning for each file that seems to be meant for a Procfile and has another name, which nobody reads.
func misnamed(source string) []string {
	entries, err := os.ReadDir(source)
	if err != nil {
		return nil
	}
	var warnings []string
	for _, entry := range entries {
		if base, _ := strings.CutSuffix(strings.ToLower(entry.Name()), ".txt"); base == "procfile" && entry.Name() != Name {
			warnings = append(warnings, fmt.Sprintf("%s is not read: the file's name has to be %s", entry.Name(), Name))
		}
	}
	return warnings
}

// Parse reads lines of the form "type: command" by the rules of Heroku's Cloud Native Buildpack: blank lines and
// lines that begin with # are left out, capitals in a type become small and underscores hyphens, and of a type that is
// given twice the last counts, each with a warning.
//
// The command is checked for shell syntax here, at build time, so that a missing quote does not wait for the first
// start of the app. Its error is a *Error, a *FileError where no line can be read, or the context's, which each line looks at.
func Parse(ctx context.Context, text string) (File, error) {
	var p File
	switch {
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"):
		return p, &FileError{Kind: BadEncoding, Err: errors.New("it is UTF-16, as PowerShell's > writes it")}
	case !utf8.ValidString(text):
		return p, &FileError{Kind: BadEncoding, Err: errors.New("it is not UTF-8")}
	}
	var all []entryLine
	odd := 0                        // warnings, more than are spelled out
	lines := map[string]entryLine{} // the last of each type
	for i, text := range lineEnd.Split(strings.TrimPrefix(text, "\ufeff"), -1) {
		line, err := parseLine(i+1, trimEnd(text))
		if err != nil {
			return File{}, err
		}
		if line.Type == "" {
			continue
		}
		if line.Type != line.written {
			p.warn(&odd, "Procfile line %d: the process type %.80q becomes %q; write it so", line.number, line.written, line.Type)
		}
		if first, twice := lines[line.Type]; twice {
			p.warn(&odd, "Procfile line %d: the process type %q was given in line %d too; this line counts", line.number, line.Type,
				first.number)
		}
		lines[line.Type] = line
		all = append(all, line)
	}
	if odd > maxWarnings {
		p.Warnings = append(p.Warnings, fmt.Sprintf("the Procfile has %d more of the kind", odd-maxWarnings))
	}
	for _, line := range all {
		if lines[line.Type].number != line.number {
			continue
		}
		if ctx.Err() != nil {
			return File{}, context.Cause(ctx)
		}
		if err := line.check(); err != nil {
			return File{}, err
		}
		p.Entries = append(p.Entries, line.Entry)
	}
	p.Empty = len(p.Entries) == 0
	return p, nil
}

// trimEnd is a line without the blanks at its end, but for one that a backslash makes part of the command.
func trimEnd(text string) string {
	trimmed := strings.TrimRight(text, " \t")
	if escapes := len(trimmed) - len(strings.TrimRight(trimmed, `\`)); escapes%2 == 1 {
		return text[:min(len(trimmed)+1, len(text))]
	}
	return trimmed
}

// warn counts a warning, and spells it out where there are few yet.
func (p *File) warn(count *int, format string, args ...any) {
	if *count++; *count <= maxWarnings {
		p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
	}
}

// entryLine is a line of a Procfile. One without a process type is blank or a comment.
type entryLine struct {
	Entry
	number        int
	text, written string // the line, and the type as it is written
}

// refuse is the error of a place in the line.
func (l entryLine) refuse(column int, format string, args ...any) error {
	return &Error{Line: l.number, Column: column, Text: l.text, Problem: fmt.Sprintf(format, args...)}
}

// parseLine reads one line.
func parseLine(number int, text string) (entryLine, error) {
	l := entryLine{number: number, text: text}
	trimmed := strings.TrimLeft(text, " \t")
	if trimmed == "" || trimmed[0] == '#' {
		return l, nil
	}
	indent := len(text) - len(trimmed)
	name, command, found := strings.Cut(text, ":")
	if !found {
		return l, l.refuse(len(text)+1, "no colon; a line is \"type: command\", for example \"web: run_proot.sh myapp\"")
	}
	l.written = name
	l.Type = strings.Map(corrected, name[indent:])
	l.Command = strings.TrimLeft(command, " \t")
	switch {
	case !processType.MatchString(l.Type):
		return l, l.refuse(indent+1+strangeAt(l.Type), "the process type %q may hold the letters a to z, digits and - only, and neither "+
			"begins nor ends with -", text[indent:min(len(name), indent+maxShown)])
	case len(l.Type) > maxProcessType:
		return l, l.refuse(indent+1, "the process type %q has more than %d characters", name[indent:min(len(name), indent+maxShown)], maxProcessType)
	case l.Command == "":
		return l, l.refuse(len(text)+1, "the process type %q has no command", l.Type)
	case len(l.Command) > maxCommand:
		return l, l.refuse(l.column(), "the command has more than %d bytes, which Linux does not hand to a program", maxCommand)
	case strings.Contains(l.Command, "\x00"):
		return l, l.refuse(l.column()+strings.IndexByte(l.Command, 0), "the command holds a NUL byte")
	}
	return l, nil
}

// corrected is a character of a process type as it has to be written. Only ASCII has capitals here: other alphabets'
// letters, among them some whose small form is an ASCII one, are refused.
func corrected(c rune) rune {
	switch {
	case c == '_':
		return '-'
	case c >= 'A' && c <= 'Z':
		return c - 'A' + 'a'
	}
	return c
}

// strangeAt is where in a process type stands what may not stand there.
func strangeAt(name string) int {
	if strings.HasPrefix(name, "-") || name == "" {
		return 0
	}
	if i := strings.IndexFunc(name, func(c rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-", c)
	}); i >= 0 {
		return i
	}
	return len(name) - 1
}

// column is where the command begins.
func (l entryLine) column() int { return len(l.text) - len(l.Command) + 1 }

// check reads the command as the launcher will.
func (l entryLine) check() error {
	var bad *launch.LineError
	if _, err := launch.ParseLine(l.Command); errors.As(err, &bad) {
		return l.refuse(l.column()+max(bad.Column, 1)-1, "%s", bad.Problem)
	} else if err != nil {
		return l.refuse(l.column(), "%s", err)
	}
	if l.Command == launch.ProgramName {
		return l.refuse(len(l.text)+1, "%s is given no program to run, for example \"%s: %s myapp\"", launch.ProgramName,
			l.Type, launch.ProgramName)
	}
	return nil
}
