package relocate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/flate"
)

// jmod goes through a JDK module file: a zip behind four bytes.
func (x *inspector) jmod(l *level, p location) error {
	if _, err := l.Discard(4); err != nil {
		return err
	}
	return x.zip(l, p)
}

// laterZip goes through a zip archive that stands behind something else: a #! line or script, as Python's zipapp and
// Java's launchers make them, or its own directory.
func (x *inspector) laterZip(l *level, p location) error {
	if err := l.toZipMember(); err != nil {
		return err
	}
	return x.zip(l, p)
}

// toZipMember goes on to where a member of a zip archive begins.
func (l *level) toZipMember() error {
	for {
		// Not more than is there, where that will do: the next one may be near, and the buffer would be moved for each.
		if l.Buffered() < len(zipMark) {
			_, _ = l.Peek(len(zipMark))
		}
		b, err := l.Peek(max(l.Buffered(), len(zipMark)))
		if at := bytes.Index(b, []byte(zipMark)); at >= 0 {
			_, err := l.Discard(at)
			return err
		}
		if err != nil {
			return err
		}
		if _, err := l.Discard(len(b) - len(zipMark) + 1); err != nil {
			return err
		}
	}
}

const (
	zipMark    = "PK\x03\x04"
	zipHeader  = 30 // bytes before the name
	zipEncrypt = 1 << 0
	zipLZMAEnd = 1 << 1 // a mark ends what LZMA has compressed
	zipStream  = 1 << 3 // sizes and CRC stand behind the data
)

// The compression methods that can be looked into.
const (
	zipStore   = 0
	zipDeflate = 8
	zipBzip2   = 12
	zipLZMA    = 14
	zipZstd    = 93
	zipXZ      = 95
)

// zip goes through the members of a zip archive in the order they stand, by their local headers (PKWARE APPNOTE.TXT).
// Between them may be anything.
func (x *inspector) zip(l *level, p location) error {
	for {
		head, err := l.Peek(zipHeader)
		if err != nil {
			return nil
		}
		// Behind the directory, which has the names again, another archive may begin: what is read is the last one.
		if string(head[:len(zipMark)]) != zipMark {
			if err := l.toZipMember(); err != nil {
				return err
			}
			continue
		}
		m := zipMember{
			flags:  binary.LittleEndian.Uint16(head[6:]),
			method: binary.LittleEndian.Uint16(head[8:]),
			size:   int64(binary.LittleEndian.Uint32(head[18:])), unpacked: int64(binary.LittleEndian.Uint32(head[22:])),
		}
		name := make([]byte, binary.LittleEndian.Uint16(head[26:]))
		extra := make([]byte, binary.LittleEndian.Uint16(head[28:]))
		if _, err := l.Discard(zipHeader); err != nil {
			return err
		}
		if _, err := io.ReadFull(l, name); err != nil {
			return err
		}
		if _, err := io.ReadFull(l, extra); err != nil {
			return err
		}
		if at := zip64Sizes(extra); at >= 0 && m.size == math.MaxUint32 {
			m.size = int64(binary.LittleEndian.Uint64(extra[at+8:]) & math.MaxInt64)
		}
		if err := x.zipMember(l, m, p.member(string(name))); err != nil {
			return err
		}
	}
}

type zipMember struct {
	flags, method  uint16
	size, unpacked int64 // compressed and not
}

// zip64Sizes gives the place of a member's size, and of its compressed size behind that, in its extra fields, or -1.
func zip64Sizes(extra []byte) int {
	for at := 0; at+4 <= len(extra); {
		id, n := binary.LittleEndian.Uint16(extra[at:]), int(binary.LittleEndian.Uint16(extra[at+2:]))
		if at += 4; id == 1 && n >= 16 && at+16 <= len(extra) {
			return at
		}
		at += n
	}
	return -1
}

// zipMember looks into one member and leaves l behind it.
func (x *inspector) zipMember(l *level, m zipMember, p location) error {
	unknown := m.flags&zipStream != 0 && m.size == 0
	switch {
	case m.flags&zipEncrypt != 0:
		return unsupported(p.via + " is encrypted")
	case m.method == zipDeflate:
		p.kind = Compressed
		if err := x.deflated(l, p); err != nil {
			return err
		}
	case unknown && m.method == zipStore:
		if err := x.stored(l, p); err != nil {
			return err
		}
	case unknown:
		return unsupported(p.via + " does not say its size")
	default:
		if err := x.zipSized(l, m, p); err != nil {
			return err
		}
	}
	if m.flags&zipStream != 0 {
		return skipDescriptor(l)
	}
	return nil
}

