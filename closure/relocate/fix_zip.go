package relocate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"strings"

	"github.com/klauspost/compress/flate"
)

// zipRecord is a member's entry in a zip archive's directory (PKWARE APPNOTE.TXT, 4.3.12).
type zipRecord struct {
	at, length   int // of the entry itself
	flags        uint16
	method       uint16
	crc          uint32
	packed, size int
	local        int // its local header, from the archive's start
	name         string
}

const (
	zipCentral    = "PK\x01\x02"
	zipCentralLen = 46
	zipDescriptor = "PK\x07\x08"
)

// zipFile is where an archive's parts lie.
type zipFile struct {
	base      int // what stands before the archive, where its offsets do not count that
	end       int // the record at its end
	long      int // the record before that with fields of 64 bits, or 0
	directory int
	records   []zipRecord
}

// endsWithZip reports whether a zip archive ends data.
func endsWithZip(data []byte) bool { return zipEndRecord(data) >= 0 }

// zipEndRecord gives the place of the record that ends an archive, or -1: the one that ends the data, too, or else the last
// one that the archive's directory stands before, as in programs of Perl's PAR, which have something of theirs behind it.
func zipEndRecord(data []byte) int {
	last := -1
	for i := len(data) - zipEndLen; i >= max(0, len(data)-maxZipTail); i-- {
		if string(data[i:i+4]) != zipEnd {
			continue
		}
		if len(data)-i-zipEndLen == int(binary.LittleEndian.Uint16(data[i+20:])) {
			return i
		}
		if last < 0 && isZipEnd(data, i, int64(len(data)-i)) {
			last = i
		}
	}
	return last
}

// zipLocator begins what says where the record with fields of 64 bits is, right before the last record.
const zipLocator, zipLocatorLen, zipLong, zipLongLen = "PK\x06\x07", 20, "PK\x06\x06", 56

// maxZipRecords bounds the members of an archive.
const maxZipRecords = 1 << 20

// readZip reads the directory of the archive that ends data. Members of 4 GiB or that lie over each other, archives in
// several parts and gaps in the directory are not read.
func readZip(data []byte) (zipFile, error) {
	z := zipFile{end: zipEndRecord(data)}
	if z.end < 0 {
		return z, errMalformed
	}
	tail := data[z.end:]
	count, size, offset := int(binary.LittleEndian.Uint16(tail[10:])), int(binary.LittleEndian.Uint32(tail[12:])),
		int(binary.LittleEndian.Uint32(tail[16:]))
	behind := z.end // the directory
	if at := z.end - zipLocatorLen - zipLongLen; at >= 0 && string(data[at:at+4]) == zipLong &&
		string(data[at+zipLongLen:at+zipLongLen+4]) == zipLocator {
		z.long, behind = at, at
		long := func(field int) int { return int(binary.LittleEndian.Uint64(data[at+field:]) & math.MaxInt32) }
		count, size, offset = long(32), long(40), long(48)
	} else if count == 0xffff || offset == 0xffffffff {
		return z, errMalformed
	}
	if binary.LittleEndian.Uint32(tail[4:]) != 0 || count > maxZipRecords {
		return z, errMalformed
	}
	// Usually the directory stands right before the end. In Mozilla's archives it stands before the members.
	if z.base = behind - size - offset; z.base < 0 || z.base+offset >= len(data) ||
		size > 0 && !bytes.HasPrefix(data[z.base+offset:], []byte(zipCentral)) {
		z.base = 0
	}
	z.directory = z.base + offset
	packed := 0
	for at := z.directory; len(z.records) < count; {
		if at < 0 || at+zipCentralLen > len(data) || string(data[at:at+4]) != zipCentral {
			return z, errMalformed
		}
		b := data[at:]
		name, extra, comment := int(binary.LittleEndian.Uint16(b[28:])), int(binary.LittleEndian.Uint16(b[30:])),
			int(binary.LittleEndian.Uint16(b[32:]))
		r := zipRecord{at: at, length: zipCentralLen + name + extra + comment,
			flags: binary.LittleEndian.Uint16(b[8:]), method: binary.LittleEndian.Uint16(b[10:]),
			crc: binary.LittleEndian.Uint32(b[16:]), packed: int(binary.LittleEndian.Uint32(b[20:])),
			size: int(binary.LittleEndian.Uint32(b[24:])), local: int(binary.LittleEndian.Uint32(b[42:]))}
		if r.length > len(b) || r.packed == 0xffffffff || r.size == 0xffffffff || r.local == 0xffffffff {
			return z, errMalformed
		}
		r.name = string(b[zipCentralLen : zipCentralLen+name])
		// Members that lie over each other would be gone through again and again.
		if packed += r.packed; packed > len(data) {
			return z, errMalformed
		}
		z.records = append(z.records, r)
		at += r.length
	}
	return z, nil
}

