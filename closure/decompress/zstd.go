package decompress

import (
	"bufio"
	"fmt"
	"io"
	"math/bits"

	"github.com/klauspost/compress/zstd"
)

const (
	// minClass is the smallest bound that zstd decoders are made for, as the logarithm to base 2.
	minClass = 20
	// zstdSlack is what a decoder holds besides its window: two blocks.
	zstdSlack = 256 << 10
)

// zstdClass is the bound of a decoder's window as a logarithm to base 2. A decoder refuses a frame that wants more than
// its bound, and so never holds more than was reserved for it.
type zstdClass int

func zstdClassOf(window int64) zstdClass {
	c := max(bits.Len64(uint64(max(window, 1)-1)), minClass)
	if c > minClass {
		c = max(c, maxXZClass)
	}
	return zstdClass(c)
}

// bytes are what a decoder of that class holds.
func (c zstdClass) bytes() int64 { return 1<<c + zstdSlack }

// zstdDecoder is one that waits in m, or a new one.
func zstdDecoder(m *windows, c zstdClass) (*zstd.Decoder, error) {
	if z, ok := m.take(c).(*zstd.Decoder); ok {
		return z, nil
	}
	return NewZstd(nil, 1<<c, zstd.IgnoreChecksum(true))
}

// NewZstd makes a decoder of r, which may be nil until it is reset: for frames whose windows have no more than that many bytes,
// and with no goroutine. It compares checksums.
func NewZstd(r io.Reader, window int64, more ...zstd.DOption) (*zstd.Decoder, error) {
	return zstd.NewReader(r, append(more, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(uint64(window)))...)
}

// zstdReader decodes the frames of a file one by one, each by a decoder for its own window.
type zstdReader struct {
	src   *bufio.Reader
	lease lease
	limit int64 // of a window
	frame zstdFrame
	z     *zstd.Decoder
	class zstdClass
	began bool // there was a frame
	err   error
}

func (p *Pool) zstd(r io.Reader, b bounds) (io.ReadCloser, error) {
	src := p.buffer(r)
	z := &zstdReader{src: src, lease: b.lease, limit: b.window}
	if err := z.next(); err != nil && err != io.EOF {
		z.err = err
	}
	return &pooled{Reader: z, release: func() {
		z.release()
		p.releaseBuffer(src)
	}}, nil
}

func (z *zstdReader) Read(p []byte) (int, error) {
	for z.err == nil {
		if z.z == nil {
			z.err = z.next()
			continue
		}
		n, err := z.z.Read(p)
		switch {
		case err == io.EOF && !z.frame.ended:
			err = io.ErrUnexpectedEOF
		case err == io.EOF:
			if err = z.next(); err == nil && n == 0 {
				continue
			}
		}
		z.err = err
		if n > 0 {
			return n, nil
		}
	}
	return 0, z.err
}

// next goes on to the next frame with content: io.EOF where there is none, which is an error of its own kind when none
// came before.
func (z *zstdReader) next() error {
	for {
		start, err := z.src.Peek(zstd.HeaderMaxSize)
		if len(start) == 0 {
			if err == io.EOF && !z.began {
				return io.ErrUnexpectedEOF
			}
			return err
		}
		var h zstd.Header
		if broken := h.Decode(start); broken != nil {
			if err != nil && err != io.EOF {
				return err
			}
			return noEOF(broken)
		}
		z.began = true
		if !h.Skippable {
			return z.decode(h)
		}
		if _, err := io.CopyN(io.Discard, z.src, int64(h.HeaderSize)+int64(h.SkippableSize)); err != nil {
			return noEOF(err)
		}
	}
}

// decode makes a decoder ready for a frame, the present one where its window is large enough.
func (z *zstdReader) decode(h zstd.Header) error {
	window := ZstdWindow(h)
	if window > z.limit {
		return fmt.Errorf("%w: %d bytes, allowed are %d", zstd.ErrWindowSizeExceeded, window, z.limit)
	}
	if c := zstdClassOf(window); z.z == nil || c > z.class {
		z.release()
		// Only what may run takes a decoder out of the pool: the window of one that was used before stays allocated.
		if err := z.lease.grow(c.bytes()); err != nil {
			return err
		}
		var err error
		if z.z, err = zstdDecoder(z.lease.windows, c); err != nil {
			return err
		}
		z.class = c
	}
	z.frame = zstdFrame{src: z.src, left: h.HeaderSize, checksum: h.HasCheckSum}
	return z.z.Reset(&z.frame)
}

func (z *zstdReader) release() {
	z.lease.release()
	if z.z != nil && z.z.Reset(nil) == nil {
		z.lease.windows.keep(z.class, z.class.bytes(), z.z)
	}
	z.z = nil
}

// zstdFrame is the part of a file that one frame takes: a header, blocks behind headers of three bytes each, and
// perhaps a checksum (RFC 8878, section 3.1.1).
type zstdFrame struct {
	src      *bufio.Reader
	left     int // bytes until the next block's header, or the end
	last     bool
	checksum bool
	ended    bool // all of the frame was there
}

func (f *zstdFrame) Read(p []byte) (int, error) {
	if f.left == 0 {
		if f.last {
			f.ended = true
			return 0, io.EOF
		}
		if err := f.block(); err != nil {
			return 0, err
		}
	}
	n, err := f.src.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, noEOF(err)
}

// block looks at the header of the next block.
func (f *zstdFrame) block() error {
	const (
		header   = 3
		runs     = 1 // one byte, repeated
		checksum = 4
	)
	b, err := f.src.Peek(header)
	if err != nil {
		return noEOF(err)
	}
	head := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
	f.last = head&1 != 0
	size := head >> 3
	if head>>1&3 == runs {
		size = 1
	}
	f.left = header + size
	if f.last && f.checksum {
		f.left += checksum
	}
	return nil
}

// ZstdParts reads a file as it is, and calls again at each frame after the first, and at each that decoders skip.
func ZstdParts(r io.Reader, again func()) io.Reader {
	return &zstdParts{frame: zstdFrame{src: bufio.NewReader(r), last: true}, again: again}
}

type zstdParts struct {
	frame zstdFrame
	began bool
	again func()
}

// Read reads a piece of a frame, and what is no frame, for a decoder to refuse.
func (z *zstdParts) Read(p []byte) (int, error) {
	if z.frame.left == 0 && z.frame.last {
		start, err := z.frame.src.Peek(zstd.HeaderMaxSize)
		if len(start) == 0 {
			return 0, err
		}
		var h zstd.Header
		if h.Decode(start) != nil {
			return z.frame.src.Read(p)
		}
		if z.began || h.Skippable {
			z.again()
		}
		z.began = true
		z.frame = zstdFrame{src: z.frame.src, left: h.HeaderSize, checksum: h.HasCheckSum}
		if h.Skippable {
			z.frame.left, z.frame.last = h.HeaderSize+int(h.SkippableSize), true
		}
	}
	return z.frame.Read(p)
}
