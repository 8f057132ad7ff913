package relocate

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// partRanges are the places in "/nix/store/<hash>-<name>" where the parts that are looked for begin.
func partRanges() [][2]int {
	return [][2]int{
		// A first piece that has at least four characters of the hash.
		{behind + 4 - partLen, behind},
		// Pieces of eight bytes or more, wherever the first of them begins, have exactly one of these in one piece. They
		// reach beyond the ten characters of its hash that nixpkgs has every compiler note (-frandom-seed).
		{behind + 3, behind + 3 + partLen},
		// A last piece that overlaps a whole reference. It is at least as long as what would fit behind the hash.
		{tailParts, lastPart + 1},
	}
}

// part is eight bytes of a member's reference.
type part struct {
	member int32
	at     int32 // in "/nix/store/<hash>-<name>", or backwards
}

// backwards is the place of a part whose bytes are in reverse: LLVM, asked which of two texts is the greater, compares
// eight bytes as a big-endian number, and turns the constant's around when it compiles.
const backwards = -1

// parts is the set of parts of all members' references. It is an open-addressed table; of equal parts it has one.
type parts struct {
	members *members
	keys    []uint64 // 0 is free: no part is eight NULs
	parts   []part
	shift   uint8
	// grams has a bit for every gramLen bytes in a row of a part, by a hash of them.
	grams [1 << gramBits / 64]uint64
	// short are the members whose names are too short for the last parts, by the last character of the hash and the name, some
	// of those that are alike.
	short map[string][]int
	// shortest has a bit for the characters before and behind the dash in the keys of short.
	shortest [1 << 16 / 64]uint64
}

// maxAlike is how many members are looked for of those that have the same end.
const maxAlike = 8

func newParts(m *members) *parts {
	p := &parts{members: m, short: map[string][]int{}}
	var texts []string
	var entries []part
	for i, path := range m.paths {
		for _, r := range partRanges() {
			for at := r[0]; at < r[1] && at+partLen <= len(path); at++ {
				texts, entries = append(texts, string(path[at:at+partLen])), append(entries, part{int32(i), int32(at)})
				if at >= behind && at < tailParts {
					text := []byte(path[at : at+partLen])
					slices.Reverse(text)
					texts, entries = append(texts, string(text)), append(entries, part{int32(i), backwards})
				}
			}
		}
		if end := string(path[lastPart:]); len(end) < partLen && len(p.short[end]) < maxAlike {
			p.short[end] = append(p.short[end], i)
			slot := uint16(end[0])<<8 | uint16(end[2])
			p.shortest[slot>>6] |= 1 << (slot & 63)
		}
	}
	size := bits.Len(uint(2*len(entries) + 63))
	p.keys, p.parts, p.shift = make([]uint64, 1<<size), make([]part, 1<<size), uint8(64-size)
	for i, text := range texts {
		p.add([]byte(text), entries[i])
	}
	return p
}

func (p *parts) add(text []byte, entry part) {
	key := binary.LittleEndian.Uint64(text)
	i := p.find(key)
	if p.keys[i] != 0 {
		return
	}
	p.keys[i], p.parts[i] = key, entry
	for range gramLen {
		slot := gramSlot(uint32(key))
		p.grams[slot>>6] |= 1 << (slot & 63)
		key >>= 8
	}
}

// ends gives the members whose names are short and that end as b begins.
func (p *parts) ends(b []byte) (members []int) {
	const least = len("h-n")
	if len(b) < least {
		return nil
	}
	slot := uint16(b[0])<<8 | uint16(b[2])
	if p.shortest[slot>>6]>>(slot&63)&1 == 0 {
		return nil
	}
	for n := least; n < partLen && n <= len(b); n++ {
		members = append(members, p.short[string(b[:n])]...)
	}
	return members
}

// find gives the place of key, or a free one.
func (p *parts) find(key uint64) int {
	i := int(key * golden >> p.shift)
	for p.keys[i] != 0 && p.keys[i] != key {
		i = (i + 1) & (len(p.keys) - 1)
	}
	return i
}

// likeness is the member whose part it is where several have the same last one.
func (p *parts) likeness(member int) int {
	path := p.members.paths[member]
	if len(path) < lastPart+partLen {
		return member
	}
	return int(p.parts[p.find(binary.LittleEndian.Uint64([]byte(path[lastPart:])))].member)
}

// gramSlot is the place of the bit for gram.
func gramSlot(gram uint32) uint32 { return gram * 0x9e3779b1 >> (32 - gramBits) }

// hit reports whether one of two grams in a row may be of a part.
func (p *parts) hit(two uint64) bool {
	first, second := gramSlot(uint32(two)), gramSlot(uint32(two>>32))
	return (p.grams[first>>6]>>(first&63)|p.grams[second>>6]>>(second&63))&1 != 0
}

// next gives the first of the places at, at+stepLen and so on where a gram may be of a part, or the first that is not
// before end; stepLen bytes may be read behind it.
func (p *parts) next(buf []byte, at, end int) int {
	for at < end {
		steps := 1
		if n := (end - at) / blockSize; vectors && n > 0 {
			skipped := findText(&buf[at], n)
			at += skipped * blockSize
			if skipped == n {
				continue
			}
			steps = blockSize / stepLen
		}
		for range steps {
			if p.hits(buf[at:]) {
				return at
			}
			at += stepLen
		}
	}
	return at
}

// hits reports whether one of the grams that b begins with, stepLen bytes, may be of a part.
func (p *parts) hits(b []byte) bool {
	v, w := binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:stepLen])
	return printable(v)|printable(w) != 0 && (p.hit(v) || p.hit(w))
}

// printable is not zero where the first or the last four of eight bytes are neither control characters nor beyond
// ASCII. So are all parts, and little else of a program.
func printable(eight uint64) uint64 {
	const low, high = 0x0000000100000001, 0x8000000080000000
	others := ^((eight | eight<<1) << 1 &^ eight) & highBits
	return (others - low) &^ others & high
}
