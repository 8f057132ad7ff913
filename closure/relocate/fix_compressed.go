package relocate

import (
	"bytes"
	stdbzip2 "compress/bzip2"
	stdgzip "compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	lola "github.com/mikelolasagasti/xz"
	ulikunitz "github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
	"github.com/nixproot/nix-hydra-buildpack/closure/xz"
)

// gzip compresses a gzip file anew, as one member with the header of the first (RFC 1952). Files with an index over
// compressed blocks in an extra field (dictzip, BGZF) are not touched: the index would be wrong.
func (f *fixer) gzip(s source) ([]edit, error) {
	in := bytes.NewReader(s.data)
	r, err := gzip.NewReader(in)
	if err != nil {
		return nil, errMalformed
	}
	header := r.Header
	data, err := f.recompress(s, stem(s.name), &gzipMembers{in, r}, asGzip(header))
	if err == nil && data != nil && len(header.Extra) > 0 {
		err = blockedBy(Compressed, "a reference in gzip with an extra field, which may be an index")
	}
	return whole(s, data, err)
}

// errMore says that something stands behind what is compressed, which would be lost.
var errMore = fmt.Errorf("%w: something is behind it", errMalformed)

// gzipMembers reads the members of a gzip file, and the zeros that may fill its last block, as gzip(1) does.
type gzipMembers struct {
	in *bytes.Reader
	*gzip.Reader
}

func (g *gzipMembers) Read(p []byte) (int, error) {
	for {
		g.Multistream(false)
		n, err := g.Reader.Read(p)
		if n > 0 || err != io.EOF {
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
		at := g.in.Size() - int64(g.in.Len())
		for {
			c, err := g.in.ReadByte()
			if err != nil {
				return 0, err
			}
			if c != 0 {
				break
			}
		}
		if _, err := g.in.Seek(at, io.SeekStart); err != nil {
			return 0, err
		}
		if err := g.Reset(g.in); err != nil {
			return 0, err
		}
	}
}

// WriteTo is not to be had: it would stop at the first member.
func (g *gzipMembers) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{g}) }

// asGzip makes gzip with a header.
func asGzip(header gzip.Header) compressor {
	c := compressor{cost: 1, longer: longerGzip, open: func(w io.Writer) (io.WriteCloser, error) {
		z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err == nil {
			z.Header = header
		}
		return z, err
	}}
	other := c // which looks for what repeats in another way
	other.open = func(w io.Writer) (io.WriteCloser, error) {
		z, err := stdgzip.NewWriterLevel(w, stdgzip.BestCompression)
		if err == nil {
			z.Header = stdgzip.Header(header)
		}
		return z, err
	}
	c.stronger = &other
	return c
}

// longerGzip puts empty blocks before the checksum and the size that gzip ends with.
func longerGzip(end []byte, by int) ([]byte, bool) {
	sums := max(0, len(end)-8)
	blocks, ok := emptyBlocks(sums + by)
	return append(blocks, end[sums:]...), ok
}

// zlib compresses a zlib file anew (RFC 1950), but for git's objects, whose names are hashes of what they hold.
func (f *fixer) zlib(s source) ([]edit, error) {
	in := bytes.NewReader(s.data)
	r, err := zlib.NewReader(in)
	if err != nil {
		return nil, errMalformed
	}
	plain, err := f.inflated(s, r)
	if err != nil {
		return nil, err
	}
	if in.Len() > 0 {
		return nil, errMore
	}
	isObject := isGitObject(plain)
	data, err := f.recompressPlain(s, stem(s.name), plain, asZlib)
	switch {
	case data != nil && isObject:
		return nil, blockedBy(Checksummed, "a reference in a git object, which is named by its hash")
	case data != nil && s.data[0] != zlibLargest:
		return nil, blockedBy(Compressed, "a reference in zlib whose reader may have no room for a larger window")
	}
	return whole(s, data, err)
}

var asZlib = compressor{cost: 1, open: func(w io.Writer) (io.WriteCloser, error) {
	return zlib.NewWriterLevel(w, zlib.BestCompression)
}}

// isGitObject reports whether b begins as git's loose objects do: type, size, NUL.
func isGitObject(b []byte) bool {
	head, _, ok := bytes.Cut(b[:min(len(b), 32)], []byte{0})
	kind, size, _ := strings.Cut(string(head), " ")
	_, err := strconv.ParseUint(size, 10, 63)
	return ok && err == nil && (kind == "blob" || kind == "tree" || kind == "commit" || kind == "tag")
}

