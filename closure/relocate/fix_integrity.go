package relocate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
)

// A page may have the hash of a script or a style sheet, and a browser then takes nothing else (W3C, "Subresource
// Integrity"). So may a script, of others, and a list of files, of which a server makes its pages. Where such a file was
// rewritten, its hashes in the files of the same path are made anew, and then the hashes of those.

// maxChained is how often the pages of a path are gone through, where pages have the hashes of pages. Within one time a page
// is only found after those whose hashes it has.
const maxChained = 16

// integrity makes hashes anew in the pages of a tree.
type integrity struct {
	*hashedTree
	of      map[string]*hashed // files that change, by their hashes before
	scripts int                // how many of these are scripts in pages
}

// fixIntegrity makes the hashes of assets anew, which were rewritten.
func (v View) fixIntegrity(ctx context.Context, dir string, o Original, assets []string, c *collector) error {
	if len(assets) == 0 {
		return nil
	}
	t := &integrity{hashedTree: newHashedTree(v, dir, o, c), of: map[string]*hashed{}}
	known := map[string]bool{}
	for _, file := range assets {
		known[file] = true
	}
	var pages []*hashed
	for _, file := range assets {
		p := &hashed{file: file}
		pages = append(pages, p)
		if err := t.changes(p); err != nil {
			return err
		}
	}
	for times, again := 0, true; again; times++ { // a page that changes may have its own hashes in others
		again = false
		err := t.pages(ctx, func(file string, packed bool) error {
			if packed || known[file] {
				return nil
			}
			data, err := t.read(file)
			if err != nil || !slices.ContainsFunc(hashesIn(data), func(h hashText) bool { return t.of[h.text] != nil }) {
				return err
			}
			if known[file], again = true, true; times == maxChained || len(pages) >= 2*maxNames {
				t.c.blocker(chainedPage(file))
				return nil
			}
			p := &hashed{file: file}
			pages = append(pages, p)
			return t.changes(p)
		})
		if err != nil {
			return err
		}
		again = again && times < maxChained
	}
	inOrder := func(p *hashed) string { return strings.ReplaceAll(p.file, "/", "\x00") }
	slices.SortFunc(pages, func(a, b *hashed) int { return strings.Compare(inOrder(a), inOrder(b)) })
	for _, p := range pages {
		if err := cmp.Or(ctx.Err(), t.become(p, 0)); err != nil {
			return err
		}
	}
	return t.fixPacked(ctx)
}

// pages calls see with each file that may have hashes, compressed or not.
func (t *integrity) pages(ctx context.Context, see func(file string, packed bool) error) error {
	return filepath.WalkDir(t.dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		packed := isPackedPage(name)
		if err != nil || !d.Type().IsRegular() || !isPage(name) && !packed {
			return err
		}
		file, err := filepath.Rel(t.dir, name)
		if err != nil {
			return err
		}
		return see(filepath.ToSlash(file), packed)
	})
}

// changes notes that a file is not what it was, and the hashes that it had.
func (t *integrity) changes(h *hashed) error {
	now, err := t.read(h.file)
	if err != nil {
		return err
	}
	was, err := t.before(h.file, now)
	if err != nil {
		return err
	}
	h.was = hashTexts(was)
	t.know(h)
	scripts := changedScripts(h.file, was, now, maxNames-t.scripts+1)
	if t.scripts += len(scripts); t.scripts > maxNames {
		t.scripts, scripts = maxNames, nil
		t.c.blocker(hashBlocker(h.file, "the hash of one of too many scripts in pages"))
	}
	for _, script := range scripts {
		t.know(script)
	}
	return nil
}

// know notes the hashes that something had.
func (t *integrity) know(h *hashed) {
	for _, text := range h.was {
		t.of[text] = h
	}
}

