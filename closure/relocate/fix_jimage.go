package relocate

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	adler "hash/adler32"
	"slices"

	"github.com/klauspost/compress/zlib"
)

// A JVM's run-time image, lib/modules, has a header, a table by which resources are found, where each lies, their names, and
// then the resources, which jlink may have compressed (JDK src/java.base/share/native/libjimage/imageFile.hpp,
// imageDecompressor.hpp).
const (
	jimageLittle, jimageBig = "\xda\xda\xfe\xca", "\xca\xfe\xda\xda"
	jimageHeader            = 28
	jimageLocations         = 20 // where the header has the size of all locations
	jimagePacked            = 29 // the size of what stands before a compressed resource
	jimagePackedMark        = 0xcafefafa
	// maxJimage bounds the resources, of which a whole JDK has some 30,000.
	maxJimage = 1 << 20
)

// The attributes of a location: a byte with its kind and size, and a number.
const (
	jimageEnd, jimageBase, jimageExtension, jimageOffset, jimageSize, jimagePlain = 0, 3, 4, 5, 6, 7
	jimageKinds                                                                   = 8
)

// jimage is where an image's parts lie.
type jimage struct {
	order     binary.ByteOrder
	data      []byte
	offsets   int // of the table of places of locations
	count     int // of these
	locations int
	names     int
	resources int
}

// readJimage reads the header of an image.
func readJimage(data []byte) (j jimage, ok bool) {
	if len(data) < jimageHeader {
		return j, false
	}
	j = jimage{order: binary.LittleEndian, data: data}
	if string(data[:4]) == jimageBig {
		j.order = binary.BigEndian
	}
	j.count = int(j.order.Uint32(data[16:]))
	j.offsets = jimageHeader + 4*j.count
	j.locations = j.offsets + 4*j.count
	j.names = j.locations + int(j.order.Uint32(data[jimageLocations:]))
	j.resources = j.names + int(j.order.Uint32(data[24:]))
	return j, j.count <= maxJimage && j.resources <= len(data)
}

// location gives the attributes of a resource.
func (j jimage) location(i int) (attributes [jimageKinds]uint64, ok bool) {
	at := j.locations + int(j.order.Uint32(j.data[j.offsets+4*i:]))
	for range jimageKinds { // each is there once at most
		if at >= j.names {
			break
		}
		kind, size := int(j.data[at]>>3), int(j.data[at]&7)+1
		if at++; kind == jimageEnd {
			return attributes, true
		}
		if kind >= jimageKinds || at+size > j.names {
			break
		}
		attributes[kind] = 0
		for _, b := range j.data[at : at+size] {
			attributes[kind] = attributes[kind]<<8 | uint64(b)
		}
		at += size
	}
	return attributes, false
}

// appendLocation writes the attributes of a resource.
func appendLocation(b []byte, attributes [jimageKinds]uint64) []byte {
	for kind, value := range attributes {
		if value == 0 {
			continue
		}
		number := bytes.TrimLeft(binary.BigEndian.AppendUint64(nil, value), "\x00")
		b = append(append(b, byte(kind<<3|len(number)-1)), number...)
	}
	return append(b, jimageEnd)
}

// name is a text of an image's table, or as much of it as a name has.
func (j jimage) name(at uint64) string {
	if at >= uint64(j.resources-j.names) {
		return ""
	}
	text := j.data[j.names+int(at) : j.resources]
	name, _, _ := bytes.Cut(text[:min(len(text), longestPath)], []byte{0})
	return string(name)
}

// number is the edit that makes a number stand at a place.
func (j jimage) number(at, n int) edit {
	b := make([]byte, 4)
	j.order.PutUint32(b, uint32(n))
	return edit{from: at, to: at + 4, data: b}
}

// sharedHashes are those of the texts that edits, which are sorted, rewrite in an image's table, which may be strings of
// classes (jlink's compact-cp), before that.
func (j jimage) sharedHashes(edits []edit) map[uint32]bool {
	hashes, end := map[uint32]bool{}, 0
	for _, e := range edits {
		if e.from < end {
			continue // it is of the text that the one before is of
		}
		from := end + bytes.LastIndexByte(j.data[end:e.from], 0) + 1
		text, _, _ := bytes.Cut(j.data[from:j.resources], []byte{0})
		hashes[hashCode(text)], end = true, from+len(text)
	}
	return hashes
}

// jimage rewrites the resources of a run-time image, classes as such. One that takes more room when it is compressed anew goes to
// the end, and where it lies behind the other locations.
func (f *fixer) jimage(s source) ([]edit, error) {
	edits, err := f.jimageResources(s)
	if errors.Is(err, errMalformed) {
		return f.unread(s, format{name: "jimage"})
	}
	return edits, err
}

