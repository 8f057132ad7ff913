package relocate

import (
	"bytes"
	"fmt"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// undo is the inverse of a Stage.
type undo struct {
	layout Layout
	next   nar.Sink
	name   []byte             // "<view directory>/"
	full   map[string]string  // what is kept of a hash -> the reference
	fixups map[string][]Fixup // by file
	window window
	file   string

	// link, if set, gives the target that fixing gave a symlink, and altered is a file that is not as it was fixed.
	link    func(Fixup) string
	altered string
}

// Undo returns a stage that takes back what Rewrite did: every relocated reference to one of paths becomes what it
// was, and so does what was fixed. paths are the path itself and its references, as Rewrite had them; where its
// report has no RelocatedName and no Ambiguous blocker, the archive is then the same, byte for byte.
func (l Layout) Undo(paths []storepath.Path, fixups []Fixup, next nar.Sink) nar.Sink {
	return l.undo(paths, fixups, next)
}

func (l Layout) undo(paths []storepath.Path, fixups []Fixup, next nar.Sink) *undo {
	u := &undo{layout: l, next: next, full: make(map[string]string), fixups: make(map[string][]Fixup)}
	if !l.IsZero() {
		u.name = []byte(l.dir + "/")
		for _, p := range paths {
			u.full[l.short(p)] = string(p[:refLen])
		}
	}
	for _, m := range fixups {
		u.fixups[m.File] = append(u.fixups[m.File], m)
	}
	u.window = window{next: next, search: u.search}
	return u
}

// Entry passes e on, a symlink with its target restored.
func (u *undo) Entry(e *nar.Entry) error {
	u.file = e.Path
	switch e.Kind {
	case nar.Regular:
		u.window.open(e.Size)
	case nar.Symlink:
		restored := *e
		restored.Target = u.symlink(e.Target)
		e = &restored
	}
	return u.next.Entry(e)
}

// Write takes contents of the last entry.
func (u *undo) Write(p []byte) (int, error) {
	if int64(len(p)) > u.window.left {
		return 0, fmt.Errorf("undoing the relocation of %q: contents are longer than announced", u.file)
	}
	if err := u.window.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends the archive.
func (u *undo) Close() error {
	u.window.release()
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
			u.window.patch(i, []byte(full))
			i += refLen - 1
		}
	}
	for _, m := range u.fixups[u.file] {
		if at := m.Offset - u.window.off; int64(from) <= at && at < int64(to) {
			u.check(m.marked(buf[at:]))
			u.window.patch(int(at), m.Was)
		}
	}
}

// check notes that the file at hand is not as it was fixed.
func (u *undo) check(asMended bool) {
	if !asMended {
		u.altered = u.file
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
	for _, m := range u.fixups[u.file] {
		u.check(u.link == nil || u.link(m) == target)
		return string(m.Was)
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
