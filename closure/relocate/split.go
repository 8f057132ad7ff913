package relocate

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
)

// A compiler that copies or compares a short constant cuts it into pieces: immediates of eight bytes in the code, or
// constants of 16 and 32 bytes, the last of which may overlap the one before. Such a reference is missed, or is seen
// as a whole and rewritten while the last piece still writes what stood there over its end. So whatever is a part of a
// reference has to stand in a whole one.

const (
	// partLen is the size of the parts that are looked for, and of the smallest pieces that are found.
	partLen = 8
	// gramLen is how much of a part is looked at first. Every gramLen'th place is: one of them is in each part.
	gramLen = partLen / 2
	// stepLen is how much is read at once.
	stepLen = 16
	// gramBits is the size of the table that this is looked up in.
	gramBits = 18
	// tailParts is where in "/nix/store/<hash>-<name>" the parts begin that tell the hash's end, and lastPart is where
	// the last of them does: at the hash's last character.
	tailParts = refLen - partLen
	lastPart  = refLen - 1
	// vague is how many characters of a hash stand before other names by chance: "bug-coreutils" has one of many hashes.
	vague = 2
	// blockLen is the size of the constants that linkers put in a row, as they were.
	blockLen = 16
	// nearLen is how far around an immediate the code is looked at for what takes the rest of its text from elsewhere.
	nearLen = 80
	// maxNear bounds the pieces of a file that may belong to a text elsewhere, and the places of such texts.
	maxNear = 1 << 10
)

// splitSearch looks for parts in one file after another.
type splitSearch struct {
	parts *parts
	seen  map[int]evidence // by member, of those with the same end of hash and name the first, in the file at hand
	// Of a program for x86-64, whose instructions say how far from them a text is:
	segments []segment
	near     int       // pieces and texts that are kept
	compare  []int     // the first of more texts of a member
	branches *branches // of one by Go, for 64-bit ARM, too
	// Of a program for 64-bit ARM, whose instructions take two bytes at a time:
	arm       bool
	registers [32]uint64
}

// evidence is what was seen of a member in a file.
type evidence struct {
	reported  bool
	whole     bool      // there is a whole reference
	endsEarly bool      // and one may be the first of several pieces
	vagueTail bool      // something may be the last of them
	vagueEnd  bool      // something in a register may be what is put over the end of a whole one
	texts     []uint64  // the addresses of whole ones, sorted
	more      []uint64  // those that were found since search began, which code is not compared with yet
	code      []snippet // around what may be the last of them
	copied    bool      // one of them takes one of those
}

// begin makes the search ready for a file that begins with head.
func (s *splitSearch) begin(head []byte) {
	clear(s.seen)
	s.compare = s.compare[:0]
	s.arm = isARM64(head)
	s.segments, s.near, s.branches = segmentsOf(head, machineAMD64), 0, newBranches(head)
	s.registers = [32]uint64{}
}

// search looks at the places buf[from:to], as a searchBuffer gives them; buf begins at off in the file. It looks lastPart
// bytes further on, to know what stands before.
func (s *splitSearch) search(buf []byte, from, to int, off int64, found finder) {
	if s.arm {
		s.immediates(buf, from, to, off, found)
	}
	if off > 0 || from > 0 {
		from += lastPart
	}
	to += lastPart
	if s.branches != nil {
		s.searchBranches(buf, from, to, off, found)
	}
	if len(s.parts.short) > 0 {
		s.shortTails(buf, from, to, off, found)
	}
	to = min(to, len(buf)-partLen+1)
	at := from
	for end := min(to+gramLen, len(buf)-stepLen+1); ; at += stepLen {
		if at = s.parts.next(buf, at, end); at >= end {
			break
		}
		for i := max(from, at-gramLen+1); i <= at+stepLen-gramLen && i < to; i++ {
			s.look(buf, i, off, found)
		}
	}
	for i := max(from, at-gramLen+1); i < to; i++ {
		s.look(buf, i, off, found)
	}
	s.compareTexts(found)
}

// compareTexts compares code with texts that were found behind it, all at once.
func (s *splitSearch) compareTexts(found finder) {
	for _, member := range s.compare {
		e := s.seen[member]
		slices.Sort(e.more)
		e.copied = e.copied || slices.ContainsFunc(e.code, func(c snippet) bool { return c.takes(e.more) })
		e.texts, e.more = append(e.texts, e.more...), nil
		slices.Sort(e.texts)
		s.note(member, e)
		if e.copied {
			s.tell(member, found)
		}
	}
	s.compare = s.compare[:0]
}

// searchBranches looks for switches of Go over references.
func (s *splitSearch) searchBranches(buf []byte, from, to int, off int64, found finder) {
	tell := func(members []int) {
		for _, member := range members {
			s.tell(member, found)
		}
	}
	if s.arm {
		for i := from + int(-(off+int64(from))&3); i < to && i+8 <= len(buf); i += 4 {
			tell(s.branches.arm64(buf, i, off))
		}
		return
	}
	for _, compare := range []byte{compareByte, compareAL} {
		for i := from; i < min(to, len(buf)); i++ {
			n := bytes.IndexByte(buf[i:min(to, len(buf))], compare)
			if n < 0 {
				break
			}
			i += n
			tell(s.branches.amd64(buf, i, off))
		}
	}
}

