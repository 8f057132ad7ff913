package relocate

import (
	"bytes"
	"cmp"
	"io"
)

// compressor makes writers of a format. A byte that it writes takes as long as cost bytes in deflate.
type compressor struct {
	cost int64
	open func(io.Writer) (io.WriteCloser, error)
	// sized is open for a format whose head says how many bytes are compressed; nil for others.
	sized func(w io.Writer, size int) (io.WriteCloser, error)
	// longer makes the end of what is compressed, as it stands behind a Flush, longer by so many bytes, or shorter, so that it
	// still says the same; nil where the format has nothing for that.
	longer func(end []byte, by int) ([]byte, bool)
	// head puts right what the head of what is compressed says of its size when it is not; nil where that says nothing.
	head func(packed []byte, size int) []byte
	// stronger may make less of the same, for which it may take longer.
	stronger *compressor
}

// recompress rewrites compressed data and compresses it anew. It gives nil where there is nothing to rewrite.
func (f *fixer) recompress(s source, name string, r io.Reader, c compressor) ([]byte, error) {
	plain, err := f.inflated(s, r)
	if err != nil {
		return nil, err
	}
	return f.recompressPlain(s, name, plain, c)
}

// recompressPlain is recompress for what is inflated already.
func (f *fixer) recompressPlain(s source, name string, plain []byte, c compressor) ([]byte, error) {
	edits, err := f.rewrite(s.inflated(plain, name))
	if err != nil || len(edits) == 0 {
		return nil, err
	}
	if f.unpacked != nil && s.depth == 0 {
		f.unpacked(plain, edits)
	}
	if err := f.replaces(s, len(s.data)); err != nil {
		return nil, err
	}
	if err := sortEdits(edits); err != nil {
		return nil, err
	}
	if sameLength(edits) { // without a second copy of what may be large
		for _, e := range edits {
			copy(plain[e.from:], e.data)
		}
	} else {
		plain = apply(plain, edits)
	}
	if c.longer != nil {
		return f.compressedIn(len(s.data), plain, c)
	}
	return f.compressed(plain, c)
}

// maxStronger bounds what is compressed once more, by what is slower, so that it takes no more room than before.
const maxStronger = 2 << 20

// compressedIn is compressed for what shall take size bytes: a server may have the length on record that it sends for a file.
// Where all that can be done makes more, it is the least of that.
func (f *fixer) compressedIn(size int, data []byte, c compressor) (least []byte, err error) {
	for try := &c; try != nil; try = try.stronger {
		packed, fits, err := f.compressedLike(size, data, *try)
		if err != nil {
			return nil, err
		}
		if least == nil || fits || len(packed) < len(least) {
			least = packed
		}
		if fits || len(data) > maxStronger {
			break
		}
	}
	return least, f.countPacked(len(least))
}

// compressedLike is what a compressor makes of data, and whether that is size bytes.
func (f *fixer) compressedLike(size int, data []byte, c compressor) (packed []byte, fits bool, err error) {
	if !f.budget.compressed(c.cost * int64(len(data))) {
		return nil, false, errCompress
	}
	var b bytes.Buffer
	w, err := c.open(&b)
	if err != nil {
		return nil, false, err
	}
	if err := cmp.Or(f.write(w, data), w.(interface{ Flush() error }).Flush()); err != nil {
		return nil, false, err
	}
	end := b.Len()
	if err := w.Close(); err != nil {
		return nil, false, err
	}
	packed = b.Bytes()
	if c.head != nil {
		packed = c.head(packed, len(data))
		end += len(packed) - b.Len()
	}
	if rest, ok := c.longer(packed[end:], size-len(packed)); ok {
		return append(packed[:end:end], rest...), true, nil
	}
	return packed, len(packed) == size, nil
}

// compressed is what a compressor makes of data, within the bounds of the file and of the budget.
func (f *fixer) compressed(data []byte, c compressor) ([]byte, error) {
	if !f.budget.compressed(c.cost * int64(len(data))) {
		return nil, errCompress
	}
	var b bytes.Buffer
	open := c.open
	if c.sized != nil {
		open = func(w io.Writer) (io.WriteCloser, error) { return c.sized(w, len(data)) }
	}
	w, err := open(&b)
	if err != nil {
		return nil, err
	}
	if err := f.write(w, data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), f.countPacked(b.Len())
}

// compressedAtOnce is how many bytes are compressed before the next look at whether that is still wanted: the slowest
// compressor takes some tens of milliseconds for them.
const compressedAtOnce = 256 << 10
