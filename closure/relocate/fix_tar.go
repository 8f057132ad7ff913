package relocate

import (
	"bytes"
	"cmp"
	"path"
	"strconv"
	"strings"
)

// tarBlock is the unit of tar archives: a header is one, and contents are filled up to whole ones.
const tarBlock = 512

// tarEntry is a member of a tar archive, and where its parts lie.
type tarEntry struct {
	name       string
	header     int // which is a block
	begin, end int // of the contents
	next       int // header, behind what fills the last block
}

// readTarEntry reads the header at at; ok is false at the archive's end.
func readTarEntry(data []byte, at int) (e tarEntry, ok bool, err error) {
	if at+tarBlock > len(data) || !isTar(data[at:at+tarBlock]) {
		return e, false, nil
	}
	header := data[at : at+tarBlock]
	size, ok := tarSize(header[124:136])
	if !ok || size > int64(len(data)-at-tarBlock) {
		return e, false, errMalformed
	}
	if c := header[156]; c >= '1' && c <= '6' { // links, devices, directories
		size = 0
	}
	name, _, _ := bytes.Cut(header[:100], []byte{0})
	begin := at + tarBlock
	end := begin + int(size)
	return tarEntry{string(name), at, begin, end, end + int(-size&(tarBlock-1))}, true, nil
}

// tar rewrites members, and headers with their checksums (POSIX pax). What other members say of a member's hash is put
// right where it is a PHAR's signature; an image of a container stays as it is, and a gem.
func (f *fixer) tar(s source) ([]edit, error) {
	var edits []edit
	hashed, signed := "", false
	for at := 0; ; {
		e, ok, err := readTarEntry(s.data, at)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		var changed []edit
		switch path.Clean(e.name) {
		case pharSignature:
			if signed { // each is over all that stands before it
				return nil, errMalformed
			}
			signed = true
			changed, err = f.tarSignature(s, e, edits)
		case "manifest.json", "oci-layout", "checksums.yaml.gz":
			hashed = e.name
			fallthrough
		default:
			changed, err = f.tarEntry(s, e)
		}
		if err != nil {
			return nil, err
		}
		edits, at = append(edits, changed...), e.next
	}
	if hashed != "" && len(edits) > 0 {
		return nil, blockedBy(Checksummed, "a reference in an archive that has hashes of its parts, as an image of a container or a gem (%s)", hashed)
	}
	return edits, sortEdits(edits)
}

// tarEntry rewrites a member and its header, which has the member's size.
func (f *fixer) tarEntry(s source, e tarEntry) ([]edit, error) {
	header, contents := s.data[e.header:e.begin], s.data[e.begin:e.end]
	inner, err := f.rewrite(s.in(contents, e.name))
	if err != nil {
		return nil, err
	}
	resized := !sameLength(inner)
	if header[156] == 'x' && resized {
		return nil, errMalformed
	}
	changed, err := f.text(source{data: header}, format{})
	if err != nil {
		return nil, err
	}
	next := apply(header, changed)
	var edits []edit
	if !resized {
		edits = moved(inner, e.begin)
	} else {
		if err := cmp.Or(sortEdits(inner), f.countPacked(len(contents))); err != nil {
			return nil, err
		}
		data := apply(contents, inner)
		octal := strconv.FormatInt(int64(len(data)), 8)
		copy(next[124:136], strings.Repeat("0", max(0, 11-len(octal)))+octal+"\x00")
		data = append(data, make([]byte, -len(data)&(tarBlock-1))...)
		edits = []edit{{from: e.begin, to: min(e.next, len(s.data)), data: data}}
	}
	if !bytes.Equal(next, header) {
		edits = append(edits, edit{from: e.header, to: e.begin, data: tarChecksum(next)})
	}
	return edits, nil
}

// tarChecksum puts a header's checksum right: the sum of its bytes, with blanks for the checksum itself.
func tarChecksum(header []byte) []byte {
	copy(header[148:156], "        ")
	sum := 0
	for _, c := range header {
		sum += int(c)
	}
	octal := strconv.FormatInt(int64(sum), 8)
	copy(header[148:156], strings.Repeat("0", max(0, 6-len(octal)))+octal+"\x00 ")
	return header
}
