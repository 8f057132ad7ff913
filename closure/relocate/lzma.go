package relocate

import (
	"encoding/binary"

	"github.com/ulikunitz/xz/lzma"
)

// lzmaHeader is the length of a .lzma file's header: properties, the dictionary's size, the length of the contents.
const lzmaHeader = 13

// lzma goes through a .lzma file, the format of LZMA Utils that came before .xz (xz's doc/lzma-file-format.txt).
func (x *inspector) lzma(l *level, p location) error {
	head, err := l.Peek(lzmaHeader)
	if err != nil {
		return err
	}
	return x.withMemory(int64(binary.LittleEndian.Uint32(head[1:])), func() error {
		r, err := lzma.NewReader(l.Reader)
		if err != nil {
			return err
		}
		return x.look(r, p)
	})
}