// stored looks into a stored member that ends where a descriptor with its size, or another record, stands.
func (x *inspector) stored(l *level, p location) error {
	r := &storedReader{l: l}
	if err := x.look(r, p); err != nil && (unreadable(err) || errors.Is(err, errStopped)) {
		return err
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// storedReader reads a stored member up to its descriptor.
type storedReader struct {
	l *level
	n uint64 // bytes read
}

func (s *storedReader) Read(p []byte) (int, error) {
	next, err := s.l.Peek(24)
	if s.ends(next) {
		return 0, io.EOF
	}
	if len(next) == 0 {
		return 0, err
	}
	next, _ = s.l.Peek(max(len(next), min(len(p), s.l.Buffered())))
	n := len(next)
	if at := bytes.Index(next[1:], []byte("PK")); at >= 0 {
		n = at + 1
	} else if n > 1 && next[n-1] == 'P' {
		n--
	}
	n, err = s.l.Read(p[:min(n, len(p))])
	s.n += uint64(n)
	return n, err
}

// ends reports whether next, up to 24 bytes, is no contents any more.
func (s *storedReader) ends(next []byte) bool {
	if len(next) < 4 || next[0] != 'P' || next[1] != 'K' {
		return false
	}
	switch string(next[2:4]) {
	case "\x07\x08":
		short := len(next) >= 16 && s.n == uint64(binary.LittleEndian.Uint32(next[8:]))
		return short || len(next) == 24 && s.n == binary.LittleEndian.Uint64(next[8:])
	case "\x01\x02", "\x03\x04":
		return s.n == 0
	}
	return false
}

// deflated looks into a member that says itself where it ends.
func (x *inspector) deflated(l *level, p location) error {
	if l.flate == nil {
		l.flate = flate.NewReader(l.Reader)
	} else if err := l.flate.(flate.Resetter).Reset(l.Reader, nil); err != nil {
		return err
	}
	return x.look(l.flate, p)
}

// zipSized looks into a member whose size is known.
func (x *inspector) zipSized(l *level, m zipMember, p location) error {
	var f format
	r := &io.LimitedReader{R: l.Reader, N: m.size}
	var content io.Reader = r
	switch m.method {
	case zipStore:
		return x.sized(l, m.size, p)
	case zipBzip2:
		f = format{name: "bzip2", look: (*inspector).bzip2, kind: Compressed}
	case zipLZMA:
		head, err := lzmaOfZip(r, m.flags, m.unpacked)
		if err != nil {
			return err
		}
		f, content = lzmaFormat(), io.MultiReader(bytes.NewReader(head), r)
	case zipZstd:
		f = format{name: "zstd", look: (*inspector).zstd, kind: Compressed}
	case zipXZ:
		f = format{name: "xz", look: (*inspector).xz, kind: Compressed}
	default:
		return unsupported(fmt.Sprintf("%s has the compression method %d", p.via, m.method))
	}
	if p.depth > maxDepth {
		return errDepth
	}
	inner := x.level(p.depth)
	inner.Reset(content)
	if err := x.lookAs(f, inner, p); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// skipDescriptor skips what stands behind a member whose header could not say its sizes, at most 24 bytes, where the next
// header is right behind it.
func skipDescriptor(l *level) error {
	next, err := l.Peek(28)
	if err != nil && err != io.EOF {
		return err
	}
	for _, n := range []int{0, 16, 12, 24, 20} {
		if len(next) >= n+4 && string(next[n:n+2]) == "PK" && string(next[n+2:n+4]) != "\x07\x08" {
			_, err := l.Discard(n)
			return err
		}
	}
	return nil
}

const (
	zipEnd    = "PK\x05\x06"
	zipEndLen = 22 // bytes, and then a comment
	// maxZipTail is how much the record that ends a zip archive can take.
	maxZipTail = zipEndLen + math.MaxUint16
)

// isZipEnd reports whether the record at buf[i:], which begins like one that ends a zip archive, is one of an archive that
// has members, with rest bytes from there to the file's end. Where the directory before it is out of sight, it may be.
func isZipEnd(buf []byte, i int, rest int64) bool {
	record := buf[i:]
	size, comment := int64(binary.LittleEndian.Uint32(record[12:])), int64(binary.LittleEndian.Uint16(record[20:]))
	return binary.LittleEndian.Uint32(record[4:]) == 0 && binary.LittleEndian.Uint16(record[8:]) > 0 &&
		string(record[8:10]) == string(record[10:12]) && zipEndLen+comment <= rest && size >= zipCentralLen &&
		(size > int64(i) || bytes.HasPrefix(buf[int64(i)-size:], []byte(zipCentral)))
}

// indexZipEnd gives the place of what begins like the record that ends a zip archive, or -1. Programs and texts have few K.
func indexZipEnd(buf []byte) int {
	for at := 0; ; at++ {
		n := bytes.IndexByte(buf[at:], zipEnd[1])
		if n < 0 {
			return -1
		}
		if at += n; at > 0 && bytes.HasPrefix(buf[at-1:], []byte(zipEnd)) {
			return at - 1
		}
	}
}

// hasZip reports whether one of the places buf[from:to] may begin the record that ends a zip archive, with rest bytes of the file
// behind buf.
func hasZip(buf []byte, from, to int, rest int64) bool {
	for i := from; ; i++ {
		n := indexZipEnd(buf[i:min(to+len(zipEnd)-1, len(buf))])
		if i += n; n < 0 || i+zipEndLen > len(buf) {
			return false
		}
		if isZipEnd(buf, i, int64(len(buf)-i)+rest) {
			return true
		}
	}
}

// endsZip reports whether one of the places buf[from:to] begins the record that ends a zip archive, near the end of the
// file, of which rest bytes stand behind buf.
func endsZip(buf []byte, from, to int, rest int64) bool {
	if rest > maxZipTail {
		return false
	}
	for i := max(from, len(buf)+int(rest)-maxZipTail); i < to && i+zipEndLen <= len(buf); i++ {
		n := bytes.Index(buf[i:min(to+len(zipEnd)-1, len(buf))], []byte(zipEnd))
		if n < 0 {
			break
		}
		i += n
		if i+zipEndLen > len(buf) {
			break
		}
		left := int64(len(buf)-i) + rest
		if left-zipEndLen == int64(binary.LittleEndian.Uint16(buf[i+zipEndLen-2:])) || isZipEnd(buf, i, left) {
			return true
		}
	}
	return false
}
