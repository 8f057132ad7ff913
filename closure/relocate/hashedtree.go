package relocate

import (
	"os"
	"path/filepath"
)

// hashedTree is a tree in which files have hashes of others, which are made anew.
type hashedTree struct {
	view    View
	dir     string
	o       Original
	c       *collector
	changed map[string]*changedFile // those that may be
}

// changedFile is a file that may be another than it was.
type changedFile struct {
	fixups []Fixup           // so far
	sums   map[int][2]string // its hashes before and now, by how many digits they have, as far as they were asked for
}

func newHashedTree(v View, dir string, o Original, c *collector) *hashedTree {
	t := &hashedTree{view: v, dir: dir, o: o, c: c, changed: map[string]*changedFile{}}
	for _, f := range c.report.Fixups {
		t.fixed(f)
	}
	return t
}

// file is what is known of a file, which counts as changed from now on.
func (t *hashedTree) file(name string) *changedFile {
	if t.changed[name] == nil {
		t.changed[name] = &changedFile{sums: map[int][2]string{}}
	}
	return t.changed[name]
}

// name is where a file of the tree lies.
func (t *hashedTree) name(file string) string { return filepath.Join(t.dir, filepath.FromSlash(file)) }

// read reads a file; one that is too large counts as empty.
func (t *hashedTree) read(file string) ([]byte, error) {
	name := t.name(file)
	if info, err := os.Lstat(name); err != nil || info.Size() > maxSource {
		return nil, err
	}
	return os.ReadFile(name)
}

// open gives what a file holds, and what lets go of it: a large one is not read, but mapped.
func (t *hashedTree) open(file string) (data []byte, done func(), err error) {
	name := t.name(file)
	info, err := os.Lstat(name)
	switch {
	case err != nil:
		return nil, nil, err
	case info.Size() > maxSource:
		return mapped(name, info.Size())
	}
	data, err = os.ReadFile(name)
	return data, func() {}, err
}

// fixed notes a fixup.
func (t *hashedTree) fixed(f Fixup) {
	known := t.file(f.File)
	known.fixups = append(known.fixups, f)
}

// fixups are those that a file has so far.
func (t *hashedTree) fixups(file string) []Fixup {
	if known := t.changed[file]; known != nil {
		return known.fixups
	}
	return nil
}

// before is what a file was that has these contents now.
func (t *hashedTree) before(file string, now []byte) ([]byte, error) {
	return t.view.before(t.o, t.fixups(file), file, now)
}

// rewrite makes edits to a file that holds data and has hashes of others.
func (t *hashedTree) rewrite(file string, data []byte, edits []edit) error {
	if sameLength(edits) {
		_, err := t.change(file, edits, fixups(file, data, edits))
		return err
	}
	_, err := t.replace(file, data, apply(data, edits), fixups(file, data, edits))
	return err
}

// replace makes a file that holds data hold other data, as fixups record it, and reports false where change does.
func (t *hashedTree) replace(file string, data, next []byte, fixups []Fixup) (bool, error) {
	if ok, err := t.change(file, nil, fixups); !ok {
		return false, err
	}
	name := t.name(file)
	before, err := os.Lstat(name)
	if err == nil {
		err = write(name, before, data, []edit{{from: 0, to: len(data), data: next}})
	}
	return true, err
}

// change makes edits to a file that has hashes of others, as fixups record it. It reports false where it does not: with an
// error, or with a blocker, as there is too much to be recorded.
func (t *hashedTree) change(file string, edits []edit, fixups []Fixup) (bool, error) {
	if !t.c.record(t.view.budget, fixups...) {
		b := hashedPage(file)
		b.Detail += ": " + errRecord.Error()
		t.c.blocker(b)
		return false, nil
	}
	name := t.name(file)
	before, err := os.Lstat(name)
	if err == nil {
		err = writeAt(name, before, edits)
	}
	if err != nil {
		return false, err
	}
	t.c.report.Fixups = append(t.c.report.Fixups, fixups...)
	for _, f := range fixups {
		t.fixed(f)
	}
	return true, nil
}
