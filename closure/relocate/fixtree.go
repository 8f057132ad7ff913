package relocate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
)

// FixTree puts right in the tree at dir, written through a rewriter with this report, what rewriting plain references
// does not reach or has spoiled. Files that compress references or check a sum over them are rewritten as a whole.
// Python byte code that was fresh in the store, by its source's time or by its source's hash, and counts as stale now
// that the image's files have another time and sources are rewritten, is marked as not to be checked; byte code that
// was stale in the store stays so. Hashes in pages, of scripts and style sheets that were rewritten, are made anew, and so are
// those in lists of checksums, and what a server has on record of a file's length.
//
// FixTree returns the report with all fixups, for Undo, and with what turned out to stand in the way. It is called once, after
// the tree is complete, and leaves modes and times as they are. What it does depends on the archive and the view only.
func (v View) FixTree(ctx context.Context, dir string, o Original, r Report) (Report, error) {
	c := &collector{report: r, path: o.Path, overrules: v.Overrules(), unpacked: map[string]*packedText{}}
	c.report.pending = nil
	for _, f := range r.Fixups {
		c.fixed += f.size()
	}
	if err := v.fixPending(ctx, dir, o, r.pending, c); err != nil {
		return Report{}, err
	}
	if err := v.markCode(ctx, dir, o, r, c); err != nil {
		return Report{}, fmt.Errorf("fixing %s: %w", o.Path, err)
	}
	if err := v.fixIntegrity(ctx, dir, o, r, c); err != nil {
		return Report{}, fmt.Errorf("fixing %s: %w", o.Path, err)
	}
	if err := v.fixLengths(ctx, dir, o, c); err != nil {
		return Report{}, fmt.Errorf("fixing %s: %w", o.Path, err)
	}
	if err := v.fixSums(ctx, dir, o, r, c); err != nil {
		return Report{}, fmt.Errorf("fixing %s: %w", o.Path, err)
	}
	c.report.sources, c.report.stamped, c.report.assets, c.report.sums = nameList{}, nameList{}, nameList{}, nameList{}
	c.report.rewritten, c.report.spoilt = nameList{}, nameList{}
	return c.report, nil
}

// fixPending rewrites the files that a rewriter has left to it, one by one.
func (v View) fixPending(ctx context.Context, dir string, o Original, files []pending, c *collector) error {
	if len(files) == 0 {
		return nil
	}
	loan, err := memory.Of(ctx, v.budget.memory).Overdraw(ctx)
	if err != nil {
		return fmt.Errorf("fixing %s: %w", o.Path, err)
	}
	defer loan.Return()
	f := newFixer(ctx, v, o.paths())
	foreign := func(hash []byte) { c.sawForeign(hash) }
	f.foreign = foreign
	for _, p := range files {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("fixing %s: %w", o.Path, err)
		}
		f.unpacked = nil
		if isPacked(p.file) {
			f.unpacked = func(plain []byte, edits []edit) {
				c.unpacked[p.file] = &packedText{was: hashTexts(plain), now: packedSums(plain, edits)}
			}
		}
		if err := f.file(filepath.Join(dir, filepath.FromSlash(p.file)), p, c); err != nil {
			return fmt.Errorf("fixing %s: %s: %w", o.Path, p.file, err)
		}
	}
	if err := ctx.Err(); err != nil { // what was not looked at then is no blocker
		return fmt.Errorf("fixing %s: %w", o.Path, err)
	}
	c.report = c.result()
	return nil
}

// file rewrites one file on disk. What cannot be rewritten goes to c, and the file stays as it is.
func (f *fixer) file(name string, p pending, c *collector) error {
	before, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if !before.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	data, unmap, err := mapped(name, before.Size())
	if err != nil {
		return err
	}
	defer unmap()
	// What a Rewriter has recorded of it may stand in what is rewritten as a whole, so it is looked at as it was. On disk, it
	// stays as it is until that has turned out well.
	var taken []Fixup
	var restored []edit
	if p.rewritten {
		taken = c.takeBack(p.file, data, f.budget)
	}
	for _, t := range taken {
		restored = append(restored, edit{from: int(t.Offset), to: int(t.Offset) + len(t.Was), data: t.Was})
	}
	dir := filepath.Dir(name)
	f.read = func(name string) ([]byte, error) { return readNeighbour(dir, name) }
	edits, fixed, ok := f.attempt(data, p, c)
	if !ok && p.format == pharName {
		// A Rewriter has rewritten what stands before the archive, which its signature covers.
		return cmp.Or(writeAt(name, before, restored), f.restore(name, before, data))
	}
	if !ok && f.restored > 0 {
		return replaceIn(name, before, data, nil)
	}
	if !ok || len(edits) == 0 {
		c.giveBack(taken, f.budget)
		return nil
	}
	if sameLength(edits) && f.restored == 0 {
		err = writeAt(name, before, append(restored, edits...))
	} else {
		err = replaceIn(name, before, data, edits)
	}
	if err != nil {
		return err
	}
	if b := f.beside; b != nil {
		name := filepath.Join(dir, b.name)
		before, err := os.Lstat(name)
		if err == nil {
			err = write(name, before, b.data, b.edits)
		}
		if err != nil {
			return err
		}
	}
	c.report.Fixups = append(c.report.Fixups, fixed...)
	return nil
}

