package relocate

import (
	"path"
)

// rewrite writes the hashes that a page has of others. Those in a script are written with its page, which has it for itself.
func (t *integrity) rewrite(h *hashed) error {
	data, done, err := t.contents(h)
	if err != nil {
		return err
	}
	defer done()
	var edits []edit
	if h.packed == nil && isPage(h.file) {
		if edits, err = t.pageEdits(data); err != nil && h.to == 0 {
			t.c.blocker(hashBlocker(h.file, err.Error()))
		}
	}
	switch {
	case h.to > 0:
		h.now = scriptHashes(apply(data, edits))
		return nil
	case len(edits) == 0:
		h.now = h.sums(data)
		return nil
	case isSealed(h.file, data):
		t.c.blocker(hashBlocker(h.file, "the hash of a file that was rewritten, in what is no text"))
		return nil
	}
	now := h.sums(data, edits...)
	if ok, err := t.change(h.file, edits, fixups(h.file, data, edits)); !ok {
		return err
	}
	h.now = now
	return nil
}

// pageEdits are the edits of a page that has hashes of what changes.
func (t *integrity) pageEdits(page []byte) (edits []edit, failed error) {
	for known := range hashesIn(page) {
		other := t.of[known.text]
		if other == nil || other.now == nil || other.becomes(known.text) == known.text {
			continue
		}
		e, ok := known.spelled(page, other.becomes(known.text))
		if !ok {
			failed = errSpelled
			continue
		}
		if edits = append(edits, e); len(edits) > maxEdits {
			break // more than can be recorded
		}
	}
	return edits, failed
}

// errSpelled says that a hash is spelled in a way in which another cannot be, in as many bytes.
var errSpelled = blockedBy(Checksummed, "the hash of a file that was rewritten, spelled in a way that leaves no room for another")

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

// hashedPage says that a compressed page has a hash that cannot be made anew.
func hashedPage(file string) Blocker {
	return hashBlocker(file, "the hash of a file that was rewritten")
}