// zip rewrites the members of a zip archive, stored ones in place and deflated ones deflated anew, and puts right what
// the archive says of them: checksums, sizes, and the places of what stands behind (PKWARE APPNOTE.TXT). It changes no
// signed archive: a signature (META-INF/*.SF) covers the members.
func (f *fixer) zip(s source) ([]edit, error) {
	z, err := readZip(s.data)
	if err != nil {
		return nil, err
	}
	// What stands before the archive, a script for instance, is no part of it.
	edits, err := f.text(source{data: s.data[:min(z.start(), len(s.data))]}, format{})
	if err != nil {
		return nil, err
	}
	before := len(edits)
	comment, err := f.text(source{data: s.data[z.end+zipEndLen:]}, format{})
	if err != nil {
		return nil, err
	}
	edits = append(edits, moved(comment, z.end+zipEndLen)...)
	changed := make([]*zipChange, len(z.records))
	signed := ""
	for i, r := range z.records {
		if isSignature(r.name) {
			signed = r.name
		}
		if changed[i], err = f.zipEntry(s, z, r); err != nil {
			return nil, err
		}
		if changed[i] != nil {
			edits = append(edits, changed[i].edits...)
		}
	}
	if len(edits) == before {
		return edits, nil
	}
	if signed != "" {
		return nil, blockedBy(Checksummed, "a reference in a signed archive (%q)", signed)
	}
	if err := sortEdits(edits); err != nil {
		return nil, err
	}
	return f.zipDirectory(s, z, changed, edits)
}

// trailingZip rewrites an archive behind something else, a program for instance, and what is before it.
func (f *fixer) trailingZip(s source, format format) ([]edit, error) {
	edits, err := f.zip(s)
	if errors.Is(err, errMalformed) {
		return nil, blockedBy(Opaque, "a zip archive behind something else that cannot be read")
	}
	if err != nil {
		return nil, err
	}
	z, err := readZip(s.data)
	if err != nil {
		return nil, err
	}
	if z.behind(s.data) > 0 && !sameLength(edits) {
		return nil, blockedBy(Compressed, "a reference in a zip archive that something is behind, which may know its place")
	}
	if format.name != elfName {
		return edits, nil
	}
	start := z.start()
	before, err := f.elf(source{data: s.data[:start], name: s.name, depth: s.depth}, format)
	if err != nil {
		return nil, err
	}
	for _, e := range edits {
		if e.from >= start {
			before = append(before, e)
		}
	}
	return before, sortEdits(before)
}

// start is where the archive's first part lies.
func (z zipFile) start() int {
	first := z.directory
	for _, r := range z.records {
		first = min(first, z.base+r.local)
	}
	return max(first, 0)
}

// behind is how many bytes of data stand behind the archive.
func (z zipFile) behind(data []byte) int {
	return len(data) - z.end - zipEndLen - int(binary.LittleEndian.Uint16(data[z.end+20:]))
}

// isSignature reports whether a member is the signature of a jar or a PHAR.
func isSignature(name string) bool {
	dir, base, ok := strings.Cut(strings.ToUpper(name), "/")
	return name == pharSignature || ok && dir == "META-INF" && !strings.Contains(base, "/") &&
		(strings.HasSuffix(base, ".SF") || strings.HasSuffix(base, ".RSA") || strings.HasSuffix(base, ".DSA") ||
			strings.HasSuffix(base, ".EC") || base == "COSE.SIG")
}

// zipChange is what becomes of a member.
type zipChange struct {
	edits        []edit
	crc          uint32
	packed, size int
}