// become makes the hashes anew that a file has of others that change, and its own.
func (t *integrity) become(h *hashed, depth int) error {
	if h.was == nil || h.now != nil {
		return nil
	}
	h.now = h.was // what a file has that has one of it
	data, err := t.read(h.file)
	if err != nil {
		return err
	}
	if first := t.others(h, data); len(first) > 0 {
		switch {
		case depth == maxChained:
			t.c.blocker(chainedPage(h.file))
			return nil
		case isSealed(h.file, data):
			t.c.blocker(hashBlocker(h.file, "the hash of a file that was rewritten, in what is no text"))
			return nil
		}
		data = nil // or there would be one of each page in a row
		for _, other := range first {
			if err := t.become(other, depth+1); err != nil {
				return err
			}
		}
		if data, err = t.read(h.file); err != nil {
			return err
		}
	}
	var edits []edit
	var list []Fixup
	for _, known := range hashesIn(data) {
		other := t.of[known.text]
		if other == nil || !isPage(h.file) {
			continue
		}
		now := []byte(other.now[slices.Index(other.was, known.text)])
		edits = append(edits, edit{from: known.at, to: known.at + len(now), data: now})
		list = append(list, Fixup{File: h.file, Offset: int64(known.at), Length: int64(len(now)), Was: []byte(known.text)})
	}
	if len(edits) > 0 {
		if ok, err := t.change(h.file, edits, list); !ok {
			return err
		}
		data = apply(data, edits)
	}
	h.now = hashTexts(data)
	return nil
}

// others are the files whose hashes a page has and that change, once each.
func (t *integrity) others(h *hashed, data []byte) (others []*hashed) {
	if !isPage(h.file) {
		return nil
	}
	seen := map[*hashed]bool{}
	for _, known := range hashesIn(data) {
		if other := t.of[known.text]; other != nil && !seen[other] {
			seen[other], others = true, append(others, other)
		}
	}
	return others
}

// isSealed reports whether a file is no page but for its name: an archive, or another format that a change would break.
func isSealed(file string, data []byte) bool {
	x := inspector{magics: magics()}
	f := x.recognise(path.Base(file), data[:min(len(data), wanted(data))])
	return f.fix != nil || f.kind != "" || f.opaque || isPHAR(data) || endsWithZip(data)
}

// chainedPage says that there are too many pages in a row.
func chainedPage(file string) Blocker {
	return hashBlocker(file, "the hash of a page that has the hash of another, and so on")
}

// hashBlocker says which hash in a file cannot be made anew.
func hashBlocker(file, detail string) Blocker {
	return Blocker{File: file, Kind: Checksummed, Detail: detail, Harmless: harmlessPlace(file, "")}
}

// fixPacked does the same to compressed pages. One that was compressed anew has a record of what it was already.
func (t *integrity) fixPacked(ctx context.Context) error {
	var loan *memory.Loan
	defer func() { loan.Return() }()
	var f *fixer
	return t.pages(ctx, func(file string, packed bool) (err error) {
		if !packed || harmlessPlace(file, "") != "" {
			return nil
		}
		data, err := t.read(file)
		if err != nil {
			return err
		}
		if f == nil {
			if loan, err = memory.Of(ctx, t.view.budget.memory).Overdraw(ctx); err != nil {
				return err
			}
			f = newFixer(ctx, t.view, t.o.paths())
			f.texts = map[string]string{}
			for was, h := range t.of {
				if err := t.become(h, 0); err != nil {
					return err
				}
				f.texts[was] = h.now[slices.Index(h.was, was)]
			}
		}
		edits, err := f.safely(source{data: data, name: path.Base(file)})
		b := hashedPage(file)
		switch {
		case len(edits) == 0 && (err == nil || errors.Is(err, errLarge)): // one that is too large counts as empty, as other pages do
			return nil
		case len(t.fixups(file)) > 0:
			t.c.blocker(b)
			return nil
		}
		if err := f.file(t.name(file), pending{file: file, format: "hash in a page", blockers: []Blocker{b}, count: 1}, t.c); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil
	})
}

// hashedPage says that a compressed page has a hash that cannot be made anew.
func hashedPage(file string) Blocker {
	return hashBlocker(file, "the hash of a file that was rewritten")
}
