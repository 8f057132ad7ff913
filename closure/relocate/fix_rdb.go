package relocate

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"

	"github.com/klauspost/compress/gzip"
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

// rdb rewrites the values of an R package. The index beside the database (.rdx) has the place and length of each, so
// what was there stays, a value that is compressed anew goes to the end, and the index leads there. The values come back
// without a record of what they were.
func (f *fixer) rdb(s source) ([]edit, error) {
	var edits []edit
	var more []byte
	places := map[rdbRange]rdbRange{}
	for at := 0; at < len(s.data); {
		v, err := f.rdbValue(s, at)
		if err != nil {
			return nil, err
		}
		was := rdbRange{at, v.end - at}
		at = v.end
		inner, err := f.rewrite(s.inflated(v.plain, ""))
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
		packed, err := f.compressed(apply(v.plain, inner), asZlib)
		if err != nil {
			return nil, err
		}
		now := rdbRange{len(s.data) + len(more), len(more)}
		more = binary.BigEndian.AppendUint32(more, uint32(len(v.plain)))
		if v.letter != 0 {
			more = append(more, rdbZlib)
		}
		more = append(more, packed...)
		now.length = len(more) - now.length
		if places[was] = now; len(places) > maxEdits || len(more) > maxMember || now.at+now.length > math.MaxInt32 {
			return nil, blockedBy(Compressed, "more values than are compressed anew")
		}
	}
	if len(places) == 0 {
		return edits, nil
	}
	return append(edits, edit{from: len(s.data), to: len(s.data), data: more}), f.rdbIndex(s, places)
}

// secondOf names the file beside a database that is rewritten with it: its index.
func secondOf(file string) (string, bool) {
	name, ok := strings.CutSuffix(file, ".rdb")
	return name + ".rdx", ok
}

// rdbRange is where a value lies, as a database's index says it.
type rdbRange struct{ at, length int }

// rdbIndexed begins a place in an index: an integer vector of two without attributes (R src/main/serialize.c).
const rdbIndexed = "\x00\x00\x00\x0d\x00\x00\x00\x02"

// rdbIndex makes the index of a database lead to where values are now. It is a list of lists of places, in R's binary
// format (R src/library/tools/R/makeLazyLoad.R), compressed by gzip.
func (f *fixer) rdbIndex(s source, moved map[rdbRange]rdbRange) error {
	name, _ := secondOf(s.name)
	index, err := f.neighbour(s, name)
	if err != nil {
		return err
	}
	if edits, err := f.rewrite(source{data: index, name: name}); err != nil || len(edits) > 0 {
		return blockedBy(Compressed, "values to move, and %s names store paths too", name)
	}
	r, err := gzip.NewReader(bytes.NewReader(index))
	if err != nil {
		return blockedBy(Compressed, "values to move, and %s is not gzip", name)
	}
	header := r.Header
	plain, err := f.inflated(s, r)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(plain, []byte("X\n")) {
		return blockedBy(Compressed, "values to move, and %s is not in R's binary format", name)
	}
	found := map[rdbRange]bool{}
	for at := 0; ; at += len(rdbIndexed) {
		n := bytes.Index(plain[at:], []byte(rdbIndexed))
		if n < 0 {
			break
		}
		at += n
		place := plain[at+len(rdbIndexed):]
		if len(place) < 8 {
			break
		}
		was := rdbRange{int(binary.BigEndian.Uint32(place)), int(binary.BigEndian.Uint32(place[4:]))}
		if now, ok := moved[was]; ok {
			found[was] = true
			binary.BigEndian.PutUint32(place, uint32(now.at))
			binary.BigEndian.PutUint32(place[4:], uint32(now.length))
		}
	}
	if len(found) < len(moved) {
		return blockedBy(Compressed, "a value that is not in %s", name)
	}
	next, err := f.compressed(plain, asGzip(header))
	if err != nil {
		return err
	}
	f.beside = &neighbour{name, index, []edit{{from: 0, to: len(index), data: next}}}
	return nil
}

// rdbValue reads the value at at: its inflated size in four bytes, a letter or not, and the compressed bytes.
func (f *fixer) rdbValue(s source, at int) (rdbValue, error) {
	data := s.data
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
		if !f.budget.takes(bzip2Window) {
			return v, errBudget
		}
		r = bzip2.NewReader(in)
	case rdbLZMA2:
		// Nothing is copied from further back than the value is long, and what a dictionary takes is taken for each value.
		r, err = lzma.Reader2Config{DictCap: int(min(max(size, lzma.MinDictCap), rdbWindow))}.NewReader2(in)
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
	if v.plain, err = f.inflated(s, io.LimitReader(r, size)); err != nil {
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