// shortTails looks for the last pieces of references with a short name.
func (s *splitSearch) shortTails(buf []byte, from, to int, off int64, found finder) {
	for i := from; i+1 < len(buf) && i < to; i++ {
		n := bytes.IndexByte(buf[i+1:min(to+1, len(buf))], '-')
		if n < 0 {
			return
		}
		i += n
		for _, member := range s.parts.ends(buf[i:]) {
			s.tail(buf, i, off, member, found)
		}
	}
}

// look reports what stands at buf[i:] if it is a part and stands in no whole reference.
func (s *splitSearch) look(buf []byte, i int, off int64, found finder) {
	slot := s.parts.find(binary.LittleEndian.Uint64(buf[i:]))
	if s.parts.keys[slot] == 0 {
		return
	}
	member, at := int(s.parts.parts[slot].member), int(s.parts.parts[slot].at)
	if at >= tailParts {
		s.tail(buf, i+lastPart-at, off, member, found)
		return
	}
	first := i - at + behind
	if at >= behind && isMention(buf, first) {
		return
	}
	if at == backwards || !s.whole(buf, first, member) && (at >= behind || !isWholeHash(buf, first)) {
		s.tell(member, found)
	}
}

// tail looks at the last character of a hash, at buf[last], and at what stands before it.
func (s *splitSearch) tail(buf []byte, last int, off int64, member int, found finder) {
	first := last + 1 - hashLen
	if s.whole(buf, first, member) {
		early := s.endsEarly(buf, last+1, off, member)
		s.weigh(member, found, func(e *evidence) {
			e.whole, e.endsEarly = true, e.endsEarly || early
			if at, _ := address(s.segments, off+int64(first-behind)); at > 0 && s.keepsNear() {
				if e.more = append(e.more, at); len(e.more) == 1 {
					s.compare = append(s.compare, s.parts.likeness(member))
				}
			}
		})
		if s.branches != nil && s.branches.text(off+int64(first-behind), member) {
			s.tell(member, found)
		}
		return
	}
	if isWholeHash(buf, first) || isMention(buf, first) {
		return
	}
	hash, n := s.parts.members.paths[member].HashPart(), 1
	for n < hashLen && n <= last && buf[last-n] == hash[hashLen-1-n] {
		n++
	}
	if n > vague {
		if !isMention(buf, last+1-n) {
			s.tell(member, found)
		}
		return
	}
	s.weigh(member, found, func(e *evidence) {
		for i := last + 1 - n; i <= last; i++ {
			e.vagueTail = e.vagueTail || startsPart(buf, i, off)
		}
		from := max(0, last-nearLen)
		if at, runs := address(s.segments, off+int64(from)); runs && s.keepsNear() {
			c := snippet{at, bytes.Clone(buf[from:min(len(buf), last+nearLen)])}
			e.code, e.copied = append(e.code, c), e.copied || c.takes(e.texts)
		}
	})
}

// keepsNear reports whether one more piece, or text, may be kept.
func (s *splitSearch) keepsNear() bool {
	s.near++
	return s.near <= maxNear
}

// whole reports whether the member's hash stands at buf[first:].
func (s *splitSearch) whole(buf []byte, first, member int) bool {
	return first >= 0 && first+hashLen <= len(buf) &&
		string(buf[first:first+hashLen]) == s.parts.members.paths[member].HashPart()
}

// isWholeHash reports whether a hash, and no more of its characters, stands at buf[first:].
func isWholeHash(buf []byte, first int) bool {
	end := first + hashLen
	return first >= 0 && end <= len(buf) && base32Run(string(buf[first:end])) == hashLen &&
		(first == 0 || !isBase32[buf[first-1]]) && (end == len(buf) || !isBase32[buf[end]])
}

// isMention reports whether the hash, or what is left of one, at buf[first:] is no reference, but of a text that was made of one:
// of a shortened path, or of a name, with what a name may not have turned into "_". Cython and linkers (ld --format=binary) call
// a constant by what is in it or was its file, webpack a part of an app by its modules.
func isMention(buf []byte, first int) bool {
	return first >= 0 && bytes.HasSuffix(buf[:first], []byte("nix_store_")) || isShortened(buf, first)
}

// isShortened reports whether the hash, or the end of one, at buf[first:] is of a path that was shortened to be read, as Racket
// has them in its messages: ".../<hash>-app/main.rkt", "[...ak44la-app/main.rkt:4:0".
func isShortened(buf []byte, first int) bool {
	return first >= 0 && bytes.HasSuffix(bytes.TrimSuffix(buf[:first], []byte("/")), []byte("..."))
}

