package decompress

import (
	"bytes"
	"errors"
	"io"

	lola "github.com/mikelolasagasti/xz"

	"github.com/nixproot/nix-hydra-buildpack/closure/xz"
)

const (
	// minXZClass is the smallest dictionary that decoders are kept for, and maxXZClass the largest, that of xz's default
	// level, as logarithms to base 2.
	minXZClass = 20
	maxXZClass = 23
	// windowSlack is what a decoder has besides its dictionary.
	windowSlack = 64 << 10
)

// xzClass is the size of a decoder's dictionary as a logarithm to base 2. Decoders are kept by it, so that none is made
// anew because the one at hand has too small a dictionary, or holds more than was reserved.
type xzClass int

func xzClassOf(window int64) xzClass {
	if window <= 1<<minXZClass {
		return minXZClass
	}
	return maxXZClass
}

// expectedClass is of the dictionary that a stream of size bytes, 0 for unknown, is likely to want: no larger than what
// it holds.
func expectedClass(size int64) xzClass {
	if size <= 0 {
		return maxXZClass
	}
	return xzClassOf(size)
}

func xzDecoder(r io.Reader, size int64, b bounds) (io.ReadCloser, error) {
	// Only what may run takes a decoder out of the pool, and none with more memory than it has reserved.
	x := &xzReader{src: r, lease: b.lease}
	class := expectedClass(size)
	if err := x.lease.grow(1<<class + windowSlack); err != nil {
		return nil, err
	}
	z, ok := x.lease.windows.take(class).(*xz.Reader)
	if !ok {
		z = xz.NewReader(nil, xz.Options{})
	}
	z.Reset(r, xz.Options{
		MaxWindow: b.window, Size: size,
		SkipCheck: true, Reserve: x.lease.grow,
	})
	x.z = z
	return x, nil
}

// xzReader is a pooled xz.Reader that hands streams with filters other than LZMA2 to a decoder that knows them.
type xzReader struct {
	z     *xz.Reader
	src   io.Reader
	lease lease
	other io.Reader
	began bool
}

func (x *xzReader) Read(p []byte) (int, error) {
	switch {
	case x.z == nil:
		return 0, errClosed
	case x.other != nil:
		return x.other.Read(p)
	}
	n, err := x.z.Read(p)
	if !x.began && errors.Is(err, xz.ErrFilter) {
		return x.change(p)
	}
	x.began = true
	return n, err
}

// change starts over with a decoder for all filters.
func (x *xzReader) change(p []byte) (int, error) {
	x.began = true
	if err := x.lease.grow(maxWindow); err != nil { // it does not tell how much it takes
		return 0, err
	}
	other, err := lola.NewReader(io.MultiReader(bytes.NewReader(x.z.Head()), x.src), maxWindow)
	if err != nil {
		return 0, noEOF(err)
	}
	x.other = other
	return other.Read(p)
}

func (x *xzReader) Close() error {
	if x.z == nil {
		return nil
	}
	x.lease.release()
	if window := x.z.Window(); window <= 1<<maxXZClass+windowSlack {
		x.z.Reset(nil, xz.Options{})
		x.lease.windows.keep(xzClassOf(window-windowSlack), window, x.z)
	}
	x.z, x.other = nil, nil
	return nil
}
