// Package recompress compresses a text in which a few places were changed by the steps of the stream that held it before.
//
// Whoever changes a text inside a file often has to fit it into the bytes that it took, and few compressors do as well as
// the one that wrote it. So the text is not compressed anew: the literals and matches of the old stream are taken over
// one by one, and only what the changes make of them is another. A changed place is copied from an earlier one that has
// become the same.
//
// Streams may come from strangers: what is no stream of the text is ErrMalformed, and memory is a few times the text's.
package recompress

import "errors"

// ErrMalformed says that a stream breaks off, is not as its format has it, or is of another text.
var ErrMalformed = errors.New("it is no stream of this text")

// Edit is a changed place of a text, from byte From to before byte To.
type Edit struct{ From, To int }

// matcher finds what a text's next bytes can be copied from.
type matcher struct {
	data            []byte
	at              int
	window, longest int           // of a match
	before          map[int][]int // where edits begin, and how far back others do
}

// worthwhile is by how many bytes a copy of another edit has to be longer than what the step copies: its distance is
// not the step's, and takes more bits.
const worthwhile = 8

// newMatcher takes, for each edit, how far back the one before it begins, and the last one with the same text.
func newMatcher(data []byte, edits []Edit, window, longest int) matcher {
	before, last := map[int][]int{}, map[string]int{}
	for i, e := range edits {
		text := string(data[e.From:e.To])
		if i > 0 {
			before[e.From] = append(before[e.From], e.From-edits[i-1].From)
		}
		if at, ok := last[text]; ok {
			before[e.From] = append(before[e.From], e.From-at)
		}
		last[text] = e.From
	}
	return matcher{data: data, window: window, longest: longest, before: before}
}

// match gives what the next bytes are copied from: what the step says that ends at end, as far as that is still the
// same, or another edit.
func (m *matcher) match(distance, end int) (from, n int) {
	from, n = distance, m.same(distance, end-m.at)
	for _, other := range m.before[m.at] {
		if length := m.same(other, len(m.data)-m.at); length >= n+worthwhile {
			from, n = other, length
		}
	}
	return from, n
}

// same is how many of the next bytes, at most n, stand distance bytes before, too.
func (m *matcher) same(distance, n int) int {
	if distance <= 0 || distance > min(m.at, m.window) {
		return 0
	}
	n = min(n, m.longest)
	for i := range n {
		if m.data[m.at+i] != m.data[m.at+i-distance] {
			return i
		}
	}
	return n
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
