package relocate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"

	"github.com/klauspost/compress/flate"
)

const (
	zipCentral    = "PK\x01\x02"
	zipCentralLen = 46
	zipDescriptor = "PK\x07\x08"
)

// zip rewrites the members of a zip archive, stored ones in place and deflated ones deflated anew, and puts right what
// the archive says of them: checksums, sizes, and the places of what stands behind (PKWARE APPNOTE.TXT). It changes no
// signed archive: a signature (META-INF/*.SF) covers the members.
func (f *fixer) zip(s source) ([]edit, error) {
	z, err := readZip(s.data)
	if z.end < 0 && bytes.HasPrefix(s.data, []byte("#!")) {
		return f.text(s, format{}) // nobody finds an archive in it, as in byte code of a program that reads archives
	}
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
	if bytes.HasSuffix(s.data[:z.directory], []byte("APK Sig Block 42")) || bytes.HasPrefix(s.data, []byte("Cr24")) {
		signed = "a signature over the archive" // of an Android package, of a browser's extension
	}
	for i, r := range z.records {
		if isSignature(r.name) {
			signed = r.name
		}
		if changed[i], err = f.zipEntry(s, &z, r); err != nil {
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

// zipChange is what becomes of a member.
type zipChange struct {
	edits        []edit
	crc          uint32
	packed, size int
}

// zipEntry rewrites one member: nil if there is nothing to rewrite.
func (f *fixer) zipEntry(s source, z *zipFile, r zipRecord) (*zipChange, error) {
	at := z.base + r.local
	begin, end, err := zipContents(s.data, at, r)
	if err != nil {
		return nil, err
	}
	// Headers that lie over each other would be searched again and again.
	if z.headers += begin - at; z.headers > len(s.data) {
		return nil, errMalformed
	}
	c, err := f.zipNames(s, r, at+zipHeader, begin)
	if err != nil {
		return nil, err
	}
	plain, in := s.data[begin:end], s.in
	switch {
	case r.flags&zipEncrypt != 0:
		return nil, blockedBy(Opaque, "zip member %.200q is encrypted", r.name)
	case r.method == zipStore:
	case r.method == zipDeflate:
		if plain, err = f.inflated(s, flate.NewReader(bytes.NewReader(plain))); err != nil {
			return nil, inMember(err, r.name)
		}
		in = s.inflated
	default:
		return c.orNone(), inMember(f.otherMethod(s, r, plain), r.name)
	}
	inner, err := f.rewrite(in(plain, r.name))
	if err != nil {
		return nil, inMember(err, r.name)
	}
	if len(inner) == 0 {
		return c.orNone(), nil
	}
	if err := f.zipRewritten(s, r, c, begin, plain, inner); err != nil {
		return nil, err
	}
	return c, f.zipSums(s, r, c, at, end)
}

// zipContents is where the contents lie of the member whose local header is at at.
func zipContents(data []byte, at int, r zipRecord) (begin, end int, err error) {
	if at < 0 || at+zipHeader > len(data) || string(data[at:at+4]) != zipMark {
		return 0, 0, errMalformed
	}
	head := data[at:]
	begin = at + zipHeader + int(binary.LittleEndian.Uint16(head[26:])) + int(binary.LittleEndian.Uint16(head[28:]))
	if end = begin + r.packed; begin > len(data) || end > len(data) {
		return 0, 0, errMalformed
	}
	return begin, end, nil
}

// zipRewritten makes the edits in the contents of a member, which begin at begin, those of the archive.
func (f *fixer) zipRewritten(s source, r zipRecord, c *zipChange, begin int, plain []byte, inner []edit) error {
	if err := sortEdits(inner); err != nil {
		return err
	}
	if r.method == zipStore {
		sum, size := crc32.NewIEEE(), len(plain)+grown(inner)
		applyTo(sum, plain, inner)
		c.crc, c.size, c.packed = sum.Sum32(), size, size
		c.edits = append(c.edits, moved(inner, begin)...)
		return nil
	}
	now := apply(plain, inner)
	c.crc, c.size = crc32.ChecksumIEEE(now), len(now)
	if err := f.replaces(s, r.packed); err != nil {
		return err
	}
	packed, err := f.deflate(now, r.packed)
	if err != nil {
		return err
	}
	c.packed = len(packed)
	c.edits = append(c.edits, edit{from: begin, to: begin + r.packed, data: packed})
	return nil
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

// otherMethod is nil if there is no reference in a member that is compressed by another method than deflate.
func (f *fixer) otherMethod(s source, r zipRecord, data []byte) error {
	switch r.method {
	case zipBzip2, zipZstd, zipXZ:
		return f.mustBeFree(s.in(data, ""), f.inspector.recognise("", data[:min(len(data), headLen)]), nil)
	case zipLZMA:
		rest := bytes.NewReader(data)
		head, err := lzmaOfZip(rest, r.flags, int64(r.size))
		if err != nil {
			return err
		}
		return f.mustBeFree(s.in(append(head, data[len(data)-rest.Len():]...), r.name+".lzma"), lzmaFormat(), nil)
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
		return append(b.Bytes(), end...), f.countPacked(size)
	}
	return f.compressed(data, compressor{open: func(out io.Writer) (io.WriteCloser, error) {
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
