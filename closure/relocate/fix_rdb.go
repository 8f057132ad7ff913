package relocate

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zlib"
	"github.com/ulikunitz/xz/lzma"
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
		packed, err := compressed(apply(v.plain, inner), newZlib)
		if err != nil {
			return nil, err
		}
		begin := v.begin
		if v.letter != 0 {
			packed, begin = append([]byte{rdbZlib}, packed...), begin-1
		}
		if len(packed) > v.end-begin {
			return nil, blockedBy(Compressed, "a value that does not fit in its place when it is compressed anew")
		}
		edits = append(edits, edit{from: begin, to: v.end, data: append(packed, make([]byte, v.end-begin-len(packed))...)})
	}
	return edits, nil
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
		v.end-- // it has looked for another stream
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
