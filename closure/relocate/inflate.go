package relocate

import (
	"bytes"
	"compress/bzip2"
	"errors"
	"io"
	"slices"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	lola "github.com/mikelolasagasti/xz"

	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
	"github.com/nixproot/nix-hydra-buildpack/closure/xz"
)

func (x *inspector) gzip(l *level, p location) error {
	if l.gzip == nil {
		l.gzip = new(gzip.Reader)
	}
	if err := l.gzip.Reset(l.Reader); err != nil {
		return err
	}
	return x.look(l.gzip, p)
}

func (x *inspector) zlib(l *level, p location) error {
	err := l.inflate()
	if errors.Is(err, zlib.ErrDictionary) {
		return unsupported("it needs a dictionary")
	}
	if err != nil {
		return err
	}
	return x.look(l.zlib, p)
}

// inflate makes l.zlib read the zlib stream that l is at.
func (l *level) inflate() (err error) {
	if l.zlib != nil {
		return l.zlib.(zlib.Resetter).Reset(l.Reader, nil)
	}
	l.zlib, err = zlib.NewReader(l.Reader)
	return err
}

func (x *inspector) bzip2(l *level, p location) error {
	return x.withNew(bzip2Window, func() error { return x.look(bzip2.NewReader(l.Reader), p) })
}

func (x *inspector) brotli(l *level, p location) error {
	head, _ := l.Peek(1)
	return x.withMemory(brotliWindow(head), func() error { return x.look(brotli.NewReader(l.Reader), p) })
}

func (x *inspector) xz(l *level, p location) error {
	head, _ := l.Peek(headLen)
	window, otherFilters := xz.FirstBlock(head)
	window = max(window, 1<<20)
	return x.withMemory(window, func() error {
		if otherFilters {
			r, err := lola.NewReader(l.Reader, uint32(window))
			if err != nil {
				return xzError(err)
			}
			return xzError(x.look(r, p))
		}
		if l.xz == nil {
			l.xz = xz.NewReader(nil, xz.Options{})
		}
		l.xz.Reset(l.Reader, xz.Options{MaxWindow: window})
		err := xzError(x.look(l.xz, p))
		if l.xz.Reset(nil, xz.Options{}); l.xz.Window() > keptXZWindow {
			l.xz = nil
		}
		return err
	})
}

// keptXZWindow is the largest dictionary, in bytes, that is kept for the next file.
const keptXZWindow = 1 << 20

// xzError marks what the decoders refuse though it may be intact.
func xzError(err error) error {
	var tooLarge *xz.WindowError
	if errors.As(err, &tooLarge) {
		return unsupported(err.Error())
	}
	return markRefusal(err, xz.ErrFilter, lola.ErrMemlimit, lola.ErrOptions, lola.ErrUnsupportedCheck)
}

// zstdError marks what the decoder refuses though it may be intact.
func zstdError(err error) error {
	return markRefusal(err, zstd.ErrUnknownDictionary, zstd.ErrWindowSizeExceeded, zstd.ErrDecoderSizeExceeded)
}

// markRefusal makes of a decoder's error that is one of refusals one that says so: see unreadable.
func markRefusal(err error, refusals ...error) error {
	if slices.ContainsFunc(refusals, func(refusal error) bool { return errors.Is(err, refusal) }) {
		return unsupported(err.Error())
	}
	return err
}

func (x *inspector) zstd(l *level, p location) error {
	head, _ := l.Peek(headLen)
	window, with := max(zstdWindow(head), smallWindows), x.withMemory
	if window > smallWindows {
		with = x.withNew
	}
	return with(window, func() error {
		if l.zstd == nil || window > smallWindows {
			var err error
			if l.zstd, err = decompress.NewZstd(nil, window); err != nil {
				return err
			}
		}
		if err := l.zstd.Reset(l.Reader); err != nil {
			return zstdError(err)
		}
		err := zstdError(x.look(l.zstd, p))
		if window > smallWindows {
			l.zstd = nil
			return err
		}
		return errors.Join(err, l.zstd.Reset(nil))
	})
}

