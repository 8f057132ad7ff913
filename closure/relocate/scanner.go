package relocate

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// finder is told what a scanner finds; i is the place in the buffer.
type finder interface {
	reference(i, member int)       // the hash of a member's "/nix/store/<hash>"
	foreign(i int)                 // the hash of "/nix/store/<hash>-", of no member
	bareHash(i, member int)        // a member's hash
	wideHash(i, width, member int) // a member's hash in characters of width bytes
	relocatedName(i int)           // "<view directory>/<hash characters>"
	piece(i, member int)           // a part of a member's reference, without the rest
}

// scanner finds references and what looks like them. It reads eight bytes at every stride'th place and so meets
// whatever is at least stride+7 bytes long, wherever it begins: a hash (32 characters of base-32), a hash in UTF-16
// or UTF-32 (at least 63 bytes), the view directory. All of these cost the same few instructions per stride.
type scanner struct {
	members *members
	name    []byte // "<view directory>/", nil where nothing is relocated
	keep    int    // hash characters behind it
	stride  int
	words   [wordSlots]uint64 // the eight-byte pieces of name; 0 is free
	factor  uint64
}

const (
	wordSlots = 256
	wordShift = 64 - 8
	// maxStride is the widest step that still meets every run of hashLen characters.
	maxStride = hashLen - 8
)

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

func newScanner(l Layout, m *members) *scanner {
	s := &scanner{members: m, stride: maxStride}
	if !l.IsZero() {
		s.name, s.keep = []byte(l.dir+"/"), l.keep
		s.stride = min(s.stride, len(s.name)-7)
	}
	// A factor that sends every piece to a slot of its own.
	for s.factor = golden; !s.place(); {
		s.factor = bits.RotateLeft64(s.factor, 7)*golden | 1
	}
	return s
}

func (s *scanner) place() bool {
	s.words = [wordSlots]uint64{}
	for i := range len(s.name) - 7 {
		piece := binary.LittleEndian.Uint64(s.name[i:])
		slot := &s.words[piece*s.factor>>wordShift]
		if *slot != 0 && *slot != piece {
			return false
		}
		*slot = piece
	}
	return true
}

// scan finds what begins at buf[from:to]: a hash or a name there, whatever comes before it. Everything of buf may be
// looked at.
func (s *scanner) scan(buf []byte, from, to int, found finder) {
	wideFrom := from
	stride := s.stride
	end := min(to+stride, len(buf)-7)
	for p := from + stride - 1; p < end; p += stride {
		w := binary.LittleEndian.Uint64(buf[p:])
		// Digits and lower-case letters, eight at once: a range is a pair of additions that carry into the high bits.
		digits := (w + 0x50*lowBits) &^ (w + 0x46*lowBits)
		letters := (w + 0x1f*lowBits) &^ (w + 0x05*lowBits)
		if (digits|letters)&^w&highBits == highBits {
			if next := s.run(buf, p, from, to, found); next > p {
				p = next - 1 // the loop adds a stride
				continue
			}
		} else if w&0xff00ff00ff00ff00 == 0 || w&0x00ff00ff00ff00ff == 0 {
			if w != 0 {
				wideFrom = s.wide(buf, p, wideFrom, to, found)
			}
			continue
		}
		if s.words[w*s.factor>>wordShift] == w {
			s.named(buf, p, from, to, found)
		}
	}
}

// isBase32 says which bytes are of Nix's base-32.
var isBase32 = func() (table [256]bool) {
	for _, c := range []byte("0123456789abcdfghijklmnpqrsvwxyz") {
		table[c] = true
	}
	return table
}()

// run looks at the run of base-32 characters around buf[p:p+8]. Every hashLen characters of it may be a hash.
// It gives the place after a run that is long enough for one, else 0.
func (s *scanner) run(buf []byte, p, from, to int, found finder) int {
	for i := p + 7; i >= p; i-- {
		if !isBase32[buf[i]] {
			return 0
		}
	}
	first, end := p, p+8
	for first > from && isBase32[buf[first-1]] {
		first--
	}
	for end < len(buf) && isBase32[buf[end]] {
		end++
	}
	if end-first < hashLen {
		return 0
	}
	for i := first; i <= end-hashLen && i < to; i++ {
		prefixed := i == first && i >= behind && string(buf[i-behind:i]) == storePrefix
		switch member := s.members.find(buf[i:]); {
		case member >= 0 && prefixed:
			found.reference(i, member)
		case member >= 0:
			found.bareHash(i, member)
		case prefixed && i+hashLen < len(buf) && buf[i+hashLen] == '-':
			found.foreign(i)
		}
	}
	return end
}

// wide looks at the run of base-32 characters with one or three zeros between them that buf[p:p+8] belongs to, and
// gives the first place that has not been looked at.
func (s *scanner) wide(buf []byte, p, from, to int, found finder) int {
	if p < from {
		return from
	}
	for i := p; i < p+8; i++ {
		if buf[i] != 0 && !isBase32[buf[i]] {
			return from
		}
	}
	for buf[p] == 0 {
		p++
	}
	width := 4
	if next := p + 2; next < len(buf) && buf[next] != 0 {
		width = 2
	}
	first, end := p, p
	for first-width >= from && isWide(buf, first-width, width) {
		first -= width
	}
	for isWide(buf, end, width) {
		end += width
	}
	// The last character's zeros may be missing, or be followed by something else.
	if end < len(buf) && isBase32[buf[end]] {
		end += width
	}
	var narrow [hashLen]byte
	for i := first; i+(hashLen-1)*width < end && i < to; i += width {
		for c := range narrow {
			narrow[c] = buf[i+c*width]
		}
		if member := s.members.find(narrow[:]); member >= 0 {
			found.wideHash(i, width, member)
		}
	}
	return max(from, min(end, to))
}

// isWide reports whether a base-32 character and its zeros stand at buf[i:].
func isWide(buf []byte, i, width int) bool {
	if i+width > len(buf) || !isBase32[buf[i]] {
		return false
	}
	for _, zero := range buf[i+1 : i+width] {
		if zero != 0 {
			return false
		}
	}
	return true
}

// named looks for the relocated names that buf[p:p+8] may be a piece of.
func (s *scanner) named(buf []byte, p, from, to int, found finder) {
	// Of the pieces of one name only the first that is looked at counts; it is among the first stride.
	for k := 0; k < s.stride && k+8 <= len(s.name); k++ {
		i := p - k
		if i < from || i >= to || i+len(s.name) > len(buf) {
			continue
		}
		if bytes.Equal(s.name, buf[i:i+len(s.name)]) && s.shortened(buf[i+len(s.name):]) {
			found.relocatedName(i)
		}
	}
}

// shortened reports whether b begins with as many base-32 characters as the layout keeps.
func (s *scanner) shortened(b []byte) bool {
	if len(b) < s.keep {
		return false
	}
	for _, c := range b[:s.keep] {
		if !isBase32[c] {
			return false
		}
	}
	return true
}
