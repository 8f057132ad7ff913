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

// namesProgram reports whether the reference whose hash ends at script[end:] leads to a program of Node.js or PHP: going by its
// name, or as it stands behind the interpreter's in the same line.
func namesProgram(script []byte, end int) bool {
	tail := script[end:min(len(script), end+maxProgramName)]
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
	line := bytes.ReplaceAll(script[max(0, end-maxFlags):end], []byte("\\\n"), []byte("  ")) // it goes on in the next
	return interpreters.Match(line[bytes.LastIndexByte(line, '\n')+1:])
}

// interpreters is where a line runs one.
var interpreters = regexp.MustCompile(`/bin/(node|nodejs|deno|bun|php)["' \t]`)

// wrapper notes that the file at hand, all of which is in the buffer, is a wrapper, where the reference at i makes it one.
func (s *Rewriter) wrapper(i int) {
	known := s.report.Wrappers
	if s.format.name != "script" || s.buffer.off != 0 || s.buffer.left != 0 || len(known) == maxWrappers ||
		len(known) > 0 && known[len(known)-1] == s.file || !utf8.ValidString(s.file) {
		return
	}
	if isWrapper(s.buffer.buf) && namesProgram(s.buffer.buf, i+hashLen) {
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
	programs, edits := map[string]bool{}, []edit(nil)
	for at := bytes.IndexByte(data, '\n') + 1; ; at++ {
		n := bytes.Index(data[at:], []byte(v.dir+"/"))
		if at += max(n, 0); n < 0 || len(data)-at < refLen {
			break
		}
		if ref := string(data[at : at+refLen]); places[ref] != "" {
			programs[ref] = programs[ref] || namesProgram(data, at+refLen)
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