// zipEntry rewrites one member: nil if there is nothing to rewrite.
func (f *fixer) zipEntry(s source, z zipFile, r zipRecord) (*zipChange, error) {
	at := z.base + r.local
	if at < 0 || at+zipHeader > len(s.data) || string(s.data[at:at+4]) != zipMark {
		return nil, errMalformed
	}
	head := s.data[at:]
	names := int(binary.LittleEndian.Uint16(head[26:])) + int(binary.LittleEndian.Uint16(head[28:]))
	begin := at + zipHeader + names
	end := begin + r.packed
	if begin > len(s.data) || end > len(s.data) {
		return nil, errMalformed
	}
	c, err := f.zipNames(s, r, at+zipHeader, begin)
	if err != nil {
		return nil, err
	}
	var plain, now []byte
	var inner []edit
	switch {
	case r.flags&zipEncrypt != 0:
		return nil, blockedBy(Opaque, "zip member %.200q is encrypted", r.name)
	case r.method == zipStore:
		plain = s.data[begin:end]
		if inner, err = f.rewrite(s.in(plain, r.name)); err != nil {
			return nil, inMember(err, r.name)
		}
	case r.method == zipDeflate:
		if plain, err = f.inflated(flate.NewReader(bytes.NewReader(s.data[begin:end]))); err != nil {
			return nil, inMember(err, r.name)
		}
		if inner, err = f.rewrite(s.in(plain, r.name)); err != nil {
			return nil, inMember(err, r.name)
		}
	default:
		return c.orNone(), inMember(f.otherMethod(s, r, s.data[begin:end]), r.name)
	}
	if len(inner) == 0 {
		// In an archive behind a program a Rewriter may have rewritten what stands in plain sight.
		crc := crc32.ChecksumIEEE(plain)
		if crc == r.crc || !bytes.Contains(plain, f.scan.name) {
			return c.orNone(), nil
		}
		c.crc, c.size = crc, len(plain)
		return c, f.zipSums(s, r, c, at, end)
	}
	if err := sortEdits(inner); err != nil {
		return nil, err
	}
	if r.method == zipDeflate {
		if err := f.replaces(s, r.packed); err != nil {
			return nil, err
		}
	}
	now = apply(plain, inner)
	c.crc, c.size, c.packed = crc32.ChecksumIEEE(now), len(now), len(now)
	if r.method == zipDeflate {
		packed, err := f.deflate(now, r.packed)
		if err != nil {
			return nil, err
		}
		c.packed = len(packed)
		c.edits = append(c.edits, edit{from: begin, to: end, data: packed})
	} else {
		c.edits = append(c.edits, moved(inner, begin)...)
	}
	return c, f.zipSums(s, r, c, at, end)
}

// zipNames rewrites what an archive says of a member twice: its name, and the fields and the comment behind that.
func (f *fixer) zipNames(s source, r zipRecord, begin, end int) (*zipChange, error) {
	c := &zipChange{crc: r.crc, packed: r.packed, size: r.size}
	for _, at := range [][2]int{{begin, end}, {r.at, r.at + r.length}} {
		found, err := f.text(source{data: s.data[at[0]:at[1]]}, format{})
		if err != nil {
			return nil, blockedBy(Checksummed, "the zip member's name %.200q names a store path", r.name)
		}
		c.edits = append(c.edits, moved(found, at[0])...)
	}
	return c, nil
}

// orNone is nil where there is nothing to rewrite.
func (c *zipChange) orNone() *zipChange {
	if len(c.edits) == 0 {
		return nil
	}
	return c
}

// zipSums puts right what stands before and behind a member.
func (f *fixer) zipSums(s source, r zipRecord, c *zipChange, at, end int) error {
	crc := binary.LittleEndian.AppendUint32(nil, c.crc)
	short := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(c.packed)), uint32(c.size))
	head := s.data[at:]
	if r.flags&zipStream == 0 {
		c.edits = append(c.edits, edit{from: at + 14, to: at + 18, data: crc})
		if binary.LittleEndian.Uint64(head[18:]) != math.MaxUint64 {
			c.edits = append(c.edits, edit{from: at + 18, to: at + 26, data: short})
			return nil
		}
		extra := at + zipHeader + int(binary.LittleEndian.Uint16(head[26:]))
		sizes := zip64Sizes(s.data[extra : extra+int(binary.LittleEndian.Uint16(head[28:]))])
		if sizes < 0 {
			return errMalformed
		}
		long := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(c.size)), uint64(c.packed))
		c.edits = append(c.edits, edit{from: extra + sizes, to: extra + sizes + 16, data: long})
		return nil
	}
	if bytes.HasPrefix(s.data[end:], []byte(zipDescriptor)) {
		end += 4
	}
	there := s.data[end:]
	switch {
	case len(there) >= 12 && binary.LittleEndian.Uint32(there) == r.crc && int(binary.LittleEndian.Uint32(there[4:])) == r.packed &&
		int(binary.LittleEndian.Uint32(there[8:])) == r.size:
		c.edits = append(c.edits, edit{from: end, to: end + 12, data: append(crc, short...)})
	case len(there) >= 20 && binary.LittleEndian.Uint32(there) == r.crc && binary.LittleEndian.Uint64(there[4:]) == uint64(r.packed) &&
		binary.LittleEndian.Uint64(there[12:]) == uint64(r.size):
		long := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(c.packed)), uint64(c.size))
		c.edits = append(c.edits, edit{from: end, to: end + 20, data: append(crc, long...)})
	default:
		return errMalformed
	}
	return nil
}

