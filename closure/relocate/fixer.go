package relocate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// A fixer rewrites the references in a whole file whose format compresses them or checks a sum over them, and then
// puts right what the format checks. It works on bytes that lie in memory or are mapped there, and gives edits: what
// it does not touch stays as it is.

const (
	// maxMember bounds what one compressed member, or one compressed file, inflates to and is compressed anew from.
	maxMember = 64 << 20
	// maxUnpacked bounds what is held of a member, and of those around it, at once.
	maxUnpacked = 2 * maxMember
	// maxPathFixups and maxClosureFixups bound the bytes that fixups record, of one path and of all of a budget.
	maxPathFixups    = 2 << 20
	maxClosureFixups = 32 << 20
	// maxEdits bounds the edits of one file, or of one member of it, maxFileEdits those of all members.
	maxEdits, maxFileEdits = 1 << 16, 1 << 20
	// maxPacked bounds what one file has that is compressed anew, in bytes after that: it is held until all is done.
	maxPacked = 256 << 20
	// nearEdits is how close two recorded edits are so that one record for both is shorter.
	nearEdits = 32
)

// blockedError says why a reference cannot be rewritten where it stands.
type blockedError struct {
	kind   Kind
	detail string
}

func (e *blockedError) Error() string { return e.detail }

func blockedBy(kind Kind, format string, args ...any) error {
	return &blockedError{kind, fmt.Sprintf(format, args...)}
}

// errMalformed says that a file is not as its format has it; what reads it would not read it either.
var errMalformed = errors.New("it is not as its format has it")

// source is a file, or a member of one, and where it stands.
type source struct {
	data  []byte
	name  string // its base name
	depth int    // containers around it
	// unpacked is how many bytes are held of what it, and what is around it, was compressed in.
	unpacked int
}

func (s source) in(data []byte, name string) source {
	return source{data: data, name: path.Base(name), depth: s.depth + 1, unpacked: s.unpacked}
}

// inflated is in for what was compressed.
func (s source) inflated(data []byte, name string) source {
	s.unpacked += len(data)
	return s.in(data, name)
}

type fixer struct {
	known     *members
	targets   [][]byte
	scan      *scanner
	inspector *inspector
	split     splitSearch
	budget    *budget
	foreign   func(hash []byte)
	edits     int   // of the file at hand
	packed    int64 // bytes of the file at hand that are compressed anew
	replaced  int64 // bytes of the file at hand that others replace
	restored  int   // references in the file at hand that are as they were before a Rewriter
	// texts are hashes that are put in the place of some in pages, of the same length.
	texts map[string]string
	// sums, if it is there, gives the edits of a list of checksums that is compressed in a file.
	sums func(list []byte) ([]edit, error)
	// read gives a file in the directory of the one at hand.
	read func(name string) ([]byte, error)
	// seen is told the texts in the file at hand.
	seen func(text []byte)
	// unpacked is told what was compressed in a file that is rewritten, and how it is.
	unpacked func(plain []byte, edits []edit)
	// beside is another file that the one at hand is rewritten with.
	beside *neighbour
}

// neighbour is a file that is rewritten because one beside it is.
type neighbour struct {
	name  string // its base name
	data  []byte
	edits []edit
}

// newFixer makes the fixer of a path, for one who has a loan of memory.
func newFixer(ctx context.Context, v View, paths []storepath.Path) *fixer {
	known := newMembers(paths)
	f := &fixer{known: known, scan: newScanner(v, known), budget: v.budget, foreign: func([]byte) {}}
	for _, p := range known.paths {
		f.targets = append(f.targets, []byte(v.target(p)))
	}
	f.split.parts = newParts(known)
	f.inspector = newInspector(f.scan, f.split.parts, v.budget)
	f.inspector.ctx, f.inspector.hasLoan = ctx, true
	return f
}

// rewrite gives the edits that relocate what s holds; a *blockedError says that it cannot.
func (f *fixer) rewrite(s source) ([]edit, error) {
	if err := f.inspector.ctx.Err(); err != nil {
		return nil, err
	}
	if s.depth > maxDepth {
		return nil, errDepth
	}
	edits, err := f.rewriteAs(s)
	if err == nil && len(edits) > 0 && isDigest(s.name) && isNamedBy(s.name, s.data) {
		return nil, blockedBy(Checksummed, "a reference in a file that is named by its hash")
	}
	return edits, err
}

