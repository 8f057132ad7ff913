package relocate

import (
	"bytes"
	"cmp"
	"io"
	"slices"
	"sort"
)

// edit replaces the bytes from:to of a file by data.
type edit struct {
	from, to int
	data     []byte
	// plain says that Undo finds it by itself: a whole reference that stands in the file's own bytes.
	plain bool
}

// apply makes the edits, which are sorted and apart, to data.
func apply(data []byte, edits []edit) []byte {
	out := make([]byte, 0, len(data)+grown(edits))
	at := 0
	for _, e := range edits {
		out = append(append(out, data[at:e.from]...), e.data...)
		at = e.to
	}
	return append(out, data[at:]...)
}

// applyTo writes what apply makes to a hash: files and stored members are of any size, and a copy of one would be, too.
func applyTo(h io.Writer, data []byte, edits []edit) {
	at := 0
	for _, e := range edits {
		_, _ = h.Write(data[at:e.from])
		_, _ = h.Write(e.data)
		at = e.to
	}
	_, _ = h.Write(data[at:])
}

// grown is how many bytes longer the edits make a file.
func grown(edits []edit) (by int) {
	for _, e := range edits {
		by += len(e.data) - (e.to - e.from)
	}
	return by
}

// sortEdits puts edits in order, and refuses those that overlap.
func sortEdits(edits []edit) error {
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	for i := 1; i < len(edits); i++ {
		if edits[i].from < edits[i-1].to {
			return errMalformed
		}
	}
	return nil
}

// shifts gives a function for the place of something after the edits, which are sorted: those in front of it count.
func shifts(edits []edit) func(at int) int {
	by := make([]int, len(edits)+1)
	for i, e := range edits {
		by[i+1] = by[i] + len(e.data) - (e.to - e.from)
	}
	return func(at int) int {
		return at + by[sort.Search(len(edits), func(i int) bool { return edits[i].to > at })]
	}
}

// moved are the edits of a member that begins at off in what holds it, as edits of that.
func moved(edits []edit, off int) []edit {
	for i := range edits {
		edits[i].from += off
		edits[i].to += off
	}
	return edits
}

// sameLength reports whether the edits leave everything in its place.
func sameLength(edits []edit) bool {
	return !slices.ContainsFunc(edits, func(e edit) bool { return len(e.data) != e.to-e.from })
}

// fixups turns the edits of a file, sorted, into what Undo needs: plain ones need no record, and near ones share one.
func fixups(file string, data []byte, edits []edit) []Fixup {
	var list []Fixup
	shift, lastEnd := 0, -1
	for _, e := range edits {
		if !e.plain {
			if n := len(list); n > 0 && lastEnd >= 0 && e.from-lastEnd <= nearEdits {
				last, gap := &list[n-1], data[lastEnd:e.from]
				last.Was = append(append(last.Was, gap...), data[e.from:e.to]...)
				last.Length += int64(len(gap) + len(e.data))
			} else {
				list = append(list, Fixup{File: file, Offset: int64(e.from + shift), Length: int64(len(e.data)),
					Was: bytes.Clone(data[e.from:e.to])})
			}
			lastEnd = e.to
		} else {
			lastEnd = -1
		}
		shift += len(e.data) - (e.to - e.from)
	}
	return list
}
