package xz

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"testing"

	. "github.com/onsi/gomega"
)

// block is a file that ends behind its first block's header: flags, and what follows them.
func block(flags byte, rest ...byte) []byte {
	header := append([]byte{0, flags}, rest...)
	for len(header)%4 != 0 {
		header = append(header, 0)
	}
	header[0] = byte(len(header) / 4)
	header = binary.LittleEndian.AppendUint32(header, crc32.ChecksumIEEE(header))
	return append(wrapped(nil)[:headerSize], header...)
}

func TestAReaderTakesLZMA2AloneAndFirstBlockGivesTheWindowBehindOtherFiltersToo(t *testing.T) {
	RegisterTestingT(t)
	const x86, delta, mib8, most = 0x04, 0x03, 22, 1<<32 - 1
	for what, c := range map[string]struct {
		head         []byte
		window       int64
		otherFilters bool
		err          error // of a Reader, once it has the header
	}{
		"LZMA2":                         {block(0, lzma2ID, 1, mib8), 8 << 20, false, nil},
		"the smallest dictionary":       {block(0, lzma2ID, 1, 0), 4 << 10, false, nil},
		"one between powers of two":     {block(0, lzma2ID, 1, 1), 6 << 10, false, nil},
		"the largest":                   {block(0, lzma2ID, 1, 40), most, false, &WindowError{Want: most, Limit: 8 << 20}},
		"one the format does not have":  {block(0, lzma2ID, 1, 41), most, false, errCorrupt},
		"behind both sizes":             {block(0xc0, 0x80, 1, 5, lzma2ID, 1, mib8), 8 << 20, false, nil},
		"behind a filter":               {block(1, x86, 0, lzma2ID, 1, mib8), 8 << 20, true, ErrFilter},
		"behind one with properties":    {block(1, delta, 1, 7, lzma2ID, 1, mib8), 8 << 20, true, ErrFilter},
		"behind three and the sizes":    {block(0xc3, 9, 9, x86, 0, x86, 0, delta, 1, 7, lzma2ID, 1, mib8), 8 << 20, true, ErrFilter},
		"another filter alone":          {block(0, delta, 1, 7), 0, false, ErrFilter},
		"others alone":                  {block(1, x86, 0, delta, 1, 7), 0, true, ErrFilter},
		"properties of two bytes":       {block(0, lzma2ID, 2, mib8, 0), 0, false, errCorrupt},
		"properties beyond the header":  {block(0, lzma2ID, 9), 0, false, errCorrupt},
		"a number in two bytes for one": {block(0, 0x80|lzma2ID, 0, 1, mib8), 0, false, errCorrupt},
		"a number without an end":       {block(0x40, 255, 255, 255, 255, 255, 255, 255, 255, 255), 0, false, errCorrupt},
		"something behind LZMA2":        {block(0, lzma2ID, 1, mib8, 1), 8 << 20, false, errCorrupt},
		"flags nobody knows":            {block(4, lzma2ID, 1, mib8), 8 << 20, false, ErrFormat},
		"no block":                      {block(0)[:headerSize], 0, false, io.ErrUnexpectedEOF},
		"a header that is cut":          {block(0, lzma2ID, 1, mib8)[:headerSize+4], 0, false, io.ErrUnexpectedEOF},
		"an index":                      {append(block(0)[:headerSize], indexMark, 0, 0, 0), 0, false, io.ErrUnexpectedEOF},
	} {
		window, otherFilters := FirstBlock(c.head)
		Expect(window).To(Equal(c.window), what)
		Expect(otherFilters).To(Equal(c.otherFilters), what)
		_, err := unpack(c.head, Options{MaxWindow: 8 << 20})
		if c.err == nil { // there is no chunk behind the header
			c.err = io.ErrUnexpectedEOF
		}
		Expect(err).To(MatchError(c.err), what)
	}
}