func (f *fixer) jimageResources(s source) ([]edit, error) {
	j, ok := readJimage(s.data)
	if !ok {
		return nil, errMalformed
	}
	names, err := f.text(source{data: s.data[:j.resources]}, format{})
	if err := cmp.Or(err, sortEdits(names)); err != nil {
		return nil, err
	}
	edits, shared := slices.Clone(names), j.sharedHashes(names)
	var locations, more []byte
	total := 0
	for i := range j.count {
		l, ok := j.location(i)
		if !ok {
			return nil, errMalformed
		}
		size := l[jimageSize]
		if size == 0 {
			size = l[jimagePlain]
		}
		rest := uint64(len(s.data) - j.resources)
		if l[jimageOffset] > rest || size > rest-l[jimageOffset] {
			return nil, errMalformed
		}
		if total += int(size); total > len(s.data) { // they lie over each other
			return nil, errMalformed
		}
		at := j.resources + int(l[jimageOffset])
		in := s.in(s.data[at:at+int(size)], "x."+j.name(l[jimageExtension]))
		if l[jimageSize] == 0 {
			inner, err := f.rewrite(in)
			if err == nil && !sameLength(inner) {
				err = blockedBy(Compressed, "a resource of a run-time image with compressed data in it")
			}
			if err != nil {
				return nil, inMember(err, j.name(l[jimageBase]))
			}
			edits = append(edits, moved(inner, at)...)
			continue
		}
		now, err := f.jimageResource(j, in, shared)
		if len(now) == len(in.data) {
			err = cmp.Or(err, f.replaces(s, len(now)))
		}
		switch {
		case err != nil:
			return nil, inMember(err, j.name(l[jimageBase]))
		case now == nil:
		case len(now) == len(in.data):
			edits = append(edits, edit{from: at, to: at + len(now), data: now})
		default:
			l[jimageOffset], l[jimageSize] = rest+uint64(len(more)), uint64(len(now))
			edits = append(edits, j.number(j.offsets+4*i, j.names-j.locations+len(locations)))
			locations, more = appendLocation(locations, l), append(more, now...)
		}
	}
	if locations == nil {
		return edits, nil
	}
	locations = append(locations, make([]byte, -len(locations)&3)...)
	return append(edits,
		j.number(jimageLocations, j.names-j.locations+len(locations)),
		edit{from: j.names, to: j.names, data: locations}, edit{from: len(s.data), to: len(s.data), data: more}), nil
}

// jimageResource gives what a compressed resource becomes, or nil where it stays.
func (f *fixer) jimageResource(j jimage, s source, shared map[uint32]bool) ([]byte, error) {
	if len(s.data) < jimagePacked || j.order.Uint32(s.data) != jimagePackedMark {
		return nil, errMalformed
	}
	size, by := j.order.Uint64(s.data[4:]), j.name(uint64(j.order.Uint32(s.data[20:])))
	if size < 2+adler.Size || size > uint64(len(s.data)-jimagePacked) {
		return nil, errMalformed
	}
	packed := s.data[jimagePacked : jimagePacked+int(size)]
	if by != "zip" {
		return nil, f.jimageShared(packed, shared)
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, errMalformed
	}
	plain, err := f.inflated(s, r)
	if err != nil {
		return nil, err
	}
	if len(plain) >= 4 && j.order.Uint32(plain) == jimagePackedMark {
		return nil, f.jimageShared(plain, shared)
	}
	inner, err := f.rewrite(s.inflated(plain, s.name))
	if err != nil || len(inner) == 0 {
		return nil, err
	}
	if err := sortEdits(inner); err != nil || !sameLength(inner) {
		return nil, cmp.Or(err, blockedBy(Compressed, "a resource of a run-time image with compressed data in it"))
	}
	next := apply(plain, inner)
	const head = 2
	deflated, err := f.deflate(next, len(packed)-head-adler.Size)
	if err != nil {
		return nil, err
	}
	now := slices.Concat(s.data[:jimagePacked], packed[:head], deflated, binary.BigEndian.AppendUint32(nil, adler.Checksum(next)))
	j.order.PutUint64(now[4:], uint64(len(now)-jimagePacked))
	return append(now, s.data[jimagePacked+len(packed):]...), nil
}

// jimageShared makes sure that a class whose strings stand in the image's table has no switch over one that is rewritten, and
// that there is no reference in what else is compressed in a way that is not known.
func (f *fixer) jimageShared(data []byte, shared map[uint32]bool) error {
	edits, err := f.text(source{data: data}, format{})
	found := len(edits) > 0
	for at := 0; len(shared) > 0 && !found && at+4 <= len(data); at++ {
		found = shared[binary.BigEndian.Uint32(data[at:])]
	}
	if err == nil && found {
		err = blockedBy(HashKeyed, "a reference in a class whose strings are shared with others (compact-cp)")
	}
	return err
}
