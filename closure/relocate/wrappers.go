package relocate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// A wrapper is a shell script that starts a program by its store path, as nixpkgs' makeWrapper writes them. Node.js and PHP
// tell a program two names: the one it was started by, and the one that its file really has. At /nix/store they are equal,
// and programs ask for that (process.argv[1] === fileURLToPath(import.meta.url)) to know whether they were started or
// imported. Through a link of the view they are not, so wrappers name such programs by where they really lie, and all of the
// same path, which a program may compare with its name.
//
// The same goes for a store path that a line has nothing behind and gives to a program such as cp or find, which takes a link for
// what it is, not for what it leads to, unless more of a path is behind it.

const (
	// maxWrapper bounds a wrapper, in bytes: makeWrapper's have a few hundred.
	maxWrapper = 64 << 10
	// maxWrappers bounds the wrappers of a path, maxWrapperFixups what is recorded of them, in bytes.
	maxWrappers, maxWrapperFixups = 1 << 10, 128 << 10
	// maxFirstLine bounds the line that says what runs a script, in bytes, as Linux does.
	maxFirstLine = 256
	// maxProgramName bounds the name of a program, in bytes, as Linux does that of any file, and maxFlags what stands before it
	// behind the interpreter's.
	maxProgramName, maxFlags = 4 << 10, 1 << 10
)

// isWrapper reports whether a script that names a program is run by a shell, and is text.
func isWrapper(script []byte) bool {
	if len(script) > maxWrapper || bytes.IndexByte(script, 0) >= 0 {
		return false
	}
	line, _, _ := strings.Cut(string(script[:min(len(script), maxFirstLine)]), "\n")
	return slices.ContainsFunc(strings.Fields(strings.TrimPrefix(line, "#!")), func(word string) bool { // the first, or one of env's
		return slices.Contains([]string{"sh", "bash", "dash", "ash", "busybox", "ksh", "mksh", "zsh", "fish"}, path.Base(word))
	})
}

// wrapperScript is a script that may be a wrapper.
type wrapperScript struct {
	text []byte
	// variables are those that a line gives to the interpreter of Node.js or PHP with something behind them.
	variables map[string]bool
	// walked are those that a line gives to a walker with nothing behind them.
	walked map[string]bool
}

func newWrapperScript(text []byte) wrapperScript {
	w := wrapperScript{text, map[string]bool{}, map[string]bool{}}
	for _, line := range walks.FindAll(bytes.ReplaceAll(text, []byte("\\\n"), []byte("  ")), -1) {
		for _, name := range alone.FindAllSubmatch(line, -1) {
			w.walked[string(name[1])] = true
		}
	}
	for _, line := range interpreted.FindAll(bytes.ReplaceAll(text, []byte("\\\n"), []byte("  ")), -1) {
		for _, name := range expansion.FindAllSubmatch(line, -1) {
			w.variables[string(name[1])] = true
		}
	}
	return w
}

// namesProgram reports whether the reference whose hash ends at end leads to a program of Node.js or PHP: going by its name, or
// as it stands behind the interpreter's in the same line, or in a variable that does; or to what a walker is told.
func (w wrapperScript) namesProgram(end int) bool {
	tail := w.text[end:min(len(w.text), end+maxProgramName)]
	if end := slices.IndexFunc(tail, func(c byte) bool { return !plainChar(c) && !isNameChar(c) }); end >= 0 {
		tail = tail[:end]
	}
	name := string(tail)
	if !strings.HasPrefix(name, "-") {
		return false
	}
	switch path.Ext(name) {
	case ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".php":
		return true
	}
	if strings.Contains(name, "/node_modules/") || strings.Contains(name, "/share/php/") {
		return true
	}
	before := w.text[max(0, end-maxFlags):end]
	begin := bytes.LastIndexByte(before, '\n')
	for begin > 0 && before[begin-1] == '\\' { // it goes on in the next line
		begin = bytes.LastIndexByte(before[:begin], '\n')
	}
	variable := assigned(before[:max(0, len(before)-refLen)])
	if !strings.Contains(name, "/") && (w.walked[variable] || walkers.Match(before[begin+1:])) {
		return true
	}
	return w.variables[variable] || interpreters.Match(before[begin+1:])
}

// assigned is the variable that what follows is assigned to, or "".
func assigned(before []byte) string {
	name, ok := bytes.CutSuffix(bytes.TrimRight(before, `"'`), []byte("="))
	if !ok {
		return ""
	}
	at := len(name)
	for at > 0 && isNameChar(name[at-1]) {
		at--
	}
	return string(name[at:])
}

// The interpreters that tell a program both names, by the names of their programs and by those of nixpkgs' packages.
const (
	interpreterPrograms = `node|nodejs|deno|bun|php`
	interpreterPackages = `nodejs|deno|bun|php`
	// walkerPrograms take a link that they are told for a link.
	walkerPrograms = `cp|du|find|rsync|tar`
)

