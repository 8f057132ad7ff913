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
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is the largest window or dictionary a stream may ask for. It is what `xz -9` writes and half of what
// `zstd --ultra -22` does without --long.
const maxWindow = 128 << 20

// UnknownError says that no decoder here knows a compression.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("no decoder for %q (known: xz, zstd, bzip2, br, gzip, none)", e.Name)
}

// Options choose among decoders and bound them.
type Options struct {
	// XZ is "auto", "go" or "program".
	XZ string
	// Memory bounds the windows of all open decoders together, in bytes; one decoder may always run.
	Memory int64
}

// Pool makes decoders and keeps them for reuse. It is safe for concurrent use.
type Pool struct {
	options Options
	windows budget
	program string    // the xz program to prefer, "" for none
	buffers sync.Pool // *bufio.Reader
	xzs     sync.Pool // *xz.Reader
	zstds   sync.Pool // *zstd.Decoder
	gzips   sync.Pool // *gzip.Reader
	brotlis sync.Pool // *brotli.Reader
}

// NewPool makes an empty Pool. XZ "program" where no such program is installed is an error.
func NewPool(options Options) (*Pool, error) {
	p := &Pool{options: options, windows: budget{limit: options.Memory}}
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
// back and does not close r. size is the expected length of the output, or 0; it only saves memory. A decoder waits
// in its first Read until the windows of the others leave room for its own.
func (p *Pool) Reader(name string, r io.Reader, size int64) (io.ReadCloser, error) {
	return p.reader(name, r, size, &p.windows)
}

// Encoding is Reader for an HTTP Content-Encoding, which may be undone beneath another decoder; so it does not wait.
func (p *Pool) Encoding(name string, r io.Reader) (io.ReadCloser, error) {
	return p.reader(name, r, 0, nil)
}

func (p *Pool) reader(name string, r io.Reader, size int64, windows *budget) (io.ReadCloser, error) {
	switch name {
	case "none", "identity":
		return io.NopCloser(r), nil
	case "", "bzip2":
		b := p.buffer(r)
		return &pooled{Reader: bzip2.NewReader(b), release: func() { p.releaseBuffer(b) }}, nil
	case "gzip", "x-gzip":
		return p.gzip(r)
	case "br":
		return p.brotli(r)
	case "zstd":
		return p.zstd(r, windows)
	case "xz":
		return p.xz(r, size, windows)
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

func (p *Pool) brotli(r io.Reader) (io.ReadCloser, error) {
	z, ok := p.brotlis.Get().(*brotli.Reader)
	if !ok {
		z = brotli.NewReader(r)
	} else if err := z.Reset(r); err != nil {
		return nil, err
	}
	return &pooled{Reader: z, release: func() { p.brotlis.Put(z) }}, nil
}

func (p *Pool) zstd(r io.Reader, windows *budget) (io.ReadCloser, error) {
	b := p.buffer(r)
	// Only what may run takes a decoder out of the pool: the window of one that was used before stays allocated.
	release := windows.acquire(zstdWindow(b))
	z, err := p.zstdDecoder()
	if err == nil {
		err = z.Reset(b)
	}
	if err != nil {
		release()
		p.releaseBuffer(b)
		return nil, err
	}
	return &pooled{Reader: z, release: func() {
		if z.Reset(nil) == nil {
			p.zstds.Put(z)
		}
		p.releaseBuffer(b)
		release()
	}}, nil
}

func (p *Pool) zstdDecoder() (*zstd.Decoder, error) {
	if z, ok := p.zstds.Get().(*zstd.Decoder); ok {
		return z, nil
	}
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(1<<62),
		zstd.IgnoreChecksum(true)) // Set.Fetch compares a SHA-256 of all of it
}

// zstdWindow is the memory that the first frame of b will want: its window, held twice over while it moves.
func zstdWindow(b *bufio.Reader) int64 {
	start, _ := b.Peek(zstd.HeaderMaxSize)
	var h zstd.Header
	if h.Decode(start) != nil {
		return 0
	}
	return 2 * int64(min(h.WindowSize, maxWindow))
}

// noEOF keeps an input that ends inside a header from reading as an empty stream.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
