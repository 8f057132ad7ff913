package relocate

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// On x86-64 the last characters of a text may be an immediate, and the rest be taken from where the whole text stands. Few
// characters of a hash are no proof of that by themselves; an instruction beside them that takes the text is.

// segment is a part of a program's file and where it is in memory.
type segment struct {
	from, to int64 // in the file
	at       uint64
	runs     bool
}

// The machines of ELF files (ELF-64 Object File Format) whose code is looked at.
const machineAMD64, machineARM64 = 62, 183

// segmentsOf reads the program headers of a program for a machine ("Program header table").
func segmentsOf(head []byte, machine uint16) (list []segment) {
	const header, size, load, runs = 64, 56, 1, 1
	if len(head) < header || string(head[:6]) != "\x7fELF\x02\x01" || binary.LittleEndian.Uint16(head[18:]) != machine {
		return nil
	}
	at, count := binary.LittleEndian.Uint64(head[32:]), int(binary.LittleEndian.Uint16(head[56:]))
	for ; count > 0 && at <= uint64(len(head)) && size <= uint64(len(head))-at; count-- {
		h := head[at : at+size]
		from, length := int64(binary.LittleEndian.Uint64(h[8:])), int64(binary.LittleEndian.Uint64(h[32:]))
		if binary.LittleEndian.Uint32(h) == load {
			list = append(list, segment{from, from + length, binary.LittleEndian.Uint64(h[16:]), h[4]&runs != 0})
		}
		at += size
	}
	return list
}

// address is where the byte at off in the file is in memory, or 0, and whether it may be code.
func address(list []segment, off int64) (at uint64, runs bool) {
	for _, s := range list {
		if s.from <= off && off < s.to {
			return s.at + uint64(off-s.from), s.runs
		}
	}
	return 0, false
}

// snippet is some code and its address.
type snippet struct {
	at    uint64
	bytes []byte
}

// takes reports whether an instruction has the address of some of one of the references at texts, which are sorted, or of up to
// beforeText bytes before it, where what begins in front of the reference does: from where the instruction ends, or as it is.
func (c snippet) takes(texts []uint64) bool {
	const beforeText = 32
	takes := func(address uint64) bool {
		at, _ := slices.BinarySearchFunc(texts, address, func(text, address uint64) int { return cmp.Compare(text+uint64(refLen), address+1) })
		return at < len(texts) && texts[at] <= address+beforeText
	}
	for i := 0; i+4 <= len(c.bytes); i++ {
		value := binary.LittleEndian.Uint32(c.bytes[i:])
		if takes(c.at+uint64(i+4)+uint64(int64(int32(value)))) || takes(uint64(value)) {
			return true
		}
	}
	return false
}

// goNote is in the note of a program that Go's linker has numbered (cmd/link/internal/ld/elf.go): its type and name.
const goNote = "\x04\x00\x00\x00Go\x00\x00"

// branches are the places of a Go program at which a switch over strings of one length goes on by one character: what it
// has to do with a reference shows where the code beside it takes that (cmd/compile/internal/walk/switch.go, stringSearch).
type branches struct {
	segments []segment
	texts    map[uint64]int  // the members of whole references, by address
	taken    map[uint64]bool // addresses that the code beside such a comparison takes
}

// maxBranches bounds both.
const maxBranches = 1 << 16

// newBranches looks for them in a program by Go that head begins; nil in others.
func newBranches(head []byte) *branches {
	for _, machine := range []uint16{machineAMD64, machineARM64} {
		if list := segmentsOf(head, machine); len(list) > 0 && bytes.Contains(head, []byte(goNote)) {
			return &branches{list, make(map[uint64]int), make(map[uint64]bool)}
		}
	}
	return nil
}

// text notes a whole reference at a place of the file, and reports whether a switch takes it.
func (b *branches) text(off int64, member int) bool {
	at, _ := address(b.segments, off)
	if len(b.texts) < maxBranches {
		b.texts[at] = member
	}
	return b.taken[at]
}

// near gives the code around buf[i:], and where it is in memory; nil where that is no code.
func (b *branches) near(buf []byte, i int, off int64) (code []byte, at uint64) {
	from := max(0, i-nearLen)
	at, runs := address(b.segments, off+int64(from))
	if !runs {
		return nil, 0
	}
	return buf[from:min(len(buf), i+nearLen)], at
}

// takes notes that code takes what is at an address, and adds the member whose reference that is.
func (b *branches) takes(at uint64, members []int) []int {
	if len(b.taken) < maxBranches {
		b.taken[at] = true
	}
	if member, ok := b.texts[at]; ok {
		members = append(members, member)
	}
	return members
}

// The instructions of x86-64 that compare a byte with a number: CMP with a register or memory, with AL.
const compareByte, compareAL = 0x80, 0x3c

// amd64 looks at buf[i:]: CMPB of a character that a hash may have, and a jump by its sign, as no other code of Go has. It
// gives the members that the code around takes by LEAQ.
func (b *branches) amd64(buf []byte, i int, off int64) (members []int) {
	if i+6 > len(buf) {
		return nil
	}
	operand := i + 2
	switch mode := buf[i+1]; {
	case buf[i] == compareAL:
		operand--
	case mode >= 0xf8: // it is in a register
	case mode&0xf8 == 0x78 && mode != 0x7c: // it is in memory, one byte of distance from a register
		operand++
	default:
		return nil
	}
	jump := buf[operand+1:]
	if !isBase32[buf[operand]] || !(jump[0]&^1 == 0x7e || jump[0] == 0x0f && jump[1]&^1 == 0x8e) {
		return nil
	}
	code, at := b.near(buf, i, off)
	for j := 0; j+7 <= len(code); j++ {
		if code[j]&^4 == 0x48 && code[j+1] == 0x8d && code[j+2]&0xc7 == 5 {
			members = b.takes(at+uint64(j+7)+uint64(int64(int32(binary.LittleEndian.Uint32(code[j+3:])))), members)
		}
	}
	return members
}

// arm64 does the same to LDRSB, CMP and B.GT or B.LE, and what is taken by ADRP and ADD (Arm Architecture Reference Manual).
// Other code of Go loads no byte with a sign.
func (b *branches) arm64(buf []byte, i int, off int64) (members []int) {
	const (
		loadMask, load       = 0xff800000, 0x39800000
		compareMask, compare = 0xffc0001f, 0x7100001f
		jumpMask, jump       = 0xff00001e, 0x5400000c
		pageMask, page       = 0x9f000000, 0x90000000
		addMask, add         = 0xffc00000, 0x91000000
	)
	word := func(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
	w := word(buf[i:])
	if c := w >> 10 & 0xfff; w&compareMask != compare || c > 0xff || !isBase32[c] || word(buf[i+4:])&jumpMask != jump {
		return nil
	}
	code, at := b.near(buf, i, off)
	register, loaded, taken := w>>5&31, false, []uint64(nil)
	for j := int(-at & 3); j+8 <= len(code); j += 4 {
		w, next := word(code[j:]), word(code[j+4:])
		loaded = loaded || w&loadMask == load && w&31 == register
		if w&pageMask == page && next&addMask == add && next&31 == w&31 && next>>5&31 == w&31 {
			pages := int64(int32(w<<8)>>13<<2 | int32(w>>29&3)) // signed, of 21 bits
			taken = append(taken, (at+uint64(j))&^0xfff+uint64(pages<<12)+uint64(next>>10&0xfff))
		}
	}
	for _, at := range taken {
		if loaded {
			members = b.takes(at, members)
		}
	}
	return members
}
