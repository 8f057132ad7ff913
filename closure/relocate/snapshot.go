package relocate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
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

// maybeVersion rejects most of what is no snapshot: somewhere in b a number of up to three digits and a dot begin.
func maybeVersion(b []byte) bool {
	for i := 0; i < 16; i += 4 {
		if digit := b[i] - '0'; digit <= 9 && (b[i+1] == '.' || b[i+2] == '.' || b[i+3] == '.') {
			return true
		}
	}
	return false
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
	for _, c := range text {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
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

// findSnapshots looks for snapshots that begin in buf[from:to], which is at off in a program; they are aligned. It
// looks for the zeros behind the version, 36 at least, and then for the header around them.
func findSnapshots(found []snapshot, buf []byte, from, to int, off int64) []snapshot {
	const (
		contextsMask = 0xfffffffe_fffffff0
		stride       = 24
		nearest      = 12 + maxVersion // from a header to zeros
		farthest     = 24 + snapshotVersion - 8
	)
	next := from + int(-(off+int64(from))&7)
	if len(found) >= maxSnapshots {
		next = to
	}
	for p := next + nearest; p < min(to+farthest, len(buf)-7); p += stride {
		if binary.LittleEndian.Uint64(buf[p:]) != 0 {
			continue
		}
		for next = max(next, p-farthest); next <= p-nearest && next < to; next += 8 {
			w := binary.LittleEndian.Uint64(buf[next:])
			if w&contextsMask != 0 || uint32(w) == 0 || next+snapshotHead > len(buf) || !maybeVersion(buf[next+12:]) {
				continue
			}
			if version, last, ok := snapshotHeader(buf[next : next+snapshotHead]); ok {
				at := off + int64(next)
				if len(found) == maxSnapshots-1 {
					last = math.MaxInt64 / 2
				}
				found = append(found, snapshot{version: version, from: at, last: at + last, end: math.MaxInt64})
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

func (s snapshot) String() string { return fmt.Sprintf("a V8 start-up snapshot (V8 %s)", s.version) }