// jimage goes through a JVM's run-time image, lib/modules: resources after one another, each of which may be
// compressed behind a header (JDK src/java.base/share/native/libjimage/imageDecompressor.hpp).
func (x *inspector) jimage(l *level, p location) error {
	const headerLen = 29
	marks := [][]byte{{0xfa, 0xfa, 0xfe, 0xca}, {0xca, 0xfe, 0xfa, 0xfa}}
	for {
		b, err := l.Peek(headerLen)
		if len(b) < headerLen {
			return err
		}
		b, _ = l.Peek(min(l.Buffered(), headLen)) // one may follow soon, so all of the buffer would be gone through each time
		at := -1
		for _, mark := range marks {
			if i := bytes.Index(b[:len(b)-headerLen+len(mark)], mark); i >= 0 && (at < 0 || i < at) {
				at = i
			}
		}
		if at < 0 {
			_, err = l.Discard(len(b) - headerLen + 1)
			if err != nil {
				return err
			}
			continue
		}
		if _, err := l.Discard(at + headerLen); err != nil {
			return err
		}
		if magic, _ := l.Peek(2); !isZlibHeader(magic) {
			continue // "compact-cp" shares strings with the image's table, which stands in plain text
		}
		if err := l.inflate(); err != nil {
			continue
		}
		inner := p.in(": resource", false)
		inner.kind = Compressed
		if err := x.look(l.zlib, inner); unreadable(err) || errors.Is(err, errStopped) {
			return err
		}
	}
}

// isZlibHeader reports whether b begins with the two bytes of RFC 1950.
func isZlibHeader(b []byte) bool {
	return len(b) >= 2 && b[0] == 0x78 && (uint(b[0])<<8|uint(b[1]))%31 == 0
}

// rdb goes through the values of an R package (R src/main/serialize.c, R_lazyLoadDBfetch): each has its inflated size
// in four bytes, then a zlib stream, or a letter for another compression and data whose end only the index knows.
func (x *inspector) rdb(l *level, p location) error {
	for {
		if _, err := l.Discard(4); err != nil {
			return err
		}
		head, err := l.Peek(2)
		if len(head) < 2 {
			return err
		}
		if isRecord(head[0]) {
			return unsupported("its values are not zlib streams")
		}
		if err := l.inflate(); err != nil {
			return err
		}
		if err := x.look(l.zlib, p); err != nil {
			return err
		}
	}
}

// isRecord reports whether c marks a value of an R package as stored, zlib behind a letter, bzip2 or xz.
func isRecord(c byte) bool { return c == rdbStored || c == rdbZlib || c == rdbBzip2 || c == rdbLZMA2 }

// gitPack goes through the objects of a pack (git Documentation/gitformat-pack.txt). Deltas are looked at as they
// stand: what they copy stands in another object.
func (x *inspector) gitPack(l *level, p location) error {
	p.kind = Compressed
	var head [12]byte
	if _, err := io.ReadFull(l, head[:]); err != nil {
		return err
	}
	count := uint32(head[8])<<24 | uint32(head[9])<<16 | uint32(head[10])<<8 | uint32(head[11])
	for range count {
		if err := skipPackEntry(l); err != nil {
			return err
		}
		if err := l.inflate(); err != nil {
			return err
		}
		if err := x.look(l.zlib, p); err != nil {
			return err
		}
	}
	return nil
}

// gitBundle goes through a bundle: lines up to an empty one, and a pack.
func (x *inspector) gitBundle(l *level, p location) error {
	for {
		line, err := l.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 1 {
			return x.gitPack(l, p)
		}
	}
}

// skipPackEntry reads what stands before an object's compressed data: type and size, and the base of a delta.
func skipPackEntry(l *level) error {
	const ofsDelta, refDelta = 6, 7
	first, err := l.ReadByte()
	for c := first; err == nil && c&0x80 != 0; {
		c, err = l.ReadByte()
	}
	if err != nil {
		return err
	}
	switch first >> 4 & 7 {
	case ofsDelta:
		for c := byte(0x80); err == nil && c&0x80 != 0; {
			c, err = l.ReadByte()
		}
	case refDelta:
		_, err = l.Discard(20)
	}
	return err
}