// endsEarly reports whether the reference with the hash that ends at buf[end] may stand in constants that end before
// the text does: whether not all of its name follows, into the next of them.
func (s *splitSearch) endsEarly(buf []byte, end int, off int64, member int) bool {
	name := s.parts.members.paths[member][refLen:]
	rest, whole := bytes.CutPrefix(buf[end:], []byte(name))
	next := int(-(off + int64(end)) & (blockLen - 1))
	return !whole || len(name) <= next || len(rest) > 0 && isNameChar(rest[0])
}

// isNameChar reports whether c can stand in a store path's name.
func isNameChar(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("+-._?=", c) >= 0
}

// startsPart reports whether a piece can begin at buf[i:]: a constant is aligned, and before an immediate of eight
// bytes stands the x86 instruction that takes it, REX.W B8 to BF.
func startsPart(buf []byte, i int, off int64) bool {
	return (off+int64(i))%partLen == 0 || i >= 2 && buf[i-2]&^1 == 0x48 && buf[i-1]&^7 == 0xb8
}

// weigh adds evidence of a piece. A reference that may have another piece and text that may be one make a piece. What an
// instruction holds may be one also of a reference all of which stands elsewhere: Go, Rust and Clang copy that but for the
// end.
func (s *splitSearch) weigh(member int, found finder, add func(*evidence)) {
	member = s.parts.likeness(member)
	e := s.seen[member]
	add(&e)
	s.note(member, e)
	if e.endsEarly && e.vagueTail || e.whole && e.vagueEnd || e.copied {
		s.tell(member, found)
	}
}

// tell reports a piece, once per file and member.
func (s *splitSearch) tell(member int, found finder) {
	e := s.seen[member]
	if e.reported {
		return
	}
	e.reported = true
	s.note(member, e)
	found.splitPart(member)
}

func (s *splitSearch) note(member int, e evidence) {
	if s.seen == nil {
		s.seen = make(map[int]evidence)
	}
	s.seen[member] = e
}

// isARM64 reports whether head begins a little-endian ELF file for 64-bit ARM.
func isARM64(head []byte) bool {
	return len(head) >= 20 && string(head[:4]) == "\x7fELF" && head[5] == 1 && string(head[18:20]) == "\xb7\x00"
}

// immediates follows what the instructions in buf[from:to] make of registers, two bytes at a time (MOVZ, MOVK; Arm
// Architecture Reference Manual, "Move wide (immediate)"), or at once where the bytes repeat ("MOV (bitmask immediate)").
func (s *splitSearch) immediates(buf []byte, from, to int, off int64, found finder) {
	const wideMask, wide, keep, bitmaskMask, bitmask = 0x5f800000, 0x52800000, 1 << 29, 0xff8003e0, 0xb20003e0
	for i := from + int(-(off+int64(from))&3); i < to && i+4 <= len(buf); i += 4 {
		w := binary.LittleEndian.Uint32(buf[i:])
		register := &s.registers[w&31]
		switch {
		case w&wideMask == wide:
			at := w >> 21 & 3 * 16
			if w&keep == 0 {
				*register = 0
			}
			*register = *register&^(0xffff<<at) | uint64(w>>5&0xffff)<<at
		case w&bitmaskMask == bitmask:
			*register = repeated(w)
		default:
			continue
		}
		if *register>>16 != 0 { // eight bytes of text, of which the last may be NULs, or four
			s.register(*register, found)
		}
	}
}

// repeated is the operand of MOV (bitmask immediate): a run of ones, rotated, in each part of the register (Arm
// Architecture Reference Manual, DecodeBitMasks).
func repeated(instruction uint32) (value uint64) {
	n, turn, ones := instruction>>22&1, int(instruction>>16&63), instruction>>10&63
	size := 1 << max(0, bits.Len32(n<<6|^ones&63)-1)
	run := uint64(1)<<(int(ones)&(size-1)+1) - 1
	turn &= size - 1
	run = (run>>turn | run<<(size-turn)) & (^uint64(0) >> (64 - size))
	for at := 0; at < 64; at += size {
		value |= run << at
	}
	return value
}

// register looks at what an instruction completes in a register.
func (s *splitSearch) register(value uint64, found finder) {
	if slot := s.parts.find(value); s.parts.keys[slot] != 0 {
		p := s.parts.parts[slot]
		s.end(refLen-int(p.at), int(p.member), found)
		return
	}
	var text [partLen]byte
	binary.LittleEndian.PutUint64(text[:], value)
	// The end of a hash, a short name, and what stands behind it.
	n := bytes.IndexByte(text[:], '-')
	if n < 1 {
		return
	}
	for _, member := range s.parts.ends(text[n-1:]) {
		if bytes.HasPrefix(text[:], []byte(s.parts.members.paths[member][refLen-n:])) {
			s.end(n, member, found)
		}
	}
}

// end weighs a piece in a register that begins with the last n characters of a hash, or more than there are.
func (s *splitSearch) end(n, member int, found finder) {
	if n > vague {
		s.tell(member, found)
		return
	}
	s.weigh(member, found, func(e *evidence) { e.vagueEnd = true })
}
