package relocate

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

const (
	// classMark begins a Java class (JVMS 4.1), and a program for several machines on macOS.
	classMark = "\xca\xfe\xba\xbe"
	className = "Java class"
	// firstClass is the major version of the oldest classes; programs for several machines have their number there.
	firstClass = 45
	// maxSwitch bounds the keys of a switch, which a method has no room for more of, and those that are rewritten.
	maxSwitch = 1 << 13
)

// class rewrites a Java class. A switch over strings is compiled to one over their hash codes (javac's Lower, Kotlin's
// when, Scala's match): where that of a rewritten constant stands in the code, it is put right, and the table of the
// switch, which is searched by halves, sorted anew.
func (f *fixer) class(s source) ([]edit, error) {
	edits, err := f.text(s, format{})
	if err != nil || len(edits) == 0 {
		return nil, err
	}
	if err := cmp.Or(copied(s, HashKeyed), sortEdits(edits)); err != nil {
		return nil, err
	}
	c := newClass(s.data, apply(s.data, edits))
	if c == nil {
		return edits, nil // no virtual machine would load it
	}
	if len(c.hashes) > 0 && isClojureCase(s.data, c.code) {
		return nil, blockedBy(HashKeyed, "a string with a store path beside Clojure's case over strings, which goes by parts of their hashes")
	}
	tables, hits := map[int]bool{}, 0
	var until [8]int // where the last switch ends, by where in eight bytes its keys are
	size := 0        // of all switches; those of a virtual machine do not lie over each other
	for at := c.code; at+4 <= len(s.data); at++ {
		if _, ok := c.hashes[binary.BigEndian.Uint32(s.data[at:])]; !ok {
			continue
		}
		if at < until[at%8] {
			continue
		}
		if hits++; hits > maxSwitch {
			return nil, blockedBy(HashKeyed, "more switches over strings than a class has")
		}
		from, to, ok := lookupSwitch(s.data, c.code, at)
		if !f.budget.inflated(int64(at - from)) { // which were gone through, and may be so for each hash
			return nil, errBudget
		}
		if low, is := tableSwitch(s.data, c.code, at); !ok && is {
			if tables[low] {
				continue
			}
			tables[low] = true
			if size += tableSize(s.data, low); size > len(s.data) {
				return nil, errMalformed
			}
			table, ok := c.shifted(s.data, low)
			if !ok {
				return nil, blockedBy(HashKeyed, "a switch over strings whose hashes are no longer in a row")
			}
			edits = append(edits, edit{from: low, to: low + len(table), data: table})
			continue
		}
		if !ok {
			return nil, blockedBy(HashKeyed, "the hash of a string with a store path, in code that is no switch")
		}
		if tables[from] {
			continue
		}
		tables[from] = true
		if until[from%8], size = to, size+to-from; size > len(s.data) {
			return nil, errMalformed
		}
		table, ok := c.switched(s.data[from:to])
		if !ok {
			return nil, blockedBy(HashKeyed, "a switch over strings that have one hash when they are rewritten")
		}
		edits = append(edits, edit{from: from, to: to, data: table})
	}
	for _, at := range c.integers {
		if now, ok := c.hashes[binary.BigEndian.Uint32(s.data[at:])]; ok {
			edits = append(edits, edit{from: at, to: at + 4, data: binary.BigEndian.AppendUint32(nil, now)})
		}
	}
	return edits, nil
}

// class is what is known of one.
type class struct {
	hashes   map[uint32]uint32 // of strings that are rewritten: before and after
	integers []int             // where the constants are that are integers
	code     int               // where what follows the constants begins
}

// newClass reads the constants of a class (JVMS 4.4), before and after it is rewritten; nil where it is none.
func newClass(was, now []byte) *class {
	const count = 8
	c := &class{hashes: map[uint32]uint32{}, code: count + 2}
	if len(was) < c.code {
		return nil
	}
	for n := int(binary.BigEndian.Uint16(was[count:])) - 1; n > 0; n-- {
		if len(was)-c.code < 3 {
			return nil
		}
		at := c.code + 1
		size := 0
		switch was[c.code] {
		case 1: // text
			size = 2 + int(binary.BigEndian.Uint16(was[at:]))
			if size <= len(was)-at && !bytes.Equal(was[at:at+size], now[at:at+size]) {
				c.hashes[hashCode(was[at+2:at+size])] = hashCode(now[at+2 : at+size])
			}
		case 3:
			size = 4
			c.integers = append(c.integers, at)
		case 4, 9, 10, 11, 12, 17, 18:
			size = 4
		case 5, 6: // of eight bytes, which count as two
			size = 8
			n--
		case 7, 8, 16, 19, 20:
			size = 2
		case 15:
			size = 3
		default:
			return nil
		}
		if size > len(was)-at {
			return nil
		}
		c.code = at + size
	}
	return c
}

