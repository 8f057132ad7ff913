package relocate

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
)

// V8 builds either of two checksums into a program, by V8_USE_ZLIB (V8 src/snapshot/snapshot-utils.cc).

// adler32 is zlib's checksum seeded with 0 rather than 1.
func adler32(data []byte) uint32 { return twoSums(data, 65521) }

// fletcher32 is Fletcher's checksum of bytes.
func fletcher32(data []byte) uint32 { return twoSums(data, 65535) }

// twoSums are the sum of the bytes and the sum of those sums, modulo modulus.
func twoSums(data []byte, modulus uint32) uint32 {
	const most = 5552 // bytes before a sum overflows
	a, b := uint32(0), uint32(0)
	for len(data) > 0 {
		n := min(len(data), most)
		for _, c := range data[:n] {
			a += uint32(c)
			b += a
		}
		a, b = a%modulus, b%modulus
		data = data[n:]
	}
	return b<<16 | a
}

// snapshotSum is a checksum in a snapshot's header, at at, of the bytes from:to, all counted from the header.
type snapshotSum struct {
	at, from, to int
	of           func([]byte) uint32
}

// snapshotSums finds out which checksums a snapshot has and what they cover, by which fit what is stored: one over all
// that stands behind it, and since V8 11.4 one before that over the part that is read-only. data begins with the header;
// end is where the snapshot's last part ends.
func snapshotSums(data []byte, end int) ([]snapshotSum, bool) {
	const whole, readOnly, version = 8, 12, 12
	h, ok := readSnapshotHeader(data[:snapshotHead])
	if !ok {
		return nil, false
	}
	for _, of := range []func([]byte) uint32{adler32, fletcher32} {
		for to := end; to < end+8 && to <= len(data); to++ {
			if of(data[version:to]) != binary.LittleEndian.Uint32(data[whole:]) {
				continue
			}
			sums := []snapshotSum{{whole, version, to, of}}
			if h.version == version {
				return sums, true
			}
			from := h.parts[0]
			for to := min(h.parts[1], len(data)); to > h.parts[1]-8 && to > from; to-- {
				if of(data[from:to]) == binary.LittleEndian.Uint32(data[readOnly:]) {
					return append([]snapshotSum{{readOnly, from, to, of}}, sums...), true
				}
			}
			return nil, false
		}
	}
	return nil, false
}

// snapshotFile puts right the checksums of a snapshot in a file of its own: snapshot_blob.bin.
func (f *fixer) snapshotFile(s source) ([]edit, error) {
	edits, err := f.text(s, format{})
	if err != nil || len(edits) == 0 {
		return nil, err
	}
	found := findSnapshots(nil, s.data, 0, 1, 0)
	if len(found) != 1 {
		return nil, errMalformed
	}
	return f.snapshots(s, found, edits)
}

// nodeSnapshot puts right the checksum of V8's snapshot in one that Node.js has made of an app.
func (f *fixer) nodeSnapshot(s source) ([]edit, error) {
	edits, err := f.text(s, format{})
	if err != nil || len(edits) == 0 {
		return nil, err
	}
	found := findSnapshots(nil, s.data, 0, len(s.data), 0)
	if len(found) == 0 {
		return nil, blockedBy(Checksummed, "a reference beside a V8 start-up snapshot that is not recognised")
	}
	return f.snapshots(s, found, edits)
}

// nodeProgram does the same to what makes a single executable of an app: its source, or a snapshot of it.
func (f *fixer) nodeProgram(s source) ([]edit, error) {
	edits, err := f.text(s, format{})
	if err != nil || len(edits) == 0 {
		return nil, err
	}
	return f.snapshots(s, findSnapshots(nil, s.data, 0, len(s.data), 0), edits)
}

// elf rewrites a program: what a snapshot or constants of Nuitka's in it hold, and, if it is a member of something, all else.
func (f *fixer) elf(s source, format format) ([]edit, error) {
	if s.depth == 0 {
		format.code = false // a Rewriter has looked for split references, and rewritten what stands elsewhere
	}
	edits, err := f.text(s, format)
	if err != nil || len(edits) == 0 {
		return nil, err
	}
	var p program
	p.begin(s.data[:min(len(s.data), headLen)], int64(len(s.data)))
	p.search(s.data, 0, len(s.data), 0)
	if why := p.checksum(s.name); why != "" {
		return nil, blockedBy(Checksummed, "%s", why)
	}
	if edits, err = f.snapshots(s, p.snapshots, edits); err != nil {
		return nil, err
	}
	return f.constants(s, p.constants, edits)
}

// snapshots adds the checksums of the snapshots in a file that edits rewrite.
func (f *fixer) snapshots(s source, found []snapshot, edits []edit) ([]edit, error) {
	if err := sortEdits(edits); err != nil {
		return nil, err
	}
	plain := edits
	for _, snap := range found {
		if !slices.ContainsFunc(edits, func(e edit) bool { return int64(e.from) >= snap.from && int64(e.from) < snap.end }) {
			continue
		}
		if snap.end == math.MaxInt64 || snap.end > int64(len(s.data)) || snap.end <= snap.from+snapshotHead {
			return nil, blockedBy(Checksummed, "a reference in %s whose end is not known", snap)
		}
		const tries = 2 * 8 // checksums, and places where they may end
		if !f.budget.inflated(tries * (snap.end - snap.from)) {
			return nil, errBudget
		}
		was := s.data[snap.from:]
		sums, ok := snapshotSums(was, int(snap.end-snap.from))
		switch {
		case !ok:
			return nil, blockedBy(Checksummed, "a reference in %s whose checksum is none that is known", snap)
		case was[4] == 0:
			return nil, blockedBy(Checksummed, "a reference in %s that is not rehashed when it is read", snap)
		}
		from, size := int(snap.from), int(snap.end-snap.from)
		for _, sum := range sums {
			size = max(size, sum.to)
		}
		if size > maxPacked {
			return nil, blockedBy(Checksummed, "a reference in %s of more than %d MiB", snap, maxPacked>>20)
		}
		own := plain[placeOf(plain, from):placeOf(plain, from+size)]
		if !sameLength(own) {
			return nil, errMalformed
		}
		blob := bytes.Clone(was[:size]) // and no more: programs are of any size
		for _, e := range own {
			copy(blob[e.from-from:], e.data)
		}
		for _, sum := range sums {
			value := binary.LittleEndian.AppendUint32(nil, sum.of(blob[sum.from:sum.to]))
			copy(blob[sum.at:], value) // the next one covers it
			edits = append(edits, edit{from: int(snap.from) + sum.at, to: int(snap.from) + sum.at + 4, data: value})
		}
	}
	return edits, sortEdits(edits)
}
