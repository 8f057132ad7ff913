package decompress

import (
	"bufio"
	"io"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// minClass is the smallest bound that zstd decoders are made for, as the logarithm to base 2.
	minClass = 20
	maxClass = 27
	// zstdSlack is what a decoder holds besides its window: two blocks.
	zstdSlack = 256 << 10
)

// zstdPool keeps decoders by the bound of their windows, a power of two. A decoder refuses a frame that wants more
// than its bound, and so never holds more than was reserved for it, whatever a file's later frames ask for.
type zstdPool [maxClass - minClass + 1]sync.Pool // of *zstd.Decoder

// class is the place in the pool for windows of that size.
func class(window int64) int {
	return max(bits.Len64(uint64(window-1)), minClass) - minClass
}

func (p *zstdPool) get(class int) (*zstd.Decoder, error) {
	if z, ok := p[class].Get().(*zstd.Decoder); ok {
		return z, nil
	}
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(1<<(class+minClass)), zstd.WithDecoderMaxMemory(1<<62),
		zstd.IgnoreChecksum(true)) // Set.Fetch compares a SHA-256 of all of it
}

func (p *Pool) zstd(r io.Reader, allowed bounds) (io.ReadCloser, error) {
	in := allowed.input(r)
	b := p.buffer(in)
	window := zstdWindow(b, allowed.window)
	// Only what may run takes a decoder out of the pool: the window of one that was used before stays allocated.
	in.want(window + zstdSlack)
	class := class(window)
	z, err := p.zstds.get(class)
	if err == nil {
		err = z.Reset(b)
	}
	if err != nil {
		in.release()
		p.releaseBuffer(b)
		return nil, err
	}
	return &pooled{Reader: z, release: func() {
		if z.Reset(nil) == nil {
			p.zstds[class].Put(z)
		}
		p.releaseBuffer(b)
		in.release()
	}}, nil
}

// zstdWindow is the window that the first frame of b wants, at most limit; limit itself where the file begins with
// something else, which says nothing about the frames behind it.
func zstdWindow(b *bufio.Reader, limit int64) int64 {
	start, _ := b.Peek(zstd.HeaderMaxSize)
	var h zstd.Header
	if h.Decode(start) != nil || h.Skippable {
		return limit
	}
	window := h.WindowSize
	if h.SingleSegment {
		window = h.FrameContentSize
	}
	return int64(max(1, min(window, uint64(limit))))
}
