package relocate

import (
	"bytes"
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

// segmentsOf reads the program headers of a program for x86-64 (ELF-64 Object File Format, "Program header table").
func segmentsOf(head []byte) (list []segment) {
	const header, size, machine, load, runs = 64, 56, 62, 1, 1
	if len(head) < header || string(head[:6]) != "\x7fELF\x02\x01" || binary.LittleEndian.Uint16(head[18:]) != machine {
		return nil
	}
	at, count := binary.LittleEndian.Uint64(head[32:]), int(binary.LittleEndian.Uint16(head[56:]))
	for ; count > 0 && at+size <= uint64(len(head)); count-- {
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

// takes reports whether an instruction has the address of some of the reference at text, or of up to beforeText bytes
// before it, where what begins in front of the reference does: from where the instruction ends, or as it is.
func (c snippet) takes(text uint64) bool {
	const beforeText, length = 32, 32 + uint64(refLen)
	for i := 0; i+4 <= len(c.bytes); i++ {
		value := binary.LittleEndian.Uint32(c.bytes[i:])
		relative, absolute := c.at+uint64(i+4)+uint64(int64(int32(value))), uint64(value)
		if relative-text+beforeText < length || absolute-text+beforeText < length {
			return true
		}
	}
	return false
}

// isCopied reports whether the code around one of the pieces takes one of the whole references.
func (e evidence) isCopied() bool {
	return slices.ContainsFunc(e.code, func(c snippet) bool { return slices.ContainsFunc(e.texts, c.takes) })
}

// goNote is in the note of a program that Go's linker has numbered (cmd/link/internal/ld/elf.go): its type and name.
const goNote = "\x04\x00\x00\x00Go\x00\x00"

// branches are the places of a Go program at which a switch over strings of one length goes on by one character: what it
// has to do with a reference shows where the code beside it takes that (cmd/compile/internal/walk/switch.go, stringSearch).
type branches struct {
	texts map[uint64]int  // the members of whole references, by address
	taken map[uint64]bool // addresses that the code beside such a comparison takes
}

// maxBranches bounds both.
const maxBranches = 1 << 16

// isGo reports whether head begins a program for x86-64 by Go.
func isGo(head []byte) bool { return len(segmentsOf(head)) > 0 && bytes.Contains(head, []byte(goNote)) }

// text notes a whole reference at an address, and reports whether a switch takes it.
func (b *branches) text(at uint64, member int) bool {
	if len(b.texts) < maxBranches {
		b.texts[at] = member
	}
	return b.taken[at]
}

// branch looks at buf[i:]: CMPB of a character that a hash may have, and a jump by its sign, as no other code of Go has. It
// gives the members that the code around takes by LEAQ.
func (b *branches) branch(buf []byte, i int, list []segment, off int64) (members []int) {
	if i+6 > len(buf) {
		return nil
	}
	operand := i + 2
	switch mode := buf[i+1]; {
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
	from := max(0, i-nearLen)
	at, runs := address(list, off+int64(from))
	if !runs {
		return nil
	}
	code := buf[from:min(len(buf), i+nearLen)]
	for j := 0; j+7 <= len(code); j++ {
		if code[j]&^4 != 0x48 || code[j+1] != 0x8d || code[j+2]&0xc7 != 5 {
			continue
		}
		taken := at + uint64(j+7) + uint64(int64(int32(binary.LittleEndian.Uint32(code[j+3:]))))
		if len(b.taken) < maxBranches {
			b.taken[taken] = true
		}
		if member, ok := b.texts[taken]; ok {
			members = append(members, member)
		}
	}
	return members
}