// rewriteAs rewrites what s holds as its format wants it.
func (f *fixer) rewriteAs(s source) ([]edit, error) {
	head := s.data[:min(len(s.data), wanted(s.data))]
	format := f.inspector.recognise(s.name, head)
	if !format.opaque && format.fix == nil && isPHAR(s.data) {
		return f.phar(s)
	}
	switch {
	case format.fix != nil:
		edits, err := format.fix(f, s)
		if errors.Is(err, errMalformed) {
			return nil, f.mustBeFree(s, format, err)
		}
		return edits, err
	case format.opaque:
		return nil, f.mustBeFree(s, format, nil)
	case format.trailer && endsWithZip(s.data):
		return f.trailingZip(s, format)
	case format.look != nil || format.kind != "":
		return nil, f.mustBeFree(s, format, nil)
	}
	if table := tableEnd(s.data); table != "" {
		format.name, format.kind = table, Checksummed
		return nil, f.mustBeFree(s, format, nil)
	}
	switch {
	case format.name == elfName && bytes.HasSuffix(s.data, []byte(lispMark)):
		return f.lisp(s)
	case format.name == elfName:
		edits, err := f.elf(s, format)
		return f.zipsInside(s, edits, err)
	}
	edits, err := f.text(s, format)
	if format.trailer {
		return f.zipsInside(s, edits, err)
	}
	return edits, err
}

// neighbour gives the file of that name beside s.
func (f *fixer) neighbour(s source, name string) ([]byte, error) {
	if f.read == nil || s.depth > 0 {
		return nil, absent(name)
	}
	return f.read(name)
}

// absent says that the file of that name, without which another cannot be rewritten, is not beside it.
func absent(name string) error {
	return blockedBy(Compressed, "there is no %s beside it", name)
}

// mustBeFree is nil if there is no reference in what this package does not know how to rewrite.
func (f *fixer) mustBeFree(s source, format format, cause error) error {
	kind, found := cmp.Or(format.kind, Compressed), f.hidden(s)
	edits, err := f.text(s, format)
	switch {
	case found != "":
	case err != nil:
		found = err.Error()
	case len(edits) > 0:
		found = "a reference in " + format.name
	default:
		return nil
	}
	if cause != nil {
		found += ": " + cause.Error()
	}
	return &blockedError{kind, found}
}

// hidden says which reference is found in s but in plain sight, or "".
func (f *fixer) hidden(s source) (found string) {
	f.inspector.found = func(_ Kind, detail, harmless string) {
		if harmless == "" && found == "" {
			found = detail
		}
	}
	f.inspector.foreign = f.foreign
	f.inspector.start(0)
	f.inspector.file(bytes.NewReader(s.data), s.name)
	return found
}

// unread rewrites what is not as its format has it and has nothing else to be put right: nobody reads it but as text.
func (f *fixer) unread(s source, format format) ([]edit, error) {
	if found := f.hidden(s); found != "" {
		return nil, blockedBy(Compressed, "%s: %s", found, errMalformed)
	}
	return f.text(s, format)
}

// inflated reads all of r, which is in s, within the bounds of a member and of the budget.
func (f *fixer) inflated(s source, r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	most := int64(min(maxMember, maxUnpacked-s.unpacked))
	n, err := b.ReadFrom(io.LimitReader(&meter{r, f.inspector}, most+1))
	switch {
	case errors.Is(err, errBudget):
		return nil, err
	case n > most && most < maxMember:
		return nil, unsupported(fmt.Sprintf("it and what is around it inflate to more than the %d MiB that are held at once", maxUnpacked>>20))
	case n > most:
		return nil, errLarge
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return b.Bytes(), nil
}

// errLarge says that a member is too large.
var errLarge = unsupported(fmt.Sprintf("it inflates to more than the %d MiB that are compressed anew", maxMember>>20))

// write writes data to a compressor, until the context ends.
func (f *fixer) write(w io.Writer, data []byte) error {
	for chunk := range slices.Chunk(data, compressedAtOnce) {
		if err := f.inspector.ctx.Err(); err != nil {
			return err
		}
		if _, err := w.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

// replaces counts n bytes of s that are replaced as a whole, and so recorded as a whole, if s is a file and no member of one:
// what cannot be recorded in the end need not be compressed anew.
func (f *fixer) replaces(s source, n int) error {
	if s.depth > 0 {
		return nil
	}
	if f.replaced += int64(n); f.replaced > maxPathFixups {
		return errRecord
	}
	return nil
}

// errRecord says that there is more to be recorded than a path may have.
var errRecord = fmt.Errorf("what has to be recorded to undo it is more than %d MiB", maxPathFixups>>20)

// countPacked counts n bytes that are compressed anew and held until the file at hand is written.
func (f *fixer) countPacked(n int) error {
	if f.packed += int64(n); f.packed > maxPacked {
		return blockedBy(Compressed, "more than %d MiB of it would be compressed anew", maxPacked>>20)
	}
	return nil
}

// errCompress says that a closure's budget is spent.
var errCompress = errors.New("compressing it anew takes more than is spent on a closure")

// copied says that a file, or a stored member, is too large for a copy of it to be looked at.
func copied(s source, kind Kind) error {
	if len(s.data) > maxMember {
		return blockedBy(kind, "a reference in a file of more than %d MiB", maxMember>>20)
	}
	return nil
}

// whole is the edit that replaces all of s.
func whole(s source, data []byte, err error) ([]edit, error) {
	if err != nil || data == nil {
		return nil, err
	}
	return []edit{{from: 0, to: len(s.data), data: data}}, nil
}

// stem is a file's name without the last extension.
func stem(name string) string { return strings.TrimSuffix(name, path.Ext(name)) }
