package relocate

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
)

// trailingZip rewrites an archive behind something else, a program for instance, and what is before it.
func (f *fixer) trailingZip(s source, format format) ([]edit, error) {
	edits, err := f.zip(s)
	switch {
	case !errors.Is(err, errMalformed):
	case bytes.Contains(s.data, []byte(zipMark)):
		return nil, blockedBy(Opaque, "a zip archive behind something else that cannot be read")
	case format.name == elfName:
		return f.elf(s, format)
	default: // it has no members, as the last part of a larger archive
		return f.text(s, format)
	}
	if err != nil {
		return nil, err
	}
	z, err := readZip(s.data)
	if err != nil {
		return nil, err
	}
	if z.behind(s.data) > 0 && !sameLength(edits) {
		return nil, blockedBy(Compressed, "a reference in a zip archive that something is behind, which may know its place")
	}
	if format.name != elfName {
		return edits, nil
	}
	start := z.start()
	before, err := f.elf(source{data: s.data[:start], name: s.name, depth: s.depth}, format)
	if err != nil {
		return nil, err
	}
	for _, e := range edits {
		if e.from >= start {
			before = append(before, e)
		}
	}
	return before, sortEdits(before)
}

// zipsIn gives the places of archives in data, from and to, as programs have them among what was compiled into them.
func zipsIn(data []byte) (found [][2]int) {
	read, last := 0, 0
	for at := 0; len(found) < maxEdits; at++ {
		n := indexZipEnd(data[at:])
		if at += n; n < 0 || len(data)-at < zipEndLen {
			break
		}
		size, end := int(binary.LittleEndian.Uint32(data[at+12:])), at+zipEndLen+int(binary.LittleEndian.Uint16(data[at+20:]))
		if !isZipEnd(data, at, int64(len(data)-at)) || size > at-last {
			continue
		}
		if read += size + end - at; read > len(data) { // directories and comments that lie over each other
			break
		}
		if z, err := readZip(data[last:end]); err == nil {
			found, last = append(found, [2]int{last + z.start(), end}), end
		}
	}
	return found
}

// zipsInside makes edits of what has archives in it those of the archives, where they change one: as many bytes as before.
func (f *fixer) zipsInside(s source, edits []edit, err error) ([]edit, error) {
	if err := cmp.Or(err, sortEdits(edits)); err != nil || len(edits) == 0 {
		return nil, err
	}
	for _, archive := range zipsIn(s.data) {
		first, last := placeOf(edits, archive[0]), placeOf(edits, archive[1])
		if first == last {
			continue
		}
		inner, err := f.zip(s.in(s.data[archive[0]:archive[1]], s.name))
		switch {
		case errors.Is(err, errMalformed):
			return nil, blockedBy(Opaque, "a zip archive in something else that cannot be read")
		case err != nil:
			return nil, err
		case !sameLength(inner):
			return nil, blockedBy(Compressed, "a reference in a zip archive that something is behind, which may know its place")
		}
		edits = slices.Replace(edits, first, last, moved(inner, archive[0])...)
	}
	return edits, nil
}

// takeBackZip takes back in data, the contents of a file of that name, what a Rewriter has rewritten in the members of archives
// that stand in or behind something else, which it had not come to the directories of: of what a member holds there may be a
// checksum in it, or it may be looked up by what it is. takeBackZip gives how many references that were.
func (f *fixer) takeBackZip(name string, data []byte) (n int) {
	switch {
	case !f.inspector.recognise(name, data[:min(len(data), wanted(data))]).trailer:
		return 0
	case endsWithZip(data):
		return f.takeBackMembers(data)
	}
	for _, archive := range zipsIn(data) {
		n += f.takeBackMembers(data[archive[0]:archive[1]])
	}
	return n
}

// takeBackMembers does so in the archive that ends data.
func (f *fixer) takeBackMembers(data []byte) (n int) {
	z, err := readZip(data)
	if err != nil {
		return 0
	}
	for _, r := range z.records {
		at := z.base + r.local
		begin, end, err := zipContents(data, at, r)
		if z.headers += begin - at; err != nil || z.headers > len(data) { // as zipEntry has it
			break
		}
		f.relocated(data[at:end], func(i int, was []byte) {
			copy(data[at+i:], was)
			n++
		})
	}
	return n
}
