package relocate

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// text rewrites what stands in plain sight: references, in UTF-16 and UTF-32 too.
func (f *fixer) text(s source, format format) ([]edit, error) {
	t := &textEdits{f: f, source: s, pools: format.pools}
	f.scan.scan(s.data, 0, len(s.data), t)
	if format.code {
		f.split.begin(s.data[:min(len(s.data), headLen)])
		f.split.search(s.data, 0, len(s.data), 0, t)
	}
	t.regexps()
	t.hashes(f.texts)
	t.scripts()
	if f.seen != nil {
		f.seen(s.data)
	}
	if f.sums != nil && s.depth == 1 {
		sums, err := f.sums(s.data)
		if err != nil {
			return nil, err
		}
		t.edits = append(t.edits, sums...)
	}
	return t.edits, f.counted(t)
}

// hashes puts some hashes in the place of others.
func (t *textEdits) hashes(texts map[string]string) {
	if len(texts) == 0 || t.err != nil {
		return
	}
	if t.err = sortEdits(t.edits); t.err != nil {
		return
	}
	known := t.edits
	for h := range hashesIn(t.data) {
		now, ok := texts[h.text]
		_, edited := slices.BinarySearchFunc(known, h.at, func(e edit, at int) int { return cmp.Compare(e.from, at) })
		if !ok || edited || len(t.edits) > maxEdits {
			continue
		}
		if e, ok := h.spelled(t.data, now); ok {
			t.edits = append(t.edits, e)
		} else {
			t.err = errSpelled
		}
	}
}

// scripts puts right the hashes that a page has of scripts in it (its policy), which may have hashes of others.
func (t *textEdits) scripts() {
	hasHash := false
	for range hashesIn(t.data) {
		hasHash = true
		break
	}
	if !hasHash || len(t.edits) == 0 || !hasScripts(t.name) {
		return
	}
	before := t.edits
	var texts map[string]string
	for range maxChained {
		if t.err = cmp.Or(t.err, sortEdits(t.edits)); t.err != nil {
			return
		}
		next := changedIn(t.data, t.edits)
		if maps.Equal(texts, next) {
			return
		}
		texts, t.edits = next, slices.Clone(before)
		t.hashes(texts)
	}
	t.err = blockedBy(Checksummed, "the hash of a script that has the hash of another, and so on")
}

// changedIn are the hashes of the scripts in a page that edits change, and what they become.
func changedIn(page []byte, edits []edit) map[string]string {
	texts := map[string]string{}
	for from, to := range scriptsIn(page) {
		for len(edits) > 0 && edits[0].from < from {
			edits = edits[1:]
		}
		n := 0
		for n < len(edits) && edits[n].to <= to {
			n++
		}
		if n == 0 {
			continue
		}
		now := scriptHashes(apply(page[from:to], moved(slices.Clone(edits[:n]), -from)))
		for i, was := range scriptHashes(page[from:to]) {
			texts[was] = now[i]
		}
		edits = edits[n:]
	}
	return texts
}

// references rewrites what stands in plain sight, and gives the places of hashes that stand alone.
func (f *fixer) references(s source) (edits []edit, loose []int, err error) {
	t := &textEdits{f: f, source: s, loose: &loose}
	f.scan.scan(s.data, 0, len(s.data), t)
	return t.edits, loose, f.counted(t)
}

// counted gives the error of what was found, too much among it.
func (f *fixer) counted(t *textEdits) error {
	if f.edits += len(t.edits); len(t.edits) > maxEdits || f.edits > maxFileEdits {
		return blockedBy(Compressed, "it names store paths in more than %d places", min(len(t.edits)-1, maxFileEdits))
	}
	return t.err
}

// textEdits is the finder of a fixer.
type textEdits struct {
	f *fixer
	source
	pools bool // as a format's
	edits []edit
	err   error
	// loose, if it is there, takes the places of hashes that stand alone; else those are an error.
	loose *[]int
}

// alone takes a hash at i that stands alone.
func (t *textEdits) alone(i, member int, how string) {
	if t.loose != nil && len(*t.loose) < maxEdits {
		*t.loose = append(*t.loose, i)
		return
	}
	t.blocked(member, how)
}

func (t *textEdits) blocked(member int, how string) {
	if t.err == nil {
		t.err = blockedBy(Compressed, "the hash of %s %s", t.f.known.paths[member], how)
	}
}

func (t *textEdits) reference(i, member int) {
	if isRelative(t.data, i-behind, t.pools) {
		if t.pools {
			t.blocked(member, "in a relative path")
		}
		return
	}
	if len(t.edits) <= maxEdits {
		t.edits = append(t.edits, edit{i - behind, i + hashLen, t.f.targets[member], true})
	}
}

func (t *textEdits) foreign(i int) { t.f.foreign(t.data[i : i+hashLen]) }

func (t *textEdits) splitPart(member int) { t.blocked(member, "split") }

func (t *textEdits) relocatedName(int) {}

func (t *textEdits) bareHash(i, member int) {
	if isMention(t.data, i) {
		return
	}
	var data []byte
	from, slash := escapedReference(t.name, t.data, i)
	if slash != "" {
		data = escaped(string(t.f.targets[member]), slash)
	}
	if data == nil {
		t.alone(i, member, "without /nix/store")
		return
	}
	if len(t.edits) <= maxEdits {
		t.edits = append(t.edits, edit{from: from, to: i + hashLen, data: data})
	}
}

func (t *textEdits) wideHash(i, width int, member int) {
	from, ok := wideReference(t.data, i, width)
	if !ok {
		t.alone(i, member, fmt.Sprintf("in UTF-%d, without /nix/store", 8*width))
		return
	}
	if len(t.edits) <= maxEdits {
		t.edits = append(t.edits, edit{from: from, to: i + (hashLen-1)*width + 1,
			data: widen(string(t.f.targets[member]), width)})
	}
}

// isRelative reports whether the reference at buf[at:] goes on from "..", as the paths in source maps do: it does not
// lead to /nix/store by itself, and where it leads depends on the place of what names it. Where texts stand one behind the other,
// "../.." may be another. A path that began with it would lead to /nix/store only where it leads to the root, and from there it
// leads to the view as well; behind anything else it is a part of what began before ("$ORIGIN/../..").
func isRelative(buf []byte, at int, pools bool) bool {
	if at < 2 || buf[at-1] != '.' || buf[at-2] != '.' || at > 2 && isNameChar(buf[at-3]) {
		return false
	}
	from := at
	for from > 0 && at-from < maxDots && (buf[from-1] == '.' || buf[from-1] == '/') {
		from--
	}
	return !pools || at-from == maxDots || buf[from] != '.'
}

// maxDots is how far before a reference a text of dots and slashes begins, at most.
const maxDots = 64

// wideReference gives the place of the wide reference whose hash stands at buf[i:] in characters of width bytes.
func wideReference(buf []byte, i, width int) (from int, ok bool) {
	from = i - behind*width
	if from < 0 {
		return 0, false
	}
	for c := range behind {
		at := from + c*width
		if buf[at] != storePrefix[c] || len(bytes.Trim(buf[at+1:at+width], "\x00")) > 0 {
			return 0, false
		}
	}
	return from, true
}

// widen puts zeros between the characters of text.
func widen(text string, width int) []byte {
	wide := make([]byte, (len(text)-1)*width+1)
	for i := range len(text) {
		wide[i*width] = text[i]
	}
	return wide
}
