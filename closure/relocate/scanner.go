package relocate

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// finder is told what a scanner finds; i is the place in the buffer.
type finder interface {
	reference(i, member int)       // the hash of a member's "/nix/store/<hash>"
	foreign(i int)                 // the hash of "/nix/store/<hash>-", of no member
	bareHash(i, member int)        // a member's hash
	wideHash(i, width, member int) // a member's hash in characters of width bytes
	relocatedName(i int)           // "<view directory>/<hash characters>"
	splitPart(member int)          // a part of a member's reference, without the rest
}

// scanner finds references and what looks like them.
type scanner struct {
	members *members
	name    []byte // "<view directory>/", nil where nothing is relocated
	rare    int    // where in it the character is that other text has least
	keep    int    // hash characters behind it
}

const (
	// stride is the widest step by which eight bytes at every place meet every run of hashLen characters.
	stride = hashLen - 8
	// blockSize is what is looked at by one vector instruction. Wherever blocks begin, a hash has two eights in a row
	// in one of them, and a hash in UTF-16 or UTF-32 fills one.
	blockSize = 32
)

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

func newScanner(v View, m *members) *scanner {
	s := &scanner{members: m}
	if !v.IsZero() {
		s.name, s.keep = []byte(v.dir+"/"), v.keep
		s.rare = rarest(v.dir)
	}
	return s
}

// rarest is where in a name the character is that text and programs have least of.
func rarest(name string) int {
	for _, c := range "qxzjkv_w" {
		if at := strings.IndexRune(name, c); at >= 0 {
			return at
		}
	}
	return 0
}

// scan finds what begins at buf[from:to]: a hash or a name there, whatever comes before it. Everything of buf may be
// looked at.
func (s *scanner) scan(buf []byte, from, to int, found finder) {
	s.names(buf, from, to, found)
	at, wideFrom := from, from
	if vectors {
		at, wideFrom = s.blocks(buf, from, to, found)
	}
	// The rest, and the part before it of a run that goes into it. No run that was found there goes so far.
	s.probes(buf, max(from, at-(hashLen-1)), wideFrom, to, found)
}

// blocks finds hashes in whole blocks, and gives where those end and up to where wide runs have been looked at.
func (s *scanner) blocks(buf []byte, from, to int, found finder) (at, wideFrom int) {
	at, wideFrom = from, from
	for {
		// The last block to look at begins less than a block behind the last place.
		n := min(to+2*blockSize-1-at, len(buf)-at) / blockSize
		if n <= 0 {
			return at, wideFrom
		}
		skipped := findBlock(&buf[at], n)
		at += skipped * blockSize
		if skipped == n {
			continue
		}
		end := 0
		for p := at; p <= at+blockSize-16 && end == 0; p += 8 {
			if isRun(binary.LittleEndian.Uint64(buf[p:])) && isRun(binary.LittleEndian.Uint64(buf[p+8:])) {
				end = s.run(buf, p, from, to, found)
			}
		}
		if end > 0 {
			at = end
			continue
		}
		odd, even := uint64(0), uint64(0)
		for p := at; p < at+blockSize; p += 8 {
			w := binary.LittleEndian.Uint64(buf[p:])
			even, odd = even|w&0x00ff00ff00ff00ff, odd|w&0xff00ff00ff00ff00
		}
		if even == 0 || odd == 0 {
			wideFrom = s.wide(buf, at, wideFrom, to, found)
		}
		at += blockSize
	}
}

// isRun reports whether eight bytes may all be of base-32: digits and lower-case letters.
func isRun(w uint64) bool {
	// Eight at once: a range is a pair of additions that carry into the high bits.
	digits := (w + 0x50*lowBits) &^ (w + 0x46*lowBits)
	letters := (w + 0x1f*lowBits) &^ (w + 0x05*lowBits)
	return (digits|letters)&^w&highBits == highBits
}

// probes finds hashes by eight bytes at every stride'th place, and so meets whatever is at least stride+7 bytes long,
// wherever it begins: a hash, 32 characters of base-32, and a hash in UTF-16 or UTF-32, at least 63 bytes.
func (s *scanner) probes(buf []byte, from, wideFrom, to int, found finder) {
	end := min(to+stride, len(buf)-7)
	for p := from + stride - 1; p < end; p += stride {
		w := binary.LittleEndian.Uint64(buf[p:])
		if isRun(w) {
			if next := s.run(buf, p, from, to, found); next > p {
				p = next - 1 // the loop adds a stride
			}
		} else if w != 0 && (w&0xff00ff00ff00ff00 == 0 || w&0x00ff00ff00ff00ff == 0) {
			wideFrom = s.wide(buf, p, wideFrom, to, found)
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

// names finds relocated names that begin at buf[from:to].
func (s *scanner) names(buf []byte, from, to int, found finder) {
	if len(s.name) == 0 {
		return
	}
	last := len(s.name) - 1
	to = min(to, len(buf)-last)
	for at := from; at < to; {
		i := at
		if n := (to - at) &^ (blockSize - 1); vectors && n > 0 {
			i += findName(&buf[at], n, &s.name[0], last/2, last)
			if i == at+n {
				at = i
				continue
			}
		} else if n := bytes.Index(buf[at+s.rare:to+last], s.name[s.rare:]); n >= 0 {
			i += n
		} else {
			return
		}
		if bytes.HasPrefix(buf[i:], s.name) && s.shortened(buf[i+len(s.name):]) {
			found.relocatedName(i)
		}
		at = i + 1
	}
}

// shortened reports whether b begins with as many base-32 characters as the view keeps.
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
