package relocate

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
)

// A page may have the hash of a script or a style sheet, and a browser then takes nothing else (W3C, "Subresource
// Integrity"). So may a script, of others, and a list of files, of which a server makes its pages. Where such a file was
// rewritten, its hashes in the files of the same path are made anew, and then the hashes of those.

// isAsset reports whether a browser may load the file of that name by its hash.
func isAsset(name string) bool {
	switch path.Ext(name) {
	case ".css", ".dll", ".js", ".mjs", ".wasm": // .NET loads its own so, and Rust's Trunk names its module in a page
		return true
	}
	return false
}

// isPage reports whether the file of that name may have hashes of what a browser loads.
func isPage(name string) bool {
	switch path.Ext(name) {
	case ".ejs", ".erb", ".htm", ".html", ".js", ".json", ".mjs", ".php", ".tmpl", ".xhtml":
		return true
	}
	return false
}

// hasScripts reports whether the file of that name may have scripts and style sheets in it, whose hashes the policy of a page
// may have (W3C, "Content Security Policy").
func hasScripts(name string) bool {
	switch path.Ext(name) {
	case ".ejs", ".erb", ".htm", ".html", ".php", ".tmpl", ".xhtml":
		return true
	}
	return false
}

// scriptText is a script or a style sheet in a page.
var scriptText = regexp.MustCompile(`(?is)<(?:script|style)\b[^>]*>(.*?)</(?:script|style)\s*>`)

// isPackedPage reports whether the file of that name may be one that a server sends to those who can unpack it.
func isPackedPage(name string) bool {
	switch path.Ext(name) {
	case ".br", ".gz", ".zst":
		return isPage(stem(name))
	}
	return false
}

// integrityText is a hash in base-64: "sha384-…" in a page or a script, "sha512": "…" in a list.
var integrityText = regexp.MustCompile(`sha(?:256|384|512)(?:-|": ?")([A-Za-z0-9+/]{43,86})`)

// hashTexts are the hashes of data as pages have them, but for the padding.
func hashTexts(data []byte) (texts []string) {
	sha256, sha384, sha512 := sha256.Sum256(data), sha512.Sum384(data), sha512.Sum512(data)
	for _, sum := range [][]byte{sha256[:], sha384[:], sha512[:]} {
		texts = append(texts, base64.RawStdEncoding.EncodeToString(sum))
	}
	return texts
}

// hashed is a file that has hashes of others, or whose hashes others may have.
type hashed struct {
	file     string
	hashes   []hashText // of others, in an inspection
	was, now []string   // its own, where it changes
}

// hashText is a hash and where it stands.
type hashText struct {
	at   int
	text string
}

// hashesIn are those that a page has.
func hashesIn(data []byte) (hashes []hashText) {
	for _, at := range integrityText.FindAllSubmatchIndex(data, maxEdits) {
		hashes = append(hashes, hashText{at[2], string(data[at[2]:at[3]])})
	}
	return hashes
}

// changedScripts are the scripts and style sheets in a page that are others now, as many as are wanted.
func changedScripts(file string, was, now []byte, most int) (changed []*hashed) {
	if !hasScripts(file) || len(was) != len(now) {
		return nil
	}
	for _, at := range scriptText.FindAllSubmatchIndex(was, maxEdits) {
		if from, to := at[2], at[3]; len(changed) < most && !bytes.Equal(was[from:to], now[from:to]) {
			changed = append(changed, &hashed{file: file, was: hashTexts(was[from:to]), now: hashTexts(now[from:to])})
		}
	}
	return changed
}

// maxChained is how often the pages of a path are gone through, where pages have the hashes of pages. Within one time a page
// is only found after those whose hashes it has.
const maxChained = 16

// integrity makes hashes anew in a tree.
type integrity struct {
	view View
	dir  string
	o    Original
	c    *collector
	of   map[string]*hashed // files that change, by their hashes before
	// scripts is how many of these are scripts in pages.
	scripts int
	// fixed are the fixups so far, by file.
	fixed map[string][]Fixup
	// maybe are files that may have changed, and hashed the hashes of those that were looked at, before and now.
	maybe  map[string]bool
	hashed map[changedSum][2]string
}

func newIntegrity(v View, dir string, o Original, c *collector) *integrity {
	t := &integrity{view: v, dir: dir, o: o, c: c, of: map[string]*hashed{}, fixed: map[string][]Fixup{}}
	for _, f := range c.report.Fixups {
		t.fixed[f.File] = append(t.fixed[f.File], f)
	}
	return t
}

// addFixups adds some to the report.
func (t *integrity) addFixups(list ...Fixup) {
	t.c.report.Fixups = append(t.c.report.Fixups, list...)
	for _, f := range list {
		t.fixed[f.File] = append(t.fixed[f.File], f)
	}
}

