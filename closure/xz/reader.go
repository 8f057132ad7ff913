// Package xz decompresses .xz files as fast as liblzma does, in Go and, on amd64, assembly, which the build tag purego
// switches off.
//
// It reads what binary caches hold: any number of streams with padding between them, of any number of blocks, packed
// with LZMA2 alone. Other filters, which no Nix cache uses, are ErrFilter. The format is that of xz-file-format.txt
// 1.2.1 (tukaani.org/xz).
package xz

import (
	"errors"
	"fmt"
	"hash"
	"io"
)

// Errors besides those of the reader below, which are passed on. What is cut off is io.ErrUnexpectedEOF.
var (
	// ErrFormat says that the input is not in xz format.
	ErrFormat = errors.New("xz: not in xz format")
	// ErrFilter says that a block uses a filter other than LZMA2.
	ErrFilter = errors.New("xz: filters other than LZMA2 are not supported")
	// ErrSize says that there is more output than expected.
	ErrSize = errors.New("xz: the output is longer than expected")
)

// WindowError says that a stream wants a larger dictionary than allowed.
type WindowError struct{ Want, Limit int64 }

func (e *WindowError) Error() string {
	return fmt.Sprintf("xz: the dictionary has %d bytes, allowed are %d", e.Want, e.Limit)
}

// Options bound a Reader.
type Options struct {
	// MaxWindow is the largest dictionary allowed, in bytes; 0 means 64 MiB, what `xz -9` writes.
	MaxWindow int64
	// Size is the length of the output if it is known, else 0. No dictionary is made that is larger than the next power
	// of two, and more output than one byte beyond it is ErrSize.
	Size int64
	// SkipCheck leaves out each block's check of its contents, for callers that compare a hash of their own.
	SkipCheck bool
	// Reserve, when set, is told of the dictionary's size before it is made or grows, and may wait or refuse.
	Reserve func(bytes int64) error
}

// state is what a Reader is in the middle of.
type state uint8

const (
	atStream state = iota
	atBlock
	atChunk
	inRaw
	inLZMA
)

// Reader decompresses a concatenation of xz streams. It makes no goroutine. Reset makes it ready for another input;
// its memory is kept.
type Reader struct {
	options Options
	lzma    lzma
	memory  []byte // of the dictionary
	src     io.Reader
	srcErr  error
	have    int // end of what input holds
	err     error

	state   state
	streams int
	chunk   int // bytes of output left in the chunk
	total   int64
	given   int // position in the dictionary up to which the output was given out
	fresh   bool
	props   bool

	check  byte
	sum    hash.Hash
	blocks index // of the stream
	block  record
}

// NewReader makes a Reader of src, which may read more of src than it needs.
func NewReader(src io.Reader, options Options) *Reader {
	r := &Reader{}
	r.lzma.input = make([]byte, inputSize+inputSlack)
	r.Reset(src, options)
	return r
}

// Reset starts over with another input.
func (r *Reader) Reset(src io.Reader, options Options) {
	if options.MaxWindow == 0 {
		options.MaxWindow = 64 << 20
	}
	r.options, r.src, r.srcErr, r.err, r.have = options, src, nil, nil, 0
	r.state, r.streams, r.chunk, r.given, r.total = atStream, 0, 0, 0, 0
	r.lzma.in, r.lzma.inEnd, r.lzma.pos, r.lzma.full = 0, 0, 0, 0
	r.blocks, r.block, r.sum = index{}, record{}, nil
}

// Window is the memory that the dictionary takes at present, in bytes.
func (r *Reader) Window() int64 { return int64(cap(r.memory)) }

// Head is all that was read of the input, after the first Read returned ErrFilter: what another decoder needs to
// begin with. It is valid until the next Reset.
func (r *Reader) Head() []byte { return r.lzma.input[:r.have] }

// Read gives decompressed bytes. io.EOF comes after the last stream's footer was found to be right.
func (r *Reader) Read(p []byte) (int, error) {
	for {
		if n := r.give(p); n > 0 || len(p) == 0 {
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		r.err = r.step()
	}
}

// WriteTo passes every byte on without a copy in between.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if r.given < r.lzma.pos {
			n, err := w.Write(r.lzma.dict[r.given:r.lzma.pos])
			r.given += n
			total += int64(n)
			if err != nil {
				return total, err
			}
		}
		if r.err == io.EOF {
			return total, nil
		}
		if r.err != nil {
			return total, r.err
		}
		r.err = r.step()
	}
}

// give copies out what is decoded.
func (r *Reader) give(p []byte) int {
	n := copy(p, r.lzma.dict[r.given:r.lzma.pos])
	r.given += n
	return n
}

// step does the next bit of work; everything decoded before has been given out.
func (r *Reader) step() error {
	switch r.state {
	case atStream:
		return r.startStream()
	case atBlock:
		return r.startBlock()
	case atChunk:
		return r.startChunk()
	default:
		return r.decode()
	}
}

// piece is how much is decoded at a time: little enough to be in the processor's cache when it is given out, and not to
// keep the garbage collector waiting, which cannot stop assembly.
const piece = 32 << 10

// decode continues the chunk.
func (r *Reader) decode() error {
	d := &r.lzma
	if d.pos == d.size {
		if err := r.turnRound(); err != nil {
			return err
		}
	}
	start := d.pos
	limit := min(d.size, d.pos+min(piece, r.chunk))
	if size := r.options.Size; size > 0 {
		limit = min(limit, d.pos+int(min(size+1-r.total, piece)))
		if limit == d.pos {
			return ErrSize
		}
	}
	if r.state == inRaw {
		if err := r.copyRaw(limit); err != nil {
			return err
		}
	} else {
		d.copyPending(limit)
		if err := d.run(limit); err != nil {
			d.pos = start // nothing of a piece with an error in it
			return err
		}
	}
	n := d.pos - start
	r.block.size += int64(n)
	r.total += int64(n)
	if r.sum != nil {
		r.sum.Write(d.dict[start:d.pos])
	}
	if r.chunk -= n; r.chunk > 0 {
		return nil
	}
	if r.state == inLZMA {
		if err := d.endChunk(); err != nil {
			return err
		}
	}
	r.state = atChunk
	return nil
}

// copyRaw copies bytes of an uncompressed chunk.
func (r *Reader) copyRaw(limit int) error {
	d := &r.lzma
	if d.in == r.have {
		if err := r.must(1); err != nil {
			return err
		}
	}
	n := copy(d.dict[d.pos:limit], d.input[d.in:r.have])
	d.in += n
	d.pos += n
	r.block.packed += int64(n)
	d.full = min(d.full+n, d.window)
	return nil
}

// need makes sure that n bytes of input are there, n at most half of the buffer.
func (r *Reader) need(n int) error {
	d := &r.lzma
	if r.have-d.in >= n {
		return nil
	}
	if d.in+n > inputSize {
		r.have = copy(d.input, d.input[d.in:r.have])
		d.in = 0
	}
	for r.have-d.in < n {
		if r.srcErr != nil {
			return r.srcErr
		}
		got, err := r.src.Read(d.input[r.have:inputSize])
		r.have += got
		r.srcErr = err
	}
	return nil
}

// must is need where the input may not end.
func (r *Reader) must(n int) error {
	if err := r.need(n); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// take gives the next n bytes, which must be there.
func (r *Reader) take(n int) []byte {
	at := r.lzma.in
	r.lzma.in += n
	return r.lzma.input[at : at+n]
}
