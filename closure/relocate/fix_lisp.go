package relocate

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
)

// An SBCL core is the memory of a whole Lisp, in a file of its own or behind a program, which then ends with its place
// and its mark (SBCL src/runtime/core.h, coreparse.c, save.c). Its parts begin at whole pages, whose size is the machine's,
// 32 KiB on amd64 and 64 KiB on arm64, and may be compressed.
const (
	lispName       = "SBCL core"
	lispMark       = "LCBS\x00\x00\x00\x00"
	lispMinPage    = 4 << 10
	lispMaxPage    = 64 << 10
	lispTrailer    = 16
	lispWord       = 8
	lispDirectory  = 3861 // the entry of the header that lists the parts
	lispPart       = 5 * lispWord
	lispCompressed = 8 // in a part's identifier
)

// lispCore gives the place of the core in a file.
func lispCore(data []byte) (int, bool) {
	if bytes.HasPrefix(data, []byte(lispMark)) {
		return 0, true
	}
	if len(data) < lispTrailer || !bytes.HasSuffix(data, []byte(lispMark)) {
		return 0, false
	}
	at := binary.LittleEndian.Uint64(data[len(data)-lispTrailer:])
	return int(at), at < uint64(len(data)) && bytes.HasPrefix(data[at:], []byte(lispMark))
}

// lispParts gives the places in the header where it says of a compressed part which page it begins at.
func lispParts(core []byte) (parts []int) {
	head := core[:min(len(core), lispMaxPage)]
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(head[at:]) }
	for at := len(lispMark); at+2*lispWord <= len(head); {
		kind, words := word(at), word(at+lispWord)
		if words < 2 || words > uint64(len(head)-at)/lispWord {
			break
		}
		end := at + int(words)*lispWord
		for part := at + 2*lispWord; kind == lispDirectory && part+lispPart <= end; part += lispPart {
			if word(part)&lispCompressed != 0 {
				parts = append(parts, part+2*lispWord)
			}
		}
		at = end
	}
	return parts
}

// lispPage is the size of a core's pages, which it does not say: the one by which every part that is compressed begins
// as such. 0 stands for none.
func lispPage(core []byte, parts []int) uint64 {
	for size := uint64(lispMinPage); size <= lispMaxPage; size *= 2 {
		if !slices.ContainsFunc(parts, func(at int) bool {
			page := binary.LittleEndian.Uint64(core[at:])
			if page >= uint64(len(core))/size {
				return true
			}
			part := core[min((page+1)*size, uint64(len(core))):]
			return !isZlibHeader(part) && !isZstdFrame(part)
		}) {
			return size
		}
	}
	return 0
}

// lisp rewrites a core: text of one, two or four bytes a character in place, and parts that are compressed at the end,
// where the header is made to look for them. So nothing of them has to be recorded.
func (f *fixer) lisp(s source) ([]edit, error) {
	edit8 := func(at int, v uint64) edit {
		return edit{from: at, to: at + lispWord, data: binary.LittleEndian.AppendUint64(nil, v)}
	}
	var edits []edit
	var err error
	if format := f.inspector.recognise(s.name, s.data[:min(len(s.data), headLen)]); format.name == elfName {
		edits, err = f.elf(s, format)
	} else {
		edits, err = f.text(s, format)
	}
	if err != nil {
		return nil, err
	}
	core, ok := lispCore(s.data)
	if !ok {
		return edits, nil
	}
	var more []byte
	parts := lispParts(s.data[core:])
	size := int(lispPage(s.data[core:], parts))
	if size == 0 {
		return nil, blockedBy(Opaque, "a compressed part of an SBCL core that cannot be read")
	}
	for _, at := range parts {
		at += core
		page := binary.LittleEndian.Uint64(s.data[at:])
		part := s.data[core+(int(page)+1)*size:]
		if !f.budget.inflated(slowCost * int64(len(part))) { // parts may lie over each other, and have nothing in them
			return nil, errBudget
		}
		packed, err := f.lispPart(s, part)
		if err != nil {
			return nil, err
		}
		if packed == nil {
			continue
		}
		more = append(more, make([]byte, -(len(s.data)+len(more)-core)&(size-1))...)
		edits = append(edits, edit8(at, uint64((len(s.data)+len(more)-core)/size-1)))
		more = append(more, packed...)
	}
	if more == nil {
		return edits, nil
	}
	if core > 0 {
		more = append(more, s.data[len(s.data)-lispTrailer:]...)
	}
	return append(edits, edit{from: len(s.data), to: len(s.data), data: more}), nil
}

// lispPart gives what a part that begins data becomes, or nil where it stays.
func (f *fixer) lispPart(s source, data []byte) ([]byte, error) {
	in := s.in(data, "")
	if isZlibHeader(data) { // before SBCL 2.2.6
		r, err := zlib.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, blockedBy(Opaque, "a compressed part of an SBCL core that cannot be read")
		}
		return f.lispText(in, r, asZlib)
	}
	n := zstdFrameSize(data)
	if n == 0 {
		return nil, blockedBy(Opaque, "a compressed part of an SBCL core that cannot be read")
	}
	r, err := decompress.NewZstd(bytes.NewReader(data[:n]), maxWindows)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	in.data = data[:n]
	return f.lispText(in, r, asZstd(smallWindows, zstd.Header{HasCheckSum: true}))
}

// lispText rewrites what r holds.
func (f *fixer) lispText(s source, r io.Reader, c compressor) ([]byte, error) {
	plain, err := f.inflated(s, r)
	if err != nil {
		// Too large to be rewritten, but perhaps there is nothing to rewrite.
		return nil, f.mustBeFree(s, f.inspector.recognise("", s.data[:min(len(s.data), headLen)]), err)
	}
	edits, err := f.text(source{data: plain}, format{})
	if err != nil || len(edits) == 0 {
		return nil, err
	}
	if err := sortEdits(edits); err != nil {
		return nil, err
	}
	return f.compressed(apply(plain, edits), c)
}

// isZstdFrame reports whether a zstd frame begins data.
func isZstdFrame(data []byte) bool {
	var h zstd.Header
	return h.Decode(data[:min(len(data), zstd.HeaderMaxSize)]) == nil && !h.Skippable
}

// zstdFrameSize is how long the zstd frame is that begins data (RFC 8878, 3.1.1), or 0.
func zstdFrameSize(data []byte) int {
	var h zstd.Header
	if !isZstdFrame(data) || h.Decode(data[:min(len(data), zstd.HeaderMaxSize)]) != nil {
		return 0
	}
	for at := h.HeaderSize; at+3 <= len(data); {
		block := int(data[at]) | int(data[at+1])<<8 | int(data[at+2])<<16
		size := block >> 3
		if block>>1&3 == 1 {
			size = 1 // a byte that is repeated
		}
		at += 3 + size
		if block&1 == 0 {
			continue
		}
		if h.HasCheckSum {
			at += 4
		}
		if at > len(data) {
			return 0
		}
		return at
	}
	return 0
}