// zip64Sizes gives the place of both sizes in a member's extra fields, or -1.
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

// otherMethod is nil if there is no reference in a member that is compressed by another method than deflate.
func (f *fixer) otherMethod(s source, r zipRecord, data []byte) error {
	switch r.method {
	case zipBzip2, zipZstd, zipXZ:
		return f.mustBeFree(s.in(data, ""), f.inspector.recognise("", data[:min(len(data), headLen)]), nil)
	}
	return blockedBy(Opaque, "the compression method %d", r.method)
}

// inMember says in which member the trouble is.
func inMember(err error, name string) error {
	if blocked := (*blockedError)(nil); errors.As(err, &blocked) {
		return blockedBy(blocked.kind, "member %.200q: %s", name, blocked.detail)
	}
	return err
}

// zipDirectory adds the edits of an archive's directory and end to those of its members.
func (f *fixer) zipDirectory(s source, z zipFile, changed []*zipChange, edits []edit) ([]edit, error) {
	moved, resized := shifts(edits), !sameLength(edits)
	// Offsets count from base, and nothing before it changes its length.
	moves := func(offset int) []byte {
		return binary.LittleEndian.AppendUint32(nil, uint32(moved(z.base+offset)-z.base))
	}
	for i, r := range z.records {
		if c := changed[i]; c != nil {
			sums := binary.LittleEndian.AppendUint32(nil, c.crc)
			sums = binary.LittleEndian.AppendUint32(sums, uint32(c.packed))
			sums = binary.LittleEndian.AppendUint32(sums, uint32(c.size))
			edits = append(edits, edit{from: r.at + 16, to: r.at + 28, data: sums})
		}
		if resized {
			if next := moves(r.local); !bytes.Equal(next, s.data[r.at+42:r.at+46]) {
				edits = append(edits, edit{from: r.at + 42, to: r.at + 46, data: next})
			}
		}
	}
	if resized {
		if binary.LittleEndian.Uint32(s.data[z.end+16:]) != math.MaxUint32 {
			edits = append(edits, edit{from: z.end + 16, to: z.end + 20, data: moves(z.directory - z.base)})
		}
		if z.long > 0 {
			high := make([]byte, 4)
			at := z.long + zipLongLen + 8
			edits = append(edits, edit{from: z.long + 48, to: z.long + 56, data: append(moves(z.directory-z.base), high...)},
				edit{from: at, to: at + 8, data: append(moves(z.long-z.base), high...)})
		}
	}
	return edits, sortEdits(edits)
}

// deflate compresses data, in size bytes if that can be done, so that nothing behind it moves: empty blocks fill what
// is left (RFC 1951, 3.2.3 to 3.2.6).
func (f *fixer) deflate(data []byte, size int) ([]byte, error) {
	const both = 2 // it may be compressed twice
	if !f.budget.compressed(both * int64(len(data))) {
		return nil, errCompress
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	if err := f.write(w, data); err != nil {
		return nil, err
	}
	if err := w.Flush(); err != nil { // ends with a whole byte
		return nil, err
	}
	if end, ok := emptyBlocks(size - b.Len()); ok {
		return append(b.Bytes(), end...), f.hold(size)
	}
	return f.compressed(data, compressor{0, func(out io.Writer) (io.WriteCloser, error) {
		w.Reset(out)
		return w, nil
	}})
}

// emptyBlocks are blocks of size bytes in all that hold nothing, the last of a stream among them. There are none of
// less than two bytes, and none of six.
func emptyBlocks(size int) (blocks []byte, ok bool) {
	const (
		stored = "\x00\x00\x00\xff\xff"
		odd    = "\x02\x00\x00\x00\xff\xff" // one with fixed codes, then a stored one
	)
	// The last block: stored, or with fixed codes behind none, one or two others.
	last := [5]string{"\x01\x00\x00\xff\xff", odd + "\x01\x00\x00\xff\xff", "\x03\x00", "\x02\x0c\x00", "\x02\x08\x30\x00"}
	if size < 2 || size == 6 {
		return nil, false
	}
	end := last[size%5]
	return append(bytes.Repeat([]byte(stored), (size-len(end))/5), end...), true
}