// zstdSeekTable ends a zstd file that has the places of its frames (zstd's contrib/seekable_format).
const zstdSeekTable = "\xb1\xea\x92\x8f"

// zstd compresses a zstd file anew (RFC 8878), as one frame, for decoders of no larger a window than before.
func (f *fixer) zstd(s source) ([]edit, error) {
	window := int64(smallWindows)
	h := zstd.Header{HasCheckSum: true}
	if err := h.Decode(afterSkippable(s.data)); err == nil && !h.SingleSegment {
		window = int64(h.WindowSize)
	}
	r, err := decompress.NewZstd(bytes.NewReader(s.data), maxWindows)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if window > smallWindows && !f.budget.takes(window) {
		return nil, errBudget
	}
	size := 1 << 10
	for int64(2*size) <= min(window, smallWindows) {
		size *= 2
	}
	data, err := f.recompress(s, stem(s.name), r, asZstd(size, h))
	if err == nil && data != nil && bytes.HasSuffix(s.data, []byte(zstdSeekTable)) {
		return nil, blockedBy(Compressed, "a reference in zstd with an index of its frames")
	}
	return whole(s, data, err)
}

// asZstd makes zstd with a window of that size, whose head says as much as one does that was there.
func asZstd(window int, like zstd.Header) compressor {
	with := func(level zstd.EncoderLevel, stronger *compressor) compressor {
		return compressor{cost: 1, longer: longerZstd, stronger: stronger, open: func(w io.Writer) (io.WriteCloser, error) {
			return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithEncoderLevel(level),
				zstd.WithEncoderCRC(like.HasCheckSum))
		}, head: func(packed []byte, size int) []byte { return zstdHead(packed, size, like) }}
	}
	best := with(zstd.SpeedBestCompression, nil)
	return with(zstd.SpeedBetterCompression, &best)
}

// zstdHead has a frame say what it is unpacked to, in bytes, where another did: those who unpack all at once ask for that (RFC
// 8878, 3.1.1.1). The frame's own head has a descriptor and a window of a byte each.
func zstdHead(packed []byte, size int, like zstd.Header) []byte {
	const head, checksum, single = len(zstdMark) + 2, 1 << 2, 1 << 5
	if !like.HasFCS || len(packed) < head {
		return packed
	}
	next := append([]byte(zstdMark), packed[len(zstdMark)]&checksum)
	if like.SingleSegment {
		next[len(zstdMark)] |= single
	} else {
		next = append(next, packed[head-1])
	}
	switch {
	case size < 1<<8 && like.SingleSegment:
		next = append(next, byte(size))
	case 1<<8 <= size && size < 1<<8+1<<16:
		next[len(zstdMark)] |= 1 << 6
		next = binary.LittleEndian.AppendUint16(next, uint16(size-1<<8))
	default:
		next[len(zstdMark)] |= 2 << 6
		next = binary.LittleEndian.AppendUint32(next, uint32(size))
	}
	return append(next, packed[head:]...)
}

// longerZstd puts empty blocks before the last: raw ones of three bytes, and ones of a byte that is repeated no times, of four.
func longerZstd(end []byte, by int) ([]byte, bool) {
	const raw, repeated = "\x00\x00\x00", "\x02\x00\x00\x00"
	fours := by % len(raw)
	if by < max(0, fours*len(repeated)) {
		return nil, false
	}
	threes := (by - fours*len(repeated)) / len(raw)
	return slices.Concat(bytes.Repeat([]byte(repeated), max(0, fours)), bytes.Repeat([]byte(raw), threes), end), true
}

// xz compresses an .xz file anew (xz-file-format), with a dictionary no larger than before.
func (f *fixer) xz(s source) ([]edit, error) {
	r, err := xzReader(s.data)
	if err != nil {
		return nil, errMalformed
	}
	const checkAt = 7 // behind the mark: the check over what is unpacked, of which not every reader has all
	window, _ := xz.FirstBlock(s.data)
	config := ulikunitz.WriterConfig{DictCap: int(min(max(window, 1<<12), smallWindows))}
	if len(s.data) > checkAt {
		config.CheckSum, config.NoCheckSum = s.data[checkAt], s.data[checkAt] == ulikunitz.None
	}
	data, err := f.recompress(s, stem(s.name), r, compressor{cost: slowCost, open: func(w io.Writer) (io.WriteCloser, error) {
		return config.NewWriter(w)
	}})
	return whole(s, data, err)
}