// fixIntegrity makes the hashes of assets anew, which were rewritten.
func (v View) fixIntegrity(ctx context.Context, dir string, o Original, assets []string, c *collector) error {
	if len(assets) == 0 {
		return nil
	}
	t := newIntegrity(v, dir, o, c)
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
			data, err := t.read(t.name(file))
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

// read reads a file; one that is too large counts as empty.
func (t *integrity) read(name string) ([]byte, error) {
	if info, err := os.Lstat(name); err != nil || info.Size() > maxSource {
		return nil, err
	}
	return os.ReadFile(name)
}

// name is where a file of the tree lies.
func (t *integrity) name(file string) string { return filepath.Join(t.dir, filepath.FromSlash(file)) }

// fixups are those that a file has already.
func (t *integrity) fixups(file string) []Fixup { return t.fixed[file] }

// changes notes that a file is not what it was, and the hashes that it had.
func (t *integrity) changes(h *hashed) error {
	now, err := t.read(t.name(h.file))
	if err != nil {
		return err
	}
	was, err := t.view.before(t.o, t.fixups(h.file), h.file, now)
	if err != nil {
		return err
	}
	h.was = hashTexts(was)
	t.know(h)
	scripts := changedScripts(h.file, was, now, maxNames-t.scripts+1)
	if t.scripts += len(scripts); t.scripts > maxNames {
		t.scripts, scripts = maxNames, nil
		t.c.blocker(Blocker{File: h.file, Offset: -1, Kind: Checksummed, Detail: "the hash of one of too many scripts in pages"})
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
	data, err := t.read(t.name(h.file))
	if err != nil {
		return err
	}
	if first := t.others(h, data); len(first) > 0 {
		switch {
		case depth == maxChained:
			t.c.blocker(chainedPage(h.file))
			return nil
		case t.isSealed(h.file, data):
			t.c.blocker(Blocker{File: h.file, Offset: -1, Kind: Checksummed, Detail: "the hash of a file that was rewritten, in what is no text"})
			return nil
		}
		data = nil // or there would be one of each page in a row
		for _, other := range first {
			if err := t.become(other, depth+1); err != nil {
				return err
			}
		}
		if data, err = t.read(t.name(h.file)); err != nil {
			return err
		}
	}
	var edits []edit
	var list []Fixup
	size := int64(0)
	for _, known := range hashesIn(data) {
		other := t.of[known.text]
		if other == nil || !isPage(h.file) {
			continue
		}
		now := []byte(other.now[slices.Index(other.was, known.text)])
		edits = append(edits, edit{from: known.at, to: known.at + len(now), data: now})
		f := Fixup{File: h.file, Offset: int64(known.at), Length: int64(len(now)), Was: []byte(known.text)}
		list, size = append(list, f), size+f.size()
	}
	if len(edits) > 0 {
		before, err := os.Lstat(t.name(h.file))
		if err != nil {
			return err
		}
		if !t.c.record(size, t.view.budget) {
			t.c.blocker(Blocker{File: h.file, Offset: -1, Kind: Checksummed, Detail: "the hash of a file that was rewritten: " + errRecord.Error()})
			return nil
		}
		if err := writeAt(t.name(h.file), before, edits); err != nil {
			return err
		}
		t.addFixups(list...)
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
func (t *integrity) isSealed(file string, data []byte) bool {
	x := inspector{magics: magics()}
	f := x.recognise(path.Base(file), data[:min(len(data), wanted(data))])
	return f.fix != nil || f.kind != "" || f.opaque || isPHAR(data) || endsWithZip(data)
}

// chainedPage says that there are too many pages in a row.
func chainedPage(file string) Blocker {
	return Blocker{File: file, Offset: -1, Kind: Checksummed, Detail: "the hash of a page that has the hash of another, and so on"}
}

// fixPacked does the same to compressed pages. One that was compressed anew has a record of what it was already.
func (t *integrity) fixPacked(ctx context.Context) error {
	var loan *memory.Loan
	defer func() { loan.Return() }()
	var f *fixer
	return t.pages(ctx, func(file string, packed bool) (err error) {
		if !packed {
			return nil
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
		b := hashedPage(file)
		if len(t.fixups(file)) == 0 {
			if err := f.file(t.name(file), pending{file: file, format: "hash in a page", blockers: []Blocker{b}, count: 1}, t.c); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			return nil
		}
		data, err := t.read(t.name(file))
		if err != nil {
			return err
		}
		if edits, err := f.safely(source{data: data, name: path.Base(file)}); err != nil || len(edits) > 0 {
			t.c.blocker(b)
		}
		return nil
	})
}

// hashedPage says that a compressed page has a hash that cannot be made anew.
func hashedPage(file string) Blocker {
	return Blocker{File: file, Offset: -1, Kind: Checksummed, Detail: "the hash of a file that was rewritten"}
}

// inspectedPages are the pages of a path, as an inspection sees them: of which compressed ones fixPacked would say that they have
// a hash of what was rewritten.
type inspectedPages struct {
	pages  []*hashed
	packed []*hashed // which are compressed anew
	hashes int       // in all of them
}

// add keeps the hashes in a page, as long as those of all pages are not too many.
func (i *inspectedPages) add(file string, data []byte) *hashed {
	p := &hashed{file: file}
	if i.hashes < maxFileEdits {
		p.hashes = hashesIn(data)
		i.hashes += len(p.hashes)
	}
	return p
}

// note notes a page, or what it loads, before and after it is rewritten.
func (i *inspectedPages) note(file string, was, now []byte) {
	p := i.add(file, now)
	if changed := !bytes.Equal(was, now); len(i.pages) < maxNames && (changed || len(p.hashes) > 0) {
		p.was = hashTexts(was)
		if changed {
			p.now = p.was // as it is another already
		}
		i.pages = append(append(i.pages, p), changedScripts(file, was, now, maxNames)...)
	}
}

// spoilt are the compressed pages that have such a hash.
func (i *inspectedPages) spoilt() (files []string) {
	known := map[string]bool{}
	has := func(p *hashed) bool {
		return slices.ContainsFunc(p.hashes, func(h hashText) bool { return known[h.text] })
	}
	for times, again := 0, true; times <= maxChained && again && len(i.packed) > 0; times++ {
		again = false
		for n, p := range i.pages {
			if p != nil && (p.now != nil || has(p)) {
				again, i.pages[n] = true, nil
				for _, text := range p.was {
					known[text] = true
				}
			}
		}
	}
	for _, p := range i.packed {
		if has(p) {
			files = append(files, p.file)
		}
	}
	return files
}
