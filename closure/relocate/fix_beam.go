package relocate

import (
	"bytes"
	"encoding/binary"

	"github.com/klauspost/compress/zlib"
)

// erlangTerm compresses anew a term in a file of its own.
func (f *fixer) erlangTerm(s source) ([]edit, error) {
	return f.compressedChunk(s, s.data, erlangTermHead)
}

// beam compresses the literals and terms of an Erlang module anew where that is needed (erts/emulator/beam/beam_file.c,
// erts/emulator/beam/external.c). Sizes may change: chunks say theirs, and the file says its own.
func (f *fixer) beam(s source) ([]edit, error) {
	const header = 12
	var edits []edit
	grown := 0
	for at := header; at+8 <= len(s.data); {
		id, size := string(s.data[at:at+4]), int(binary.BigEndian.Uint32(s.data[at+4:]))
		begin := at + 8
		if size > len(s.data)-begin {
			return nil, errMalformed
		}
		chunk, end := s.data[begin:begin+size], begin+size+(-size&3)
		var changed []edit
		var err error
		switch skip := beamSkip(id, chunk); {
		case isUnusedChunk(id):
		case skip > 0:
			changed, err = f.compressedChunk(s, chunk, skip)
		default:
			changed, err = f.text(source{data: chunk}, format{code: true, pools: true})
		}
		if err != nil {
			return nil, err
		}
		if sameLength(changed) {
			edits = append(edits, moved(changed, begin)...)
		} else {
			if err := f.countPacked(size); err != nil {
				return nil, err
			}
			next := apply(chunk, changed)
			edits = append(edits,
				edit{from: at + 4, to: at + 8, data: binary.BigEndian.AppendUint32(nil, uint32(len(next)))},
				edit{from: begin, to: min(end, len(s.data)), data: append(next, make([]byte, -len(next)&3)...)})
			grown += len(next) + -len(next)&3 - (size + -size&3)
		}
		at = end
	}
	if grown != 0 {
		size := int(binary.BigEndian.Uint32(s.data[4:])) + grown
		edits = append([]edit{{from: 4, to: 8, data: binary.BigEndian.AppendUint32(nil, uint32(size))}}, edits...)
	}
	return edits, nil
}

// compressedChunk rewrites the zlib stream behind a chunk's first bytes.
func (f *fixer) compressedChunk(s source, chunk []byte, skip int) ([]edit, error) {
	in := bytes.NewReader(chunk[skip:])
	r, err := zlib.NewReader(in)
	if err != nil {
		return nil, errMalformed
	}
	data, err := f.recompress(source{data: chunk, depth: s.depth, unpacked: s.unpacked}, "", r, asZlib)
	if err == nil && in.Len() > 0 {
		err = errMore
	}
	if err != nil || data == nil {
		return nil, err
	}
	return []edit{{from: skip, to: len(chunk), data: data}}, nil
}
