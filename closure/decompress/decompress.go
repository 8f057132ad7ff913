// Package decompress unpacks the compressions that binary caches use, from pooled decoders with bounded windows.
//
// The names are those of a narinfo's Compression field (NixOS/nix src/libutil/compression.cc); the same decoders
// serve HTTP's Content-Encoding.
package decompress

import (
	"bufio"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
)

// maxWindow is the largest window or dictionary a stream may ask for. It is what `xz -9` writes and half of what
// `zstd --ultra -22` does without --long.
const maxWindow = 128 << 20

// maxEncodingWindow is the largest window that a Content-Encoding may ask for (RFC 9659 says so for zstd).
const maxEncodingWindow = 8 << 20

// UnknownError says that no decoder here knows a compression.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("no decoder for %q: not supported (supported: xz, zstd, bzip2, br, gzip, none)", e.Name)
}

// Pool makes decoders and keeps them for reuse. It is safe for concurrent use.
type Pool struct {
	files   *windows  // of a NAR: its own compression, and Content-Encodings beneath that
	pages   *windows  // of Content-Encodings of anything else, which does not wait for NARs
	buffers sync.Pool // *bufio.Reader
	gzips   sync.Pool // *gzip.Reader
	brotlis sync.Pool // *brotli.Reader
}

// bounds are those of one decoder's window, and the memory that it is taken from.
type bounds struct {
	lease  lease
	window int64
}

// NewPool makes a Pool whose decoders hold windows of together no more than size bytes, but for the share that overdraws.
// One that wants more runs alone.
func NewPool(size int64) *Pool {
	const pages = 2 * (maxEncodingWindow + zstdSlack)
	return &Pool{files: &windows{budget: memory.NewBudget(size)}, pages: &windows{budget: memory.NewBudget(pages)}}
}

// Share gives a context under which everything that is decoded of one file has one share of the pool's memory: its
// compression, Content-Encodings beneath that, and what whoever reads it decodes of it.
func (p *Pool) Share(ctx context.Context) context.Context {
	return memory.With(ctx, p.files.budget.Share())
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
// here or in Read, until there is memory for its window or ctx ends. The checksums of xz and zstd are not compared: whoever
// reads has a hash of all of it.
func (p *Pool) Reader(ctx context.Context, name string, r io.Reader, size int64) (io.ReadCloser, error) {
	return p.reader(name, r, size, bounds{p.files.lease(ctx), maxWindow})
}

// Encoding is Reader for a Content-Encoding of HTTP, and knows deflate too. Without a Share it has memory of its own.
func (p *Pool) Encoding(ctx context.Context, name string, r io.Reader) (io.ReadCloser, error) {
	if name == "deflate" {
		return p.deflate(r)
	}
	windows := p.pages
	if memory.Has(ctx) {
		windows = p.files
	}
	return p.reader(name, r, 0, bounds{windows.lease(ctx), maxEncodingWindow})
}

func (p *Pool) reader(name string, r io.Reader, size int64, b bounds) (io.ReadCloser, error) {
	switch name {
	case "none", "identity":
		return io.NopCloser(r), nil
	case "", "bzip2":
		b := p.buffer(r)
		return &pooled{Reader: bzip2.NewReader(b), release: func() { p.releaseBuffer(b) }}, nil
	case "gzip", "x-gzip":
		return p.gzip(r)
	case "br":
		return p.brotli(r, b)
	case "zstd":
		return p.zstd(r, b)
	case "xz":
		return xzDecoder(r, size, b)
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

// deflate is in the format of zlib (RFC 9110, section 8.4.1.2), which some servers leave away.
func (p *Pool) deflate(r io.Reader) (io.ReadCloser, error) {
	b := p.buffer(r)
	var z io.Reader
	if head, _ := b.Peek(2); len(head) == 2 && head[0]&0xf == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		var err error
		if z, err = zlib.NewReader(b); err != nil {
			p.releaseBuffer(b)
			return nil, noEOF(err)
		}
	} else {
		z = flate.NewReader(b)
	}
	return &pooled{Reader: z, release: func() { p.releaseBuffer(b) }}, nil
}

func (p *Pool) brotli(r io.Reader, bounds bounds) (io.ReadCloser, error) {
	b, lease := p.buffer(r), &bounds.lease
	start, err := b.Peek(1)
	if err == nil {
		err = lease.grow(BrotliWindow(start[0]))
	}
	if err != nil {
		p.releaseBuffer(b)
		return nil, noEOF(err)
	}
	z, ok := p.brotlis.Get().(*brotli.Reader)
	if !ok {
		z = brotli.NewReader(b)
	} else if err := z.Reset(b); err != nil {
		lease.release()
		p.releaseBuffer(b)
		return nil, err
	}
	return &pooled{Reader: z, release: func() { p.brotlis.Put(z); p.releaseBuffer(b); lease.release() }}, nil
}

// noEOF keeps an input that ends inside a header from reading as an empty stream.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
