package relocate

import (
	"bytes"
	"compress/bzip2"
	"compress/flate"
	stdzlib "compress/zlib"
	"encoding/binary"
	"errors"
	zlibsum "hash/adler32"
	"io"

	"github.com/klauspost/compress/zlib"
	"github.com/ulikunitz/xz/lzma"

	"github.com/nixproot/nix-hydra-buildpack/closure/recompress"
)

// The letters before a value of an R lazy-load database that is not a zlib stream (R src/main/serialize.c,
// R_compress2, R_compress3; "1" is a zlib stream behind a letter).
const (
	rdbStored = '0'
	rdbZlib   = '1'
	rdbBzip2  = '2'
	rdbLZMA2  = 'Z'
	// rdbWindow is the dictionary that R's lzma compresses with: that of its preset 9.
	rdbWindow = 64 << 20
)

// rdbValue is one value of a database.
type rdbValue struct {
	letter byte // 0 for a zlib stream without one
	begin  int  // of the compressed bytes
	end    int
	plain  []byte
}

// rdb rewrites the values of an R package. The index beside the database (.rdx) has the place and length of each, so a
// value that is compressed anew keeps both: R reads no further than a zlib stream's end.
func (f *fixer) rdb(s source) ([]edit, error) {
	var edits []edit
	for at := 0; at < len(s.data); {
		v, err := f.rdbValue(s.data, at)
		if err != nil {
			return nil, err
		}
		at = v.end
		inner, err := f.rewrite(s.in(v.plain, ""))
		if err != nil {
			return nil, err
		}
		switch {
		case len(inner) == 0:
			continue
		case !sameLength(inner):
			return nil, blockedBy(Compressed, "a value with compressed data in it")
		case v.letter == rdbStored:
			edits = append(edits, moved(inner, v.begin)...)
			continue
		}
		if err := sortEdits(inner); err != nil {
			return nil, err
		}
		e, err := v.anew(s.data, apply(v.plain, inner), inner)
		if err != nil {
			return nil, err
		}
		edits = append(edits, e)
	}
	return edits, nil
}

// anew puts a value that is rewritten into the place of the one that was there.
func (v rdbValue) anew(data, now []byte, inner []edit) (edit, error) {
	there := data[v.begin:v.end]
	if v.letter == rdbLZMA2 {
		packed, err := recompress.LZMA2(there, v.plain, now, changes(inner))
		if room := len(there) - len(packed); err == nil && room >= 0 {
			// Where R has all of a value it looks no further, as long as a chunk begins there that is not to its end.
			const mark = "\x02\xff\xff"
			packed = append(append(packed, mark...), make([]byte, room)...)
			return edit{from: v.begin, to: v.end, data: packed[:len(there)]}, nil
		}
	}
	begin := v.begin
	var packed []byte
	if v.letter == 0 || v.letter == rdbZlib {
		packed = zlibRewritten(there, v.plain, now, inner)
	}
	if packed == nil || len(packed) > len(there) {
		next, err := shortest(now)
		if err != nil {
			return edit{}, err
		}
		if packed == nil || len(next) < len(packed) {
			packed = next
		}
	}
	if v.letter != 0 {
		packed, begin = append([]byte{rdbZlib}, packed...), begin-1
	}
	if len(packed) > v.end-begin {
		return edit{}, blockedBy(Compressed, "a value that does not fit in its place when it is compressed anew")
	}
	return edit{from: begin, to: v.end, data: append(packed, make([]byte, v.end-begin-len(packed))...)}, nil
}

// shortest compresses data anew, by the compressor here that takes the fewest bytes for it, and with the best codes.
func shortest(data []byte) (packed []byte, err error) {
	for level := flate.BestSpeed; level <= flate.BestCompression; level++ {
		next, err := compressed(data, func(w io.Writer) (io.WriteCloser, error) { return stdzlib.NewWriterLevel(w, level) })
		if err != nil {
			return nil, err
		}
		if again := zlibRewritten(next, data, data, nil); again != nil {
			next = again
		}
		if packed == nil || len(next) < len(packed) {
			packed = next
		}
	}
	next, err := compressed(data, newZlib)
	if err == nil && len(next) < len(packed) {
		packed = next
	}
	return packed, err
}

// zlibRewritten is recompress.Deflate for a zlib stream (RFC 1950), or nil.
func zlibRewritten(packed, was, now []byte, edits []edit) []byte {
	const header, sum = 2, 4
	if len(packed) < header+sum {
		return nil
	}
	deflated, err := recompress.Deflate(packed[header:len(packed)-sum], was, now, changes(edits))
	if err != nil {
		return nil
	}
	stream := append(bytes.Clone(packed[:header]), deflated...)
	return binary.BigEndian.AppendUint32(stream, zlibsum.Checksum(now))
}

// changes are edits that leave a text as long as it was.
func changes(edits []edit) []recompress.Edit {
	all := make([]recompress.Edit, len(edits))
	for i, e := range edits {
		all[i] = recompress.Edit{From: e.from, To: e.to}
	}
	return all
}

// rdbValue reads the value at at: its inflated size in four bytes, a letter or not, and the compressed bytes.
func (f *fixer) rdbValue(data []byte, at int) (rdbValue, error) {
	if at+6 > len(data) {
		return rdbValue{}, errMalformed
	}
	size := int64(binary.BigEndian.Uint32(data[at:]))
	v := rdbValue{letter: data[at+4], begin: at + 5}
	in := &counted{Reader: bytes.NewReader(data[at+5:])}
	var r io.Reader
	var err error
	switch v.letter {
	case rdbStored:
		r = io.LimitReader(in, size)
	case rdbBzip2:
		r = bzip2.NewReader(in)
	case rdbLZMA2:
		r, err = lzma.Reader2Config{DictCap: rdbWindow}.NewReader2(in)
	default:
		if v.letter != rdbZlib {
			v.letter, v.begin = 0, at+4
			in = &counted{Reader: bytes.NewReader(data[at+4:])}
		}
		r, err = zlib.NewReader(in)
	}
	if err != nil {
		return v, errMalformed
	}
	if v.plain, err = f.inflated(io.LimitReader(r, size)); err != nil {
		return v, err
	}
	if int64(len(v.plain)) != size {
		return v, errMalformed
	}
	var more [1]byte
	n, err := r.Read(more[:])
	v.end = v.begin + in.n
	if v.letter == rdbBzip2 && err != nil && err != io.EOF {
		v.end -= 2 // it has looked for the mark of another stream
		err = io.EOF
	}
	if n > 0 || !errors.Is(err, io.EOF) {
		return v, errMalformed
	}
	return v, nil
}

// counted counts what a decoder takes, which takes single bytes where that matters.
type counted struct {
	*bytes.Reader
	n int
}

// Read counts.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// ReadByte counts.
func (c *counted) ReadByte() (byte, error) {
	b, err := c.Reader.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// UnreadByte counts back.
func (c *counted) UnreadByte() error {
	c.n--
	return c.Reader.UnreadByte()
}

// WriteTo is not to be had: a decoder would take more than it wants.
func (c *counted) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}
