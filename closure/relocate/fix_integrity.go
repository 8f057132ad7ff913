package relocate

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
)

// A page may have the hash of a script or a style sheet, and a browser then takes nothing else (W3C, "Subresource
// Integrity"). So may a script, of others, and a list of files, of which a server makes its pages; a policy has those of the
// scripts in its page (W3C, "Content Security Policy"). Where what has such a hash was rewritten, its hashes in the files of the
// same path are made anew, and then the hashes of those. A server sends what is compressed as it is or unpacked: both count.

const (
	// maxChained is how often the pages of a path are gone through, where pages have the hashes of pages. Within one time a page
	// is only found after those whose hashes it has.
	maxChained = 16
	// maxPages bounds the pages of a path that have hashes.
	maxPages = 2 * maxNames
)

// integrity makes hashes anew in the pages of a tree.
type integrity struct {
	*hashedTree
	ctx     context.Context
	pages   []*hashed          // that have hashes
	files   map[string]*hashed // the same and others, by their names
	wanted  wantedHashes       // in all pages
	of      map[string]*hashed // what changes, by its hashes before
	scripts int                // how many of these are scripts in pages
	crowded string             // a page that there was no room for
	packed  int                // hashes in compressed pages
	unread  []Blocker          // of compressed pages
	spoilt  map[string]bool    // compressed pages that stand in the way
	fixer   *fixer             // of those
	loan    *memory.Loan
}

// hashed is a file that has hashes of others, or whose hashes others may have, or a script in one.
type hashed struct {
	file     string
	from, to int         // of a script in a page
	packed   *packedText // of what is compressed
	known    bool        // to change
	scripts  map[int]bool
	was, now []string // its hashes
}

// wantedHashes are those that pages have, by their first characters: enough to pass over the rest.
type wantedHashes map[[8]byte]bool

func (w wantedHashes) add(text string) {
	if len(w) < maxFileEdits {
		w[[8]byte([]byte(text))] = true
	}
}

// has reports whether one of the hashes may be in a page.
func (w wantedHashes) has(texts []string) bool {
	return len(w) >= maxFileEdits || slices.ContainsFunc(texts, func(text string) bool { return w[[8]byte([]byte(text))] })
}

// fixIntegrity makes the hashes of files anew that were rewritten, or may have been.
func (v View) fixIntegrity(ctx context.Context, dir string, o Original, r Report, c *collector) error {
	if len(r.assets.names)+len(r.pending) == 0 {
		return nil
	}
	t := &integrity{hashedTree: newHashedTree(v, dir, o, c), ctx: ctx,
		files: map[string]*hashed{}, wanted: wantedHashes{}, of: map[string]*hashed{}}
	t.spoilt = map[string]bool{}
	for _, file := range c.report.spoilt.names {
		t.spoilt[file] = true
	}
	defer func() { t.loan.Return() }()
	if err := t.findPages(); err != nil || len(t.wanted) == 0 {
		return err
	}
	if err := t.assets(r); err != nil {
		return err
	}
	if len(t.of) > 0 {
		t.blockers()
	}
	for times, again := 0, len(t.of) > 0; again; times++ { // a page that changes may have its own hashes in others
		again = false
		for _, p := range t.pages {
			found, err := t.look(p, times == maxChained)
			if err := cmp.Or(ctx.Err(), err); err != nil {
				return fmt.Errorf("%s: %w", p.file, err)
			}
			if found && times == maxChained {
				c.blocker(chainedPage(p.file))
			}
			again = again || found && times < maxChained
		}
	}
	inOrder := func(p *hashed) string { return strings.ReplaceAll(p.file, "/", "\x00") }
	slices.SortFunc(t.pages, func(a, b *hashed) int { return strings.Compare(inOrder(a), inOrder(b)) })
	for _, p := range t.pages {
		if !p.known {
			continue
		}
		if err := cmp.Or(ctx.Err(), t.become(p, 0)); err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
	}
	return nil
}

