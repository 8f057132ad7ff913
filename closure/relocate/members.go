package relocate

import (
	"encoding/binary"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

const hashLen = storepath.HashLen

// members is the set of hash parts that are looked for. It is asked at every place of a long run of base-32
// characters, so it is an open-addressed table keyed by the first eight characters.
type members struct {
	paths []storepath.Path
	keys  []uint64 // 0 is free: no hash begins with NULs
	index []int32  // of paths
	shift uint8
}

const golden = 0x9e3779b97f4a7c15

// newMembers holds each hash part of paths once.
func newMembers(paths []storepath.Path) *members {
	size, shift := 64, uint8(64-6)
	for size < 4*len(paths) {
		size, shift = size*2, shift-1
	}
	m := &members{keys: make([]uint64, size), index: make([]int32, size), shift: shift}
	for _, p := range paths {
		hash := []byte(p.HashPart())
		if m.find(hash) >= 0 {
			continue
		}
		key := binary.LittleEndian.Uint64(hash)
		i := int(key * golden >> shift)
		for m.keys[i] != 0 {
			i = (i + 1) & (size - 1)
		}
		m.keys[i], m.index[i] = key, int32(len(m.paths))
		m.paths = append(m.paths, p)
	}
	return m
}

// find gives the place in m.paths of the path whose hash part b begins with, or -1. b has at least hashLen bytes.
func (m *members) find(b []byte) int {
	key := binary.LittleEndian.Uint64(b)
	for i := int(key * golden >> m.shift); m.keys[i] != 0; i = (i + 1) & (len(m.keys) - 1) {
		if m.keys[i] == key && m.paths[m.index[i]].HashPart() == string(b[:hashLen]) {
			return int(m.index[i])
		}
	}
	return -1
}
