package relocate

import (
	"errors"
	"os"
	"path"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
)

// Of compressed pages, and of scripts that are there compressed: what is packed in them has hashes and is rewritten as a page is.

// packedText is what is compressed in a file.
type packedText struct {
	hashes   []string // of others
	was, now []string // its own, so far
}

// hasPacked is has for a compressed page. One that stands in the way already, or may name store paths, stays as it is.
func (t *integrity) hasPacked(p *hashed) (has bool, err error) {
	if harmlessPlace(p.file, "") != "" || t.spoilt[p.file] {
		return false, nil
	}
	data, done, err := t.open(p.file)
	if err != nil {
		return false, err
	}
	defer done()
	f, err := t.unpacker()
	if err != nil {
		return false, err
	}
	p.packed = &packedText{}
	f.seen = func(text []byte) {
		for h := range hashesIn(text) {
			if t.packed++; t.packed > maxFileEdits {
				t.crowded = p.file
				return
			}
			t.wanted.add(h.text)
			p.packed.hashes = append(p.packed.hashes, h.text)
		}
		if len(p.packed.hashes) > 0 {
			p.packed.was = hashTexts(text)
			p.packed.now = p.packed.was
		}
	}
	defer func() { f.seen = nil }()
	_, err = f.safely(source{data: data, name: path.Base(p.file)})
	if err != nil && t.ctx.Err() == nil && !errors.Is(err, errLarge) { // one that is too large counts as empty
		b := hashedPage(p.file)
		b.Detail += ": " + err.Error()
		t.unread = append(t.unread, b)
	}
	if known := t.c.unpacked[p.file]; known != nil && len(t.fixups(p.file)) > 0 {
		p.packed.was, p.packed.now = known.was, known.now
	}
	return len(p.packed.hashes) > 0, t.ctx.Err()
}

// unpacker is the fixer of compressed pages.
func (t *integrity) unpacker() (*fixer, error) {
	if t.fixer != nil {
		return t.fixer, nil
	}
	loan, err := memory.Of(t.ctx, t.view.budget.memory).Overdraw(t.ctx)
	if err == nil {
		t.loan, t.fixer = loan, newFixer(t.ctx, t.view, t.o.paths())
	}
	return t.fixer, err
}

// repack makes the hashes anew that a compressed page has.
func (t *integrity) repack(h *hashed) error {
	f, err := t.unpacker()
	if err != nil {
		return err
	}
	f.texts = map[string]string{}
	for _, text := range h.packed.hashes {
		if other := t.of[text]; other != nil && other.becomes(text) != text {
			f.texts[text] = other.becomes(text)
		}
	}
	own := h.packed.now
	f.unpacked = func(plain []byte, edits []edit) { own = packedSums(plain, edits) }
	defer func() { f.texts, f.unpacked = nil, nil }()
	b := hashedPage(h.file)
	was, ok := t.takeWhole(h.file)
	if !ok {
		t.c.blocker(b)
		return nil
	}
	recorded := len(t.c.report.Fixups)
	if err := f.file(t.name(h.file), pending{file: h.file, format: "hash in a page", blockers: []Blocker{b}, count: 1}, t.c); err != nil {
		return err
	}
	if len(t.c.report.Fixups) > recorded {
		h.packed.now = own
	}
	t.giveWhole(h.file, was, recorded)
	return nil
}

// packedSums are the hashes of what is compressed in a file once it is edited.
func packedSums(plain []byte, edits []edit) []string {
	s := newPageSums()
	if sortEdits(edits) == nil { // else it is not rewritten
		applyTo(s, plain, edits)
	}
	return s.texts()
}

// takeWhole takes back the record of a file that was rewritten as a whole, which is to be rewritten once more. It reports false
// where something else is recorded of it.
func (t *integrity) takeWhole(file string) (was *Fixup, ok bool) {
	known := t.fixups(file)
	if len(known) == 0 {
		return nil, true
	}
	info, err := os.Lstat(t.name(file))
	if err != nil || len(known) > 1 || known[0].Offset != 0 || known[0].Length != info.Size() {
		return nil, false
	}
	t.c.report.Fixups = slices.DeleteFunc(t.c.report.Fixups, func(f Fixup) bool { return f.File == file })
	t.c.unrecord(t.view.budget, known[0])
	return &known[0], true
}

// giveWhole has the record of what was rewritten once more, if there is one, say what the file was at first.
func (t *integrity) giveWhole(file string, was *Fixup, recorded int) {
	if was == nil {
		for _, f := range t.c.report.Fixups[recorded:] {
			t.fixed(f)
		}
		return
	}
	now := *was
	for _, f := range t.c.report.Fixups[recorded:] {
		t.c.unrecord(t.view.budget, f)
		now.Length = f.Length
	}
	t.c.report.Fixups = t.c.report.Fixups[:recorded]
	t.c.giveBack([]Fixup{now}, t.view.budget)
	t.file(file).fixups = []Fixup{now}
}
