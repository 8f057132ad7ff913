package relocate

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// chezMark begins Chez Scheme code, which Racket's has in it (ChezScheme c/fasl.c, "fasl representation").
const chezMark = "\x00\x00\x00\x00chez"

// chez rewrites Chez Scheme code. Some of its objects are LZ4, in which text may be copied from what stands before it: whatever
// has no copy stands in sight. A reference there is rewritten where it stands, and a hash whose "/nix/store/" is a copy of
// another's; what is unpacked then has to be what was unpacked before, rewritten.
func (f *fixer) chez(s source) ([]edit, error) {
	edits, loose, err := f.references(s)
	if err != nil {
		return nil, err
	}
	for _, at := range loose {
		member := f.known.find(s.data[at : at+hashLen])
		if member < 0 {
			return nil, blockedBy(BareHash, "a hash in wide characters")
		}
		edits = append(edits, edit{from: at, to: at + hashLen, data: f.targets[member][behind:]})
	}
	if err := sortEdits(edits); err != nil {
		return nil, err
	}
	if err := copied(s, Compressed); err != nil && len(edits) > 0 {
		return nil, err
	}
	beside, err := f.chezObjects(s, edits)
	if err == nil && len(beside) > 0 {
		return nil, blockedBy(Compressed, "a hash beside objects of Chez Scheme")
	}
	return edits, err
}

// chezObjects checks the objects in data that edits change, and gives the edits that are in none.
func (f *fixer) chezObjects(s source, edits []edit) (beside []edit, err error) {
	if s.depth > maxDepth {
		return nil, errDepth
	}
	data, now := s.data, s.data
	if len(edits) > 0 {
		now = apply(data, edits)
	}
	for at := 0; ; {
		n := bytes.Index(data[at:], []byte(chezMark))
		if n < 0 {
			return append(beside, edits...), nil
		}
		at += n
		from, size, ok := chezObject(data, at+chezHead(data[at:]))
		if !ok {
			return nil, blockedBy(Compressed, "Chez Scheme code of a form that is not known")
		}
		for ; ok; from, size, ok = chezObject(data, at) {
			at = from + size
			first, last := placeOf(edits, from), placeOf(edits, at)
			own := edits[first:last]
			beside, edits = append(beside, edits[:first]...), edits[last:]
			if len(own) == 0 {
				continue
			}
			if own[len(own)-1].to > at {
				return nil, errMalformed
			}
			if err := f.chezObject(s.in(data[from:at], ""), now[from:at], moved(slices.Clone(own), -from)); err != nil {
				return nil, err
			}
		}
	}
}

// chezObject checks an object that edits change to now.
func (f *fixer) chezObject(s source, now []byte, edits []edit) error {
	data := s.data
	const plain, packed, fasl = 44, 46, 100
	isHash := func(e edit) bool { return e.to-e.from == hashLen }
	switch {
	case len(data) < 2 || data[1] != fasl:
	case data[0] == plain:
		beside, err := f.chezObjects(s, edits)
		if err == nil && slices.ContainsFunc(beside, isHash) {
			return blockedBy(BareHash, "a hash without /nix/store in an object of Chez Scheme")
		}
		return err
	case data[0] == packed:
		size, n := chezNumber(data[2:])
		if n == 0 || 2*size > maxUnpacked-s.unpacked { // it is held as it was and as it is
			break
		}
		if !f.budget.inflated(2 * int64(size)) {
			return errBudget
		}
		was, ok := unpackLZ4(data[2+n:], size)
		if !ok {
			return errMalformed
		}
		edits, err := f.text(source{data: was}, format{})
		if err == nil {
			err = sortEdits(edits)
		}
		if err != nil {
			return err
		}
		if got, ok := unpackLZ4(now[2+n:], size); !ok || !sameButShortened(got, apply(was, edits)) {
			return blockedBy(Compressed, "a reference in LZ4 that other text is copied from")
		}
		in := s
		in.data, in.unpacked = was, s.unpacked+2*size
		_, err = f.chezObjects(in, edits)
		return err
	}
	return blockedBy(Compressed, "a reference in an object of Chez Scheme of a form that is not known")
}

// sameButShortened reports whether got is what is wanted, but for hashes in paths that were shortened to be read. They are copied
// from whole paths, and may well be the ends of what these are now.
func sameButShortened(got, want []byte) bool {
	for at := 0; len(got) == len(want); {
		for at < len(want) && got[at] == want[at] {
			at++
		}
		if at == len(want) {
			return true
		}
		first, end := at, at
		for first > 0 && isBase32[want[first-1]] {
			first--
		}
		for end < len(want) && isBase32[want[end]] {
			end++
		}
		if end == at || end-first > hashLen || !isShortened(want, first) {
			return false
		}
		at = end
	}
	return false
}

// placeOf is how many of the edits, which are sorted, begin before at.
func placeOf(edits []edit, at int) int {
	n, _ := slices.BinarySearchFunc(edits, at, func(e edit, at int) int { return e.from - at })
	return n
}

// chezHead is how long the header is that data begins with: a version, a machine and names of boot files; or 0.
func chezHead(data []byte) int {
	at := len(chezMark)
	for range 2 {
		_, n := chezNumber(data[at:])
		at += n
	}
	end := bytes.IndexByte(data[at:], ')')
	if end < 0 || data[at] != '(' {
		return 0
	}
	return at + end + 1
}

// chezObject gives the object at data[at:], behind when it is loaded and its size.
func chezObject(data []byte, at int) (from, size int, ok bool) {
	const visit, always = 35, 37
	if at >= len(data) || data[at] < visit || data[at] > always {
		return 0, 0, false
	}
	size, n := chezNumber(data[at+1:])
	from = at + 1 + n
	return from, size, n > 0 && size <= len(data)-from
}

// chezNumber reads a number, seven bits to a byte, and says how many bytes it has; 0 where there is none of use.
func chezNumber(data []byte) (number, n int) {
	for n < min(len(data), 5) {
		c := data[n]
		number, n = number<<7|int(c&0x7f), n+1
		if c < 0x80 {
			return number, n
		}
	}
	return 0, 0
}

// unpackLZ4 unpacks a block of LZ4 that comes to size bytes (lz4_Block_format.md).
func unpackLZ4(data []byte, size int) ([]byte, bool) {
	const most, shortest = 255, 4 // a byte gives up to so many
	if size > most*len(data) {
		return nil, false
	}
	length := func(n int) int {
		for more := n == 15; more && len(data) > 0; {
			n, more, data = n+int(data[0]), data[0] == 255, data[1:]
		}
		return n
	}
	out := make([]byte, 0, size)
	for len(data) > 0 {
		token := data[0]
		data = data[1:]
		n := length(int(token >> 4))
		if n > len(data) || n > size-len(out) {
			return nil, false
		}
		out, data = append(out, data[:n]...), data[n:]
		if len(data) < 2 {
			return out, len(data) == 0 && len(out) == size
		}
		back := int(binary.LittleEndian.Uint16(data))
		data = data[2:]
		n = length(int(token&15)) + shortest
		if back == 0 || back > len(out) || n > size-len(out) {
			return nil, false
		}
		for ; n > 0; n-- {
			out = append(out, out[len(out)-back])
		}
	}
	return out, false
}
