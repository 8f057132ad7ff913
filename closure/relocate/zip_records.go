package relocate

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
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

// zipFile is where an archive's parts lie.
type zipFile struct {
	base      int // what stands before the archive, where its offsets do not count that
	end       int // the record at its end
	long      int // the record before that with fields of 64 bits, or 0
	directory int
	records   []zipRecord
	headers   int // bytes of members' headers that were gone through
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
		if differ(count, math.MaxUint16, long(32)) || differ(size, math.MaxUint32, long(40)) || differ(offset, math.MaxUint32, long(48)) {
			return z, errMalformed // readers go by either
		}
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
	if z.directory = z.base + offset; z.directory > len(data) {
		return z, errMalformed
	}
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

// differ reports whether a short field says neither what the long one does nor, by its greatest value, that it does not.
func differ(short, most, long int) bool { return short != most && short != long }

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

// isSignature reports whether a member is the signature of a jar, a PHAR, a package of NuGet's, or a document.
func isSignature(name string) bool {
	switch name {
	case ".signature.p7s", "META-INF/documentsignatures.xml", "META-INF/signatures.xml", "_xmlsignatures/origin.sigs":
		return true
	}
	dir, base, ok := strings.Cut(strings.ToUpper(name), "/")
	return name == pharSignature || ok && dir == "META-INF" && !strings.Contains(base, "/") &&
		(strings.HasSuffix(base, ".SF") || strings.HasSuffix(base, ".RSA") || strings.HasSuffix(base, ".DSA") ||
			strings.HasSuffix(base, ".EC") || base == "COSE.SIG")
}
