package relocate

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// A program or module that Nuitka has compiled from Python holds its constants behind a checksum and their size, and ends where
// that is wrong (Nuitka's DataComposer.py and HelpersConstantsBlob.c).

const (
	constantsHead = 8
	// constantsName is the name of the first part, with which the constants begin; its size follows. It is looked for from its
	// second byte: its first is in all padding between the functions of x86.
	constantsName = ".bytecode\x00"
)

// constants are Nuitka's in a program, their head included.
type constants struct{ from, end int64 }

// findConstants looks for what may be constants that begin in buf[from:to], which is at off in a program of size bytes.
func findConstants(found []constants, buf []byte, from, to int, off, size int64) []constants {
	const names = constantsHead + len(constantsName)
	for at := from; len(found) < maxSnapshots; at++ {
		rest := buf[min(at+constantsHead+1, len(buf)):min(len(buf), to+names-1)]
		n := bytes.Index(rest, []byte(constantsName[1:]))
		if n < 0 || at+n+names+4 > len(buf) {
			break
		}
		at += n
		if buf[at+constantsHead] != constantsName[0] {
			continue
		}
		all, first := int64(binary.LittleEndian.Uint32(buf[at+4:])), int64(binary.LittleEndian.Uint32(buf[at+names:]))
		c := constants{off + int64(at), off + int64(at) + constantsHead + all}
		if first+int64(len(constantsName))+4 <= all && c.end <= size {
			found = append(found, c)
		}
	}
	return found
}

// constants adds the checksums of the constants in a file that edits rewrite. What has none that is right is none of Nuitka's:
// the name of the first part is a word like others.
func (f *fixer) constants(s source, found []constants, edits []edit) ([]edit, error) {
	if err := sortEdits(edits); err != nil || len(found) == 0 {
		return edits, err
	}
	plain := edits
	for _, c := range found {
		if !slices.ContainsFunc(edits, func(e edit) bool { return c.from <= int64(e.from) && int64(e.from) < c.end }) {
			continue
		}
		if !f.budget.inflated(2 * (c.end - c.from)) {
			return nil, errBudget
		}
		if crc32.ChecksumIEEE(s.data[c.from+constantsHead:c.end]) != binary.LittleEndian.Uint32(s.data[c.from:]) {
			continue
		}
		from := int(c.from) + constantsHead
		own := moved(slices.Clone(plain[placeOf(plain, from):placeOf(plain, int(c.end))]), -from)
		if !sameLength(own) || len(own) > 0 && own[len(own)-1].to > int(c.end)-from {
			return nil, errMalformed
		}
		sum := crc32.NewIEEE()
		applyTo(sum, s.data[from:c.end], own)
		edits = append(edits, edit{from: int(c.from), to: int(c.from) + 4, data: binary.LittleEndian.AppendUint32(nil, sum.Sum32())})
	}
	return edits, sortEdits(edits)
}