// blockers are the pages that were not looked at, where something changes.
func (t *integrity) blockers() {
	for _, b := range t.unread {
		t.c.blocker(b)
	}
	if t.crowded != "" {
		t.c.blocker(hashBlocker(t.crowded, "the hash of one of too many pages"))
	}
}

// findPages notes the files that have hashes, compressed or not.
func (t *integrity) findPages() error {
	return t.walk(func(file string) (err error) {
		p, has := &hashed{file: file}, false
		switch {
		case isPage(file):
			has, err = t.has(p)
		case isPackedPage(file):
			has, err = t.hasPacked(p)
		}
		switch {
		case has && len(t.pages) >= maxPages:
			t.crowded = file
		case has:
			t.pages, t.files[file] = append(t.pages, p), p
		}
		return err
	})
}

// walk calls see with each file.
func (t *integrity) walk(see func(file string) error) error {
	return filepath.WalkDir(t.dir, func(name string, d fs.DirEntry, err error) error {
		if err = cmp.Or(err, t.ctx.Err()); err != nil || !d.Type().IsRegular() {
			return err
		}
		file, err := filepath.Rel(t.dir, name)
		if err != nil {
			return err
		}
		if err := see(filepath.ToSlash(file)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil
	})
}

// assets notes the files that may have been rewritten: all there are, where those that were are more than could be noted.
func (t *integrity) assets(r Report) error {
	if r.assets.more {
		return t.walk(t.asset)
	}
	files := slices.Clone(r.assets.names)
	for _, p := range r.pending {
		files = append(files, p.file)
	}
	slices.Sort(files)
	for _, file := range slices.Compact(files) {
		if err := cmp.Or(t.ctx.Err(), t.asset(file)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// has notes the hashes that a page has, and reports whether there are any.
func (t *integrity) has(p *hashed) (has bool, err error) {
	data, done, err := t.open(p.file)
	if err != nil {
		return false, err
	}
	defer done()
	for h := range hashesIn(data) {
		t.wanted.add(h.text)
		has = true
	}
	return has, nil
}

// asset notes a file that may have been rewritten, and scripts in it that were, if a page has their hashes.
func (t *integrity) asset(file string) error {
	h := t.files[file]
	if h == nil {
		h = &hashed{file: file}
		if known := t.c.unpacked[file]; known != nil && len(t.fixups(file)) > 0 {
			h.packed = known
		}
	}
	data, done, err := t.open(file)
	if err != nil {
		return err
	}
	defer done()
	was, err := t.sumsBefore(h, data)
	if err != nil {
		return err
	}
	if t.wanted.has(was) && !slices.Equal(was, h.sums(data)) {
		h.was = was
		t.know(h)
	}
	if !hasScripts(file) {
		return nil
	}
	return t.changedScripts(h, data, func(was []byte, from, to int) bool { return !bytes.Equal(was[from:to], data[from:to]) })
}

// sumsBefore are the hashes that a file had, and what is compressed in it, which has these contents now.
func (t *integrity) sumsBefore(h *hashed, data []byte) ([]string, error) {
	s := newPageSums()
	err := t.view.undone(t.o, t.fixups(h.file), h.file, data, s)
	if h.packed != nil {
		return append(slices.Clone(h.packed.was), s.texts()...), err
	}
	return s.texts(), err
}

// sums are those that it has now, with such contents.
func (h *hashed) sums(data []byte, edits ...edit) []string {
	s := newPageSums()
	applyTo(s, data, edits)
	if h.packed != nil {
		return append(slices.Clone(h.packed.now), s.texts()...)
	}
	return s.texts()
}

// know notes the hashes that something had that changes.
func (t *integrity) know(h *hashed) {
	h.known = true
	for _, text := range h.was {
		if t.of[text] == nil && t.wanted.has([]string{text}) {
			t.of[text] = h
		}
	}
}

// changedScripts notes the scripts and style sheets in a page that change, if a page has their hashes.
func (t *integrity) changedScripts(page *hashed, data []byte, change func(was []byte, from, to int) bool) error {
	if len(data) > maxSource {
		return nil
	}
	was, err := t.before(page.file, data)
	if err != nil || len(was) != len(data) {
		return err
	}
	for from, to := range scriptsIn(was) {
		if page.scripts[from] || !change(was, from, to) {
			continue
		}
		texts := scriptHashes(was[from:to])
		switch {
		case !t.wanted.has(texts):
			continue
		case t.scripts == maxNames:
			t.c.blocker(hashBlocker(page.file, "the hash of one of too many scripts in pages"))
			return nil
		case page.scripts == nil:
			page.scripts = map[int]bool{}
		}
		t.scripts, page.scripts[from] = t.scripts+1, true
		t.know(&hashed{file: page.file, from: from, to: to, was: texts})
	}
	return nil
}

// look looks whether a page has hashes of what changes, and reports whether that was not known. The last time, that is all.
func (t *integrity) look(p *hashed, last bool) (found bool, err error) {
	changes := func(text string) bool { return t.of[text] != nil }
	if p.packed != nil {
		if p.known || !slices.ContainsFunc(p.packed.hashes, changes) {
			return false, nil
		}
	}
	data, done, err := t.open(p.file)
	if err != nil {
		return false, err
	}
	defer done()
	var places []int
	for h := range hashesIn(data) {
		if changes(h.text) && len(places) <= maxEdits {
			places = append(places, h.at)
		}
	}
	if len(places) == 0 && p.packed == nil {
		return false, nil
	}
	if !p.known && last {
		return true, nil
	}
	if !p.known {
		found = true
		if p.was, err = t.sumsBefore(p, data); err != nil {
			return false, err
		}
		t.know(p)
	}
	if p.packed != nil || !hasScripts(p.file) {
		return found, nil
	}
	scripts := t.scripts
	err = t.changedScripts(p, data, func(_ []byte, from, to int) bool {
		i, _ := slices.BinarySearch(places, from)
		return i < len(places) && places[i] < to
	})
	return found || t.scripts > scripts, err
}

// become makes the hashes anew that a file has of others that change, and its own.
func (t *integrity) become(h *hashed, depth int) error {
	if h.now != nil {
		return nil
	}
	h.now = h.was // what a file has that has one of it
	others, err := t.others(h)
	if err != nil {
		return err
	}
	if len(others) > 0 && depth == maxChained {
		t.c.blocker(chainedPage(h.file))
		return nil
	}
	for _, other := range others {
		if err := t.become(other, depth+1); err != nil {
			return err
		}
	}
	if h.packed != nil && len(others) > 0 {
		if err := t.repack(h); err != nil {
			return err
		}
	}
	return t.rewrite(h)
}

// others are those whose hashes a file has, or a script in it, and that change, once each.
func (t *integrity) others(h *hashed) (others []*hashed, err error) {
	seen := map[*hashed]bool{h: true}
	add := func(text string) {
		if other := t.of[text]; other != nil && !seen[other] {
			seen[other], others = true, append(others, other)
		}
	}
	if h.packed != nil {
		for _, text := range h.packed.hashes {
			add(text)
		}
	}
	if h.packed != nil || !isPage(h.file) {
		return others, nil
	}
	data, done, err := t.contents(h)
	if err != nil {
		return nil, err
	}
	defer done()
	for known := range hashesIn(data) {
		add(known.text)
	}
	return others, nil
}

// contents gives what h holds, and what lets go of it. There may be many scripts in a page, so it is not read for each.
func (t *integrity) contents(h *hashed) (data []byte, done func(), err error) {
	if h.to == 0 {
		return t.open(h.file)
	}
	file, err := os.Open(t.name(h.file))
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	data = make([]byte, h.to-h.from)
	_, err = file.ReadAt(data, int64(h.from))
	return data, func() {}, err
}

// becomes is what a hash of h becomes.
func (h *hashed) becomes(text string) string { return h.now[slices.Index(h.was, text)] }