// xzReader reads an .xz file, with filters before the compression too.
func xzReader(data []byte) (io.Reader, error) {
	if _, otherFilters := xz.FirstBlock(data); otherFilters {
		return lola.NewReader(bytes.NewReader(data), maxWindows)
	}
	return xz.NewReader(bytes.NewReader(data), xz.Options{MaxWindow: maxWindows}), nil
}

// bzip2 compresses a bzip2 file anew, in blocks of the same size.
func (f *fixer) bzip2(s source) ([]edit, error) {
	if !f.budget.takes(bzip2Window) {
		return nil, errBudget
	}
	data, err := f.recompress(s, stem(s.name), stdbzip2.NewReader(bytes.NewReader(s.data)), asBzip2(s.data))
	return whole(s, data, err)
}

// asBzip2 makes bzip2 in blocks as large as those of the stream in like.
func asBzip2(like []byte) compressor {
	level := bzip2.BestCompression
	if len(like) > 3 && '1' <= like[3] && like[3] <= '9' {
		level = int(like[3] - '0')
	}
	return compressor{cost: slowCost, open: func(w io.Writer) (io.WriteCloser, error) {
		return bzip2.NewWriter(w, &bzip2.WriterConfig{Level: level})
	}}
}

// lzma compresses an .lzma file anew, with a dictionary no larger than before, and with its size in the head where it had that.
func (f *fixer) lzma(s source) ([]edit, error) {
	dictionary := int64(binary.LittleEndian.Uint32(s.data[1:]))
	if !f.budget.takes(dictionary) {
		return nil, errBudget
	}
	in := bytes.NewReader(s.data)
	r, err := lzma.ReaderConfig{DictCap: maxWindows}.NewReader(in)
	if err != nil {
		return nil, errMalformed
	}
	known := binary.LittleEndian.Uint64(s.data[5:]) != math.MaxUint64
	data, err := f.recompress(s, stem(s.name), r, compressor{cost: slowCost, sized: func(w io.Writer, size int) (io.WriteCloser, error) {
		config := lzma.WriterConfig{DictCap: int(min(max(dictionary, 1<<12), smallWindows)), SizeInHeader: known}
		if known {
			config.Size = int64(size)
		}
		return config.NewWriter(w)
	}})
	if err == nil && in.Len() > 0 {
		err = errMore
	}
	return whole(s, data, err)
}

// brotli compresses a brotli file anew (RFC 7932), with a window no larger than before.
func (f *fixer) brotli(s source) ([]edit, error) {
	bits := 16
	for 1<<(bits+1) <= brotliWindow(s.data) && bits < 24 {
		bits++
	}
	data, err := f.recompress(s, stem(s.name), brotli.NewReader(bytes.NewReader(s.data)), asBrotli(bits))
	if errors.Is(err, errMalformed) && isText(s.data) { // of which only the name says that it is brotli
		return f.unread(s, format{})
	}
	return whole(s, data, err)
}

// asBrotli makes brotli with a window of so many bits.
func asBrotli(bits int) compressor {
	with := func(quality int, stronger *compressor) compressor {
		return compressor{cost: slowCost, longer: longerBrotli, stronger: stronger, open: func(w io.Writer) (io.WriteCloser, error) {
			return brotli.NewWriterOptions(w, brotli.WriterOptions{Quality: quality, LGWin: bits}), nil
		}}
	}
	best := with(brotli.BestCompression, nil)
	best.cost = slowestCost
	return with(9, &best)
}

// longerBrotli puts blocks of metadata before the last block (RFC 7932, 9.2): empty ones of a byte, and longer ones of 258 in all.
func longerBrotli(end []byte, by int) ([]byte, bool) {
	const empty, long = "\x06", "\xd6\x3f"
	if by < 0 {
		return nil, false
	}
	metadata := append([]byte(long), make([]byte, 256)...)
	return slices.Concat(bytes.Repeat(metadata, by/len(metadata)), bytes.Repeat([]byte(empty), by%len(metadata)), end), true
}