// hashCode is java.lang.String.hashCode of a class's text, which is in UTF-8 of single UTF-16 units (JVMS 4.4.7).
func hashCode(text []byte) (hash uint32) {
	for i := 0; i < len(text); i++ {
		unit := uint32(text[i])
		switch {
		case unit >= 0xe0 && i+2 < len(text):
			unit = unit&0xf<<12 | uint32(text[i+1])&0x3f<<6 | uint32(text[i+2])&0x3f
			i += 2
		case unit >= 0xc0 && i+1 < len(text):
			unit = unit&0x1f<<6 | uint32(text[i+1])&0x3f
			i++
		}
		hash = 31*hash + unit
	}
	return hash
}

// lookupSwitch gives the table that has a key at data[at:] (JVMS 6.5, lookupswitch): the instruction, up to three zeros,
// where to go without a match, how many pairs there are, and the pairs, sorted by their keys. from is how far it has looked
// where there is none.
func lookupSwitch(data []byte, begin, at int) (from, to int, ok bool) {
	const instruction, pair, head = 0xab, 8, 9
	key := func(at int) int32 { return int32(binary.BigEndian.Uint32(data[at:])) }
	for from = at; from-head >= begin && at-from < pair*maxSwitch; from -= pair {
		before := from - head
		for data[before] == 0 && before > from-head-3 {
			before--
		}
		n := int(key(from - 4))
		if to = from + n*pair; data[before] == instruction && 0 < n && n <= maxSwitch && at < to && to <= len(data) {
			return from, to, true
		}
		if key(from-pair) >= key(from) {
			break
		}
	}
	return from, 0, false
}

// isClojureCase reports whether a class whose code begins at begin has Clojure's case over strings: by some bits of their hash
// codes it finds one, and then looks whether they are equal (Compiler.java, CaseExpr).
func isClojureCase(data []byte, begin int) bool {
	const shift, and = 0x7a, "\x7e\xaa" // ISHR; IAND, TABLESWITCH
	if !bytes.Contains(data[:begin], []byte("clojure/lang/Util")) || !bytes.Contains(data[:begin], []byte("equiv")) {
		return false
	}
	for at := begin; ; at++ {
		n := bytes.Index(data[at:], []byte(and))
		if at += n; n < 0 {
			return false
		}
		if bytes.IndexByte(data[max(begin, at-4):at], shift) >= 0 { // and what is pushed behind it
			return true
		}
	}
}

// tableSwitch gives the place of the least key of a switch whose least or greatest key stands at data[at:] (JVMS 6.5,
// tableswitch), as that over the hash codes of strings is that differ in their last character: the instruction, up to three
// zeros, where to go without a match, the least and the greatest key, and where to go for each in between.
func tableSwitch(data []byte, begin, at int) (low int, ok bool) {
	const instruction = 0xaa
	for _, low := range []int{at, at - 4} {
		before := low - 4 - 1
		if before < begin || low+8 > len(data) {
			continue
		}
		for data[before] == 0 && before > low-4-1-3 && before > begin {
			before--
		}
		least, most := int32(binary.BigEndian.Uint32(data[low:])), int32(binary.BigEndian.Uint32(data[low+4:]))
		n := int64(most) - int64(least) + 1
		if data[before] == instruction && 0 < n && n <= 2*maxSwitch && int64(low)+8+4*n <= int64(len(data)) {
			return low, true
		}
	}
	return 0, false
}

// tableSize is how many bytes such a switch has from its least key on.
func tableSize(data []byte, low int) int {
	return 8 + 4*(int(int32(binary.BigEndian.Uint32(data[low+4:])))-int(int32(binary.BigEndian.Uint32(data[low:])))+1)
}

// shifted are the least and the greatest key of such a switch for the rewritten strings; ok is false where its keys do not
// move by the same number.
func (c *class) shifted(data []byte, low int) (keys []byte, ok bool) {
	word := func(at int) uint32 { return binary.BigEndian.Uint32(data[at:]) }
	by, known := uint32(0), false
	for at, key := low+8, word(low); ; at, key = at+4, key+1 {
		if word(at) != word(low-4) { // where to go without a match
			now, ok := c.hashes[key]
			if !ok || known && now-key != by {
				return nil, false
			}
			by, known = now-key, true
		}
		if key == word(low+4) {
			break
		}
	}
	least, most := int32(word(low)+by), int32(word(low+4)+by)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(least)), uint32(most)), known && least <= most
}

// switched is a switch's table with the keys of the rewritten strings; ok is false where two are the same.
func (c *class) switched(table []byte) (now []byte, ok bool) {
	var pairs [][]byte
	for pair := range slices.Chunk(bytes.Clone(table), 8) {
		if hash, ok := c.hashes[binary.BigEndian.Uint32(pair)]; ok {
			binary.BigEndian.PutUint32(pair, hash)
		}
		pairs = append(pairs, pair)
	}
	key := func(pair []byte) int32 { return int32(binary.BigEndian.Uint32(pair)) }
	slices.SortFunc(pairs, func(a, b []byte) int { return cmp.Compare(key(a), key(b)) })
	for i := range pairs[1:] {
		if key(pairs[i]) == key(pairs[i+1]) {
			return nil, false
		}
	}
	return bytes.Join(pairs, nil), true
}