var (
	// interpreters is where a line runs one, interpreted what it gives to one, which PATH may lead to.
	interpreters = regexp.MustCompile(`/bin/(` + interpreterPrograms + `)["' \t\\]`)
	interpreted  = regexp.MustCompile(`(?m)(?:^|["'/ \t])(?:` + interpreterPrograms + `)["']?[ \t].*`)
	// hasInterpreter matches the name of a path that has one.
	hasInterpreter = regexp.MustCompile(`^(` + interpreterPackages + `)(-|$)`)
	// expansion is a variable with something of a path behind it, alone one with nothing of it.
	expansion = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?/`)
	alone     = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?(?:["' \t;)]|$)`)
	// walkers is where a line runs a walker, walks what it gives to one.
	walkers = regexp.MustCompile(`(?:^|[/"' \t;&|(` + "`" + `])(?:` + walkerPrograms + `)["']?[ \t]`)
	walks   = regexp.MustCompile(`(?m)(?:^|[/"' \t;&|(` + "`" + `])(?:` + walkerPrograms + `)["']?[ \t].*`)
)

// MayWrap reports whether a path may be a wrapper of another path's program: it is small enough, and refers to an interpreter.
func MayWrap(narSize int64, references []storepath.Path) bool {
	return narSize <= maxWrapper &&
		slices.ContainsFunc(references, func(ref storepath.Path) bool { return hasInterpreter.MatchString(ref.Name()) })
}

// wrapper notes that the file at hand, all of which is in the buffer, is a wrapper, where the reference at i makes it one.
func (s *Rewriter) wrapper(i int) {
	known := s.report.Wrappers
	if s.format.name != "script" || s.buffer.off != 0 || s.buffer.left != 0 || len(known) == maxWrappers ||
		len(known) > 0 && known[len(known)-1] == s.file || !utf8.ValidString(s.file) {
		return
	}
	if s.script.text == nil && isWrapper(s.buffer.buf) {
		s.script = newWrapperScript(s.buffer.buf)
	}
	if s.script.text != nil && s.script.namesProgram(i+hashLen) {
		s.report.Wrappers = append(known, s.file)
	}
}

// FixWrappers has the wrappers of a tree that FixTree has fixed up name paths of which they name a program of Node.js or PHP by
// where they really lie. dirs are the directories, in the image, of the paths that may be named so; others keep the view's names.
// report is FixTree's; what FixWrappers returns has the fixups of both.
func (v View) FixWrappers(ctx context.Context, dir string, o Original, report Report, dirs map[storepath.Path]string) (Report, error) {
	places := make(map[string]string, len(dirs))
	for p, at := range dirs {
		places[v.target(p)] = path.Join(at, v.short(p))
	}
	all, size := slices.Clone(report.Fixups), int64(0)
	for _, file := range report.Wrappers {
		if slices.ContainsFunc(report.Fixups, func(f Fixup) bool { return f.File == file }) {
			continue // what was recorded of it says where that stands
		}
		fixed, apply, err := v.fixWrapper(filepath.Join(dir, filepath.FromSlash(file)), file, places)
		n := int64(0)
		for _, f := range fixed {
			n += f.size()
		}
		switch {
		case err != nil || n == 0 || size+n > maxWrapperFixups:
			fixed = nil
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case !v.budget.record(n):
			err = errRecord
		default:
			err = apply()
			size += n
		}
		if err != nil {
			return Report{}, fmt.Errorf("fixing %s: %s: %w", o.Path, file, err)
		}
		all = append(all, fixed...)
	}
	report.Fixups = all
	return report, nil
}

// fixWrapper gives what is to be recorded of one wrapper, and what writes it. places say what references become.
func (v View) fixWrapper(name, file string, places map[string]string) (fixed []Fixup, apply func() error, err error) {
	before, err := os.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() || before.Size() > maxWrapper {
		return nil, nil, errors.New("it is no wrapper any more")
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, nil, err
	}
	var refs []int // where paths are named whose place is known, behind the first line, which Linux bounds
	programs, edits, script := map[string]bool{}, []edit(nil), newWrapperScript(data)
	for at := bytes.IndexByte(data, '\n') + 1; ; at++ {
		n := bytes.Index(data[at:], []byte(v.dir+"/"))
		if at += max(n, 0); n < 0 || len(data)-at < refLen {
			break
		}
		if ref := string(data[at : at+refLen]); places[ref] != "" {
			programs[ref] = programs[ref] || script.namesProgram(at+refLen)
			refs, at = append(refs, at), at+refLen-1
		}
	}
	for _, at := range refs {
		if ref := string(data[at : at+refLen]); programs[ref] {
			edits = append(edits, edit{from: at, to: at + refLen, data: []byte(places[ref])})
		}
	}
	return fixups(file, data, edits), func() error { return write(name, before, data, edits) }, nil
}
