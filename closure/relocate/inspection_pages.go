package relocate

import (
	"bytes"
	"slices"
)

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
