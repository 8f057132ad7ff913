package relocate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

const (
	// snapshotHead is how much of a V8 start-up snapshot is needed to recognise it.
	snapshotHead = 128
	// snapshotVersion is the length of the version in a snapshot's header.
	snapshotVersion = 64
	// maxVersion is the longest version that is expected within a program, such as 13.6.233.17-electron.0.
	maxVersion = 28
	// maxSnapshotContexts is the most contexts that a snapshot is expected to hold; Node.js has four.
	maxSnapshotContexts = 8
	// maxSnapshots is how many of a program are told apart; what follows the beginning of the last counts as in it.
	maxSnapshots = 64
)

// snapshotHeader reads the header of a V8 start-up snapshot (V8 src/snapshot/snapshot.cc, "Snapshot blob layout"):
// the number of contexts, whether it can be rehashed, one to four checksums, the version in 64 bytes, and the offsets
// of its parts, the last of which is at last. A snapshot has a checksum and strings that carry their own hashes.
func snapshotHeader(b []byte) (version string, last int64, ok bool) {
	h, ok := readSnapshotHeader(b)
	if !ok {
		return "", 0, false
	}
	return h.text, int64(h.parts[len(h.parts)-1]), true
}

// snapshotLayout is what a snapshot's header says.
type snapshotLayout struct {
	version int    // where the version stands
	text    string // the version
	parts   []int  // where the read-only part, the shared heap if it has one, and the contexts begin
}

func readSnapshotHeader(b []byte) (h snapshotLayout, ok bool) {
	if len(b) < snapshotHead {
		return h, false
	}
	contexts, rehashable := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if contexts == 0 || contexts > maxSnapshotContexts || rehashable > 1 {
		return h, false
	}
	for at := 12; at <= 24; at += 4 {
		text, padding := b[at:at+snapshotVersion], []byte(nil)
		if n := bytes.IndexByte(text, 0); n >= 0 {
			text, padding = text[:n], text[n:]
		}
		if !isVersion(text) || len(bytes.Trim(padding, "\x00")) > 0 {
			continue
		}
		// Before V8 9.5 there was no shared heap, so one offset fewer.
		for _, parts := range []int{2, 1} {
			offsets := b[at+snapshotVersion:]
			if n := 4 * (int(contexts) + parts); n <= len(offsets) {
				if _, ok := lastOffset(offsets[:n], int64(at+snapshotVersion+n)); ok {
					h.version, h.text = at, string(text)
					for i := 0; i < n; i += 4 {
						h.parts = append(h.parts, int(binary.LittleEndian.Uint32(offsets[i:])))
					}
					return h, true
				}
			}
		}
	}
	return h, false
}

// isVersion reports whether text is a V8 version: three or four numbers and, from an embedder, "-node.17" or so.
func isVersion(text []byte) bool {
	number, _, _ := bytes.Cut(text, []byte("-"))
	parts := bytes.Split(number, []byte("."))
	if len(parts) < 3 || len(parts) > 4 {
		return false
	}
	for _, part := range parts {
		if len(part) == 0 || len(bytes.Trim(part, "0123456789")) > 0 {
			return false
		}
	}
	return !slices.ContainsFunc(text, func(c byte) bool { return !isVersionChar(c) })
}

// lastOffset checks that offsets ascend from beyond the header.
func lastOffset(offsets []byte, header int64) (int64, bool) {
	last := header
	for ; len(offsets) > 0; offsets = offsets[4:] {
		next := int64(binary.LittleEndian.Uint32(offsets))
		if next <= last {
			return 0, false
		}
		last = next
	}
	return last, true
}

// snapshot is a V8 start-up snapshot within a program.
type snapshot struct {
	version   string
	from      int64 // in the file
	last, end int64 // where its last part begins, and ends: math.MaxInt64 while that is not known
}

// findSnapshots looks for snapshots that begin in buf[from:to], which is at off in a program. V8's own are aligned, but
// what an app brings along may lie anywhere. It looks for the zeros behind the version, 36 at least, and where they begin
// for the header before them.
func findSnapshots(found []snapshot, buf []byte, from, to int, off int64) []snapshot {
	const (
		stride   = 24 // meets eight of any 36 zeros
		shortest = len("1.2.3")
		nearest  = 12 + shortest // from a header to zeros
		farthest = 24 + maxVersion
	)
	end := min(to+farthest+stride, len(buf)-7)
	for p := from + nearest; p < end && len(found) < maxSnapshots; p += stride {
		if !isZero(buf, p) || p >= stride && isZero(buf, p-8) && isZero(buf, p-16) && isZero(buf, p-stride) {
			continue // the last are zeros that began where they have been looked at
		}
		zeros := p
		for zeros > from && buf[zeros-1] == 0 {
			zeros--
		}
		if zeros-shortest < from || !isVersionChar(buf[zeros-1]) || !isVersionChar(buf[zeros-shortest]) {
			continue
		}
		for at := max(from, zeros-farthest); at <= zeros-nearest && at < to; at++ {
			if s, ok := snapshotAt(buf[at:], off+int64(at)); ok {
				if len(found) == maxSnapshots-1 {
					s.last = math.MaxInt64 / 2
				}
				found = append(found, s)
				break
			}
		}
	}
	for i := range found {
		s := &found[i]
		if at := s.last - off; s.end == math.MaxInt64 && at >= 0 && at+8 <= int64(len(buf)) {
			s.end = s.last + 8 + int64(binary.LittleEndian.Uint32(buf[at+4:]))
		}
	}
	return found
}

// snapshotAt is the snapshot that begins b, at off in a program.
func snapshotAt(b []byte, off int64) (snapshot, bool) {
	const contexts = 0xfffffffe_fffffff0 // what the first two numbers do not have: a few contexts, rehashable or not
	if len(b) < snapshotHead {
		return snapshot{}, false
	}
	if w := binary.LittleEndian.Uint64(b); w&contexts != 0 || uint32(w) == 0 {
		return snapshot{}, false
	}
	version, last, ok := snapshotHeader(b[:snapshotHead])
	return snapshot{version: version, from: off, last: off + last, end: math.MaxInt64}, ok
}

// isZero reports whether eight zeros stand at b[i:].
func isZero(b []byte, i int) bool { return binary.LittleEndian.Uint64(b[i:]) == 0 }

// isVersionChar reports whether a version may have c.
func isVersionChar(c byte) bool { return c > ' ' && c <= '~' }

func (s snapshot) String() string { return fmt.Sprintf("a V8 start-up snapshot (V8 %s)", s.version) }