// restore takes back what a Rewriter has done to a file, which data is, as many references at a time as a file may have edits.
func (f *fixer) restore(name string, before os.FileInfo, data []byte) (err error) {
	var edits []edit
	f.relocated(data, func(at int, was []byte) {
		edits = append(edits, edit{from: at, to: at + refLen, data: was})
		if len(edits) == maxEdits {
			err, edits = cmp.Or(err, writeAt(name, before, edits)), edits[:0]
		}
	})
	return cmp.Or(err, writeAt(name, before, edits))
}

// relocated gives the places of references that a Rewriter has rewritten, and what stood there.
func (f *fixer) relocated(data []byte, each func(at int, was []byte)) {
	known := make(map[string][]byte, len(f.targets))
	for i, target := range f.targets {
		known[string(target)] = []byte(f.known.paths[i][:refLen])
	}
	for at := 0; len(data)-at >= refLen; {
		n := bytes.Index(data[at:], f.scan.name)
		if n < 0 || len(data)-at-n < refLen {
			break
		}
		at += n
		was, ok := known[string(data[at:at+refLen])]
		if !ok {
			at++
			continue
		}
		each(at, was)
		at += refLen
	}
}

// readNeighbour reads a regular file that may be rewritten with another. A *blockedError says that there is none.
func readNeighbour(dir, name string) ([]byte, error) {
	file := filepath.Join(dir, name)
	info, err := os.Lstat(file)
	switch {
	case os.IsNotExist(err):
		return nil, absent(name)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > keptInMemory:
		return nil, absent(name)
	}
	return os.ReadFile(file)
}

// attempt finds out how a file is rewritten. Where it is not, c gets the blockers.
func (f *fixer) attempt(data []byte, p pending, c *collector) (edits []edit, fixed []Fixup, ok bool) {
	f.beside, f.edits, f.packed, f.replaced = nil, 0, 0, 0
	name := nameIn(f.known.paths[0], p.file)
	if f.restored = f.takeBackZip(name, data); f.restored > 0 {
		defer func() {
			if !ok || len(edits) > 0 { // else they stay as a Rewriter has left them
				c.report.References -= f.restored
			}
		}()
	}
	edits, err := f.safely(source{data: data, name: name})
	if err == nil {
		err = sortEdits(edits)
	}
	if err != nil && !errors.Is(err, errRecord) {
		c.block(p, err.Error())
		return nil, nil, false
	}
	fixed = fixups(p.file, data, edits)
	if b := f.beside; b != nil {
		fixed = append(fixed, fixups(path.Join(path.Dir(p.file), b.name), b.data, b.edits)...)
	}
	if err != nil || !c.record(f.budget, fixed...) {
		if isTeXFormat(p.file) {
			for i := range p.blockers {
				p.blockers[i].Harmless = texFormatUnused
				c.blocker(p.blockers[i])
			}
			c.report.Harmless += p.count - len(p.blockers)
			return nil, nil, false
		}
		c.block(p, errRecord.Error())
		return nil, nil, false
	}
	if len(fixed) > 0 {
		c.fixedIn(p.format)
	}
	for _, e := range edits {
		if e.plain {
			c.report.References++
		}
	}
	return edits, fixed, true
}

// safely rewrites a whole file; a decoder that fails on it counts as one that cannot read it.
func (f *fixer) safely(s source) (edits []edit, err error) {
	defer f.inspector.freeMemory()
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("its decoder failed: %v", problem)
		}
	}()
	f.budget.allow(int64(len(s.data)))
	return f.rewrite(s)
}
