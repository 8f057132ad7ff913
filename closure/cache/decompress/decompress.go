// Package decompress unpacks the compressions that binary caches use, from pooled decoders with bounded windows.
//
// The names are those of a narinfo's Compression field (NixOS/nix src/libutil/compression.cc); the same decoders
// serve HTTP's Content-Encoding.
package decompress

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
)

// maxWindow is the largest window or dictionary a stream may ask for. It is what `xz -9` writes and half of what
// `zstd --ultra -22` does without --long.
const maxWindow = 128 << 20

// maxEncodingWindow is the largest window that a Content-Encoding may ask for (RFC 9659 says so for zstd).
const maxEncodingWindow = 8 << 20

// UnknownError says that no decoder here knows a compression.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("no decoder for %q (known: xz, zstd, bzip2, br, gzip, none)", e.Name)
}

// Options choose among decoders and bound them.
type Options struct {
	// XZ is "auto", "go" or "program".
	XZ string
	// Memory bounds the windows of all open decoders together, in bytes. Each core may always have a decoder with a
	// window of up to 8 MiB, and one decoder may always run.
	Memory int64
}

// Pool makes decoders and keeps them for reuse. It is safe for concurrent use.
type Pool struct {
	options   Options
	files     bounds    // of files that a narinfo names
	encodings bounds    // of NARs' Content-Encodings, which may be undone beneath another decoder
	answers   bounds    // of other answers' Content-Encodings
	program   string    // the xz program to prefer, "" for none
	buffers   sync.Pool // *bufio.Reader
	xzs       xzPool
	zstds     zstdPool
	gzips     sync.Pool // *gzip.Reader
	brotlis   sync.Pool // *brotli.Reader
}

// bounds are those of one decoder's window and of the windows of all that share them, in bytes.
type bounds struct {
	*budget
	window int64
}

// NewPool makes an empty Pool. XZ "program" where no such program is installed is an error.
func NewPool(options Options) (*Pool, error) {
	cores := runtime.GOMAXPROCS(0)
	p := &Pool{
		options:   options,
		files:     bounds{newBudget(options.Memory, cores), maxWindow},
		encodings: bounds{newBudget(options.Memory, cores), maxEncodingWindow},
		answers:   bounds{newBudget(maxEncodingWindow, 1), maxEncodingWindow},
	}
	var err error
	p.program, err = chooseXZ(options.XZ)
	return p, err
}

// Known reports whether name has a decoder. "" is bzip2, as in a narinfo without the field.
func Known(name string) bool {
	switch name {
	case "", "bzip2", "xz", "zstd", "br", "gzip", "x-gzip", "none", "identity":
		return true
	}
	return false
}

// Reader decompresses r until its end: all streams, frames or members of a concatenation. Close gives the decoder
// back and does not close r. size is the expected length of the output, or 0; it only saves memory. A decoder waits,
// here or in its first Read, until the windows of the others leave room for its own.
func (p *Pool) Reader(name string, r io.Reader, size int64) (io.ReadCloser, error) {
	return p.reader(name, r, size, p.files)
}

// Encoding is Reader for the HTTP Content-Encoding of a NAR. It waits for others of its kind only, so that it may be
// undone beneath another decoder.
func (p *Pool) Encoding(name string, r io.Reader) (io.ReadCloser, error) {
	return p.reader(name, r, 0, p.encodings)
}

// Answer is Reader for the HTTP Content-Encoding of anything else. It waits for others of its kind only.
func (p *Pool) Answer(name string, r io.Reader) (io.ReadCloser, error) {
	return p.reader(name, r, 0, p.answers)
}

func (p *Pool) reader(name string, r io.Reader, size int64, allowed bounds) (io.ReadCloser, error) {
	switch name {
	case "none", "identity":
		return io.NopCloser(r), nil
	case "", "bzip2":
		b := p.buffer(r)
		return &pooled{Reader: bzip2.NewReader(b), release: func() { p.releaseBuffer(b) }}, nil
	case "gzip", "x-gzip":
		return p.gzip(r)
	case "br":
		return p.brotli(r, allowed)
	case "zstd":
		return p.zstd(r, allowed)
	case "xz":
		return p.xz(r, size, allowed)
	}
	return nil, &UnknownError{Name: name}
}

// pooled gives its decoder back once.
type pooled struct {
	io.Reader
	release func()
}

var errClosed = errors.New("decoder is closed")

type closedReader struct{}

func (closedReader) Read([]byte) (int, error) { return 0, errClosed }

func (r *pooled) Close() error {
	if r.release != nil {
		r.release()
		r.release, r.Reader = nil, closedReader{}
	}
	return nil
}

func (p *Pool) buffer(r io.Reader) *bufio.Reader {
	b, ok := p.buffers.Get().(*bufio.Reader)
	if !ok {
		return bufio.NewReaderSize(r, 64<<10)
	}
	b.Reset(r)
	return b
}

func (p *Pool) releaseBuffer(b *bufio.Reader) {
	b.Reset(nil)
	p.buffers.Put(b)
}

func (p *Pool) gzip(r io.Reader) (io.ReadCloser, error) {
	b := p.buffer(r)
	z, ok := p.gzips.Get().(*gzip.Reader)
	if !ok {
		z = new(gzip.Reader)
	}
	if err := z.Reset(b); err != nil {
		p.releaseBuffer(b)
		return nil, noEOF(err)
	}
	return &pooled{Reader: z, release: func() { p.gzips.Put(z); p.releaseBuffer(b) }}, nil
}

func (p *Pool) brotli(r io.Reader, allowed bounds) (io.ReadCloser, error) {
	in := allowed.input(r)
	b := p.buffer(in)
	in.want(brotliWindow(b))
	z, ok := p.brotlis.Get().(*brotli.Reader)
	if !ok {
		z = brotli.NewReader(b)
	} else if err := z.Reset(b); err != nil {
		in.release()
		p.releaseBuffer(b)
		return nil, err
	}
	return &pooled{Reader: z, release: func() { p.brotlis.Put(z); p.releaseBuffer(b); in.release() }}, nil
}

// brotliWindow is the window that a stream's first bits, WBITS, ask for (RFC 7932, section 9.1).
func brotliWindow(b *bufio.Reader) int64 {
	start, err := b.Peek(1)
	if err != nil {
		return 0
	}
	first, second := start[0]>>1&7, start[0]>>4&7
	switch {
	case start[0]&1 == 0:
		return 1 << 16
	case first != 0:
		return 1 << (17 + first)
	case second != 0:
		return 1 << (8 + second)
	}
	return 1 << 17
}

// noEOF keeps an input that ends inside a header from reading as an empty stream.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
