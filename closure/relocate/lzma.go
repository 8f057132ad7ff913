package relocate

import (
	"encoding/binary"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// lzmaHeader is the length of a .lzma file's header: properties, the dictionary's size, the length of the contents.
const lzmaHeader = 13

// lzmaFormat is the format of an .lzma file.
func lzmaFormat() format {
	return format{name: "lzma", look: (*inspector).lzma, kind: Compressed, fix: (*fixer).lzma}
}

// lzmaOfZip reads what stands before a zip member's LZMA stream (PKWARE APPNOTE.TXT, 5.8.8) and gives the header that an
// .lzma file has there.
func lzmaOfZip(r io.Reader, flags uint16, unpacked int64) ([]byte, error) {
	var head [9]byte // the version of LZMA's SDK, the length of the properties, and those
	if _, err := io.ReadFull(r, head[:]); err != nil || binary.LittleEndian.Uint16(head[2:]) != 5 {
		return nil, unsupported("its LZMA stream has no properties")
	}
	if flags&zipLZMAEnd != 0 {
		unpacked = -1
	}
	return binary.LittleEndian.AppendUint64(head[4:], uint64(unpacked)), nil
}

// lzma goes through a .lzma file, the format of LZMA Utils that came before .xz (xz's doc/lzma-file-format.txt).
func (x *inspector) lzma(l *level, p location) error {
	head, err := l.Peek(lzmaHeader)
	if err != nil {
		return err
	}
	return x.withNew(int64(binary.LittleEndian.Uint32(head[1:])), func() error {
		r, err := lzma.NewReader(l.Reader)
		if err != nil {
			return err
		}
		return x.look(r, p)
	})
}
