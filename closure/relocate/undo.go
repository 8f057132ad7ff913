package relocate

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// undo is the inverse of a Rewriter and of FixTree.
type undo struct {
	next   nar.Sink
	name   []byte             // "<view directory>/"
	full   map[string]string  // what is kept of a hash -> the reference
	fixups map[string][]Fixup // by file
	buffer searchBuffer

	// Of the file at hand:
	file  string
	left  int64   // bytes that are still to come
	at    int64   // of the next one
	fixed []Fixup // those that are not undone yet, in order
}

// Undo returns a sink that takes back what Rewrite and FixTree did: what was fixed up becomes what it was, and then
// every relocated reference to one of paths does. paths are the path itself and its references, as Rewrite had them;
// where its report has no RelocatedName and no Ambiguous blocker, the archive is then the same, byte for byte. Fixups
// that do not fit the files are an error.
func (v View) Undo(paths []storepath.Path, fixups []Fixup, next nar.Sink) nar.Sink {
	u := &undo{next: next, full: make(map[string]string), fixups: make(map[string][]Fixup)}
	if !v.IsZero() {
		u.name = []byte(v.dir + "/")
		for _, p := range paths {
			u.full[v.short(p)] = string(p[:refLen])
		}
	}
	for _, f := range fixups {
		u.fixups[f.File] = append(u.fixups[f.File], f)
	}
	u.buffer = searchBuffer{next: next, search: u.search}
	return u
}

// Entry passes e on, a symlink with its target restored, a file with the size that it had.
func (u *undo) Entry(e *nar.Entry) error {
	u.file, u.fixed, u.left, u.at = e.Path, nil, e.Size, 0
	switch e.Kind {
	case nar.Regular:
		restored := *e
		var err error
		if restored.Size, err = u.begin(e.Size); err != nil {
			return fmt.Errorf("undoing the relocation of %q: %w", u.file, err)
		}
		u.buffer.open(restored.Size)
		if err := u.next.Entry(&restored); err != nil {
			return err
		}
		return u.due()
	case nar.Symlink:
		restored := *e
		restored.Target = u.symlink(e.Target)
		e = &restored
	}
	return u.next.Entry(e)
}

// begin puts the fixups of a file of size bytes in order, and gives the size that it had.
func (u *undo) begin(size int64) (int64, error) {
	u.fixed = u.fixups[u.file]
	if len(u.fixed) == 0 {
		return size, nil
	}
	u.fixed = slices.Clone(u.fixed)
	slices.SortStableFunc(u.fixed, func(a, b Fixup) int { return cmp.Compare(a.Offset, b.Offset) })
	was, at := size, int64(0)
	for _, f := range u.fixed {
		if f.Offset < at || f.Length < 0 || f.Length > size-f.Offset {
			return 0, errors.New("a fixup does not fit the file")
		}
		at = f.Offset + f.Length
		was += int64(len(f.Was)) - f.Length
	}
	return was, nil
}

// due undoes the fixups that begin at the next byte, and drops the bytes that they stand for.
func (u *undo) due() error {
	for len(u.fixed) > 0 && u.fixed[0].Offset == u.at && u.fixed[0].Was != nil {
		if _, err := u.buffer.Write(u.fixed[0].Was); err != nil {
			return err
		}
		if u.fixed[0].Was = nil; u.fixed[0].Length > 0 {
			return nil
		}
		u.fixed = u.fixed[1:]
	}
	return nil
}

// Write takes contents of the last entry.
func (u *undo) Write(p []byte) (int, error) {
	if int64(len(p)) > u.left {
		return 0, fmt.Errorf("undoing the relocation of %q: contents are longer than announced", u.file)
	}
	u.left -= int64(len(p))
	for rest := p; len(rest) > 0; {
		n := int64(len(rest))
		dropped := len(u.fixed) > 0 && u.fixed[0].Offset <= u.at
		switch {
		case dropped:
			n = min(n, u.fixed[0].Offset+u.fixed[0].Length-u.at)
		case len(u.fixed) > 0:
			n = min(n, u.fixed[0].Offset-u.at)
		}
		if !dropped {
			if _, err := u.buffer.Write(rest[:n]); err != nil {
				return 0, err
			}
		}
		u.at, rest = u.at+n, rest[n:]
		if dropped && u.at == u.fixed[0].Offset+u.fixed[0].Length {
			u.fixed = u.fixed[1:]
		}
		if err := u.due(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Close ends the archive.
func (u *undo) Close() error {
	u.buffer.release()
	return u.next.Close()
}

// search patches what begins at buf[from:to].
func (u *undo) search(buf []byte, from, to int) {
	for i := from; u.name != nil && i < to; i++ {
		n := bytes.Index(buf[i:min(len(buf), to+len(u.name)-1)], u.name)
		if n < 0 {
			break
		}
		i += n
		if full, ok := u.original(buf[i:]); ok {
			u.buffer.patch(i, []byte(full))
			i += refLen - 1
		}
	}
}

// original is the reference that b's first refLen bytes, which begin with u.name, stand for.
func (u *undo) original(b []byte) (string, bool) {
	if len(b) < refLen {
		return "", false
	}
	full, ok := u.full[string(b[len(u.name):refLen])]
	return full, ok
}

func (u *undo) symlink(target string) string {
	for _, f := range u.fixups[u.file] {
		return string(f.Was)
	}
	b := []byte(target)
	for i := 0; u.name != nil; i++ {
		n := bytes.Index(b[i:], u.name)
		if n < 0 {
			break
		}
		i += n
		if full, ok := u.original(b[i:]); ok {
			copy(b[i:], full)
		}
	}
	return string(b)
}

// before is what a file held before it was rewritten.
func (v View) before(o Original, fixups []Fixup, file string, now []byte) ([]byte, error) {
	var was bytes.Buffer
	err := v.undone(o, fixups, file, now, &was)
	return was.Bytes(), err
}

// undone writes what before gives.
func (v View) undone(o Original, fixups []Fixup, file string, now []byte, was io.Writer) error {
	undo := v.Undo(o.paths(), fixups, contents{was})
	if err := undo.Entry(&nar.Entry{Path: file, Kind: nar.Regular, Size: int64(len(now))}); err != nil {
		return err
	}
	_, err := undo.Write(now)
	return err
}

// contents is a Sink for one file's contents.
type contents struct{ io.Writer }

func (contents) Entry(*nar.Entry) error { return nil }
func (contents) Close() error           { return nil }
