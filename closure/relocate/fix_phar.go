package relocate

import (
	"bytes"
	stdbzip2 "compress/bzip2"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"
)

// A PHAR is a PHP archive behind a stub in PHP (php-src ext/phar/phar.c; the manual, "Phar File Format"): a manifest with
// a CRC-32 for each file, what the files hold, and a signature over all that, then its type and "GBMB".
const (
	pharName     = "PHAR"
	pharStub     = "__HALT_COMPILER();"
	pharEnd      = "GBMB"
	pharDeflated = 0x1000
	pharBzip2    = 0x2000
	pharSigned   = 0x10000 // of the whole archive
	// pharSignature is the member of a PHAR that is a tar or zip archive that has its signature (ext/phar/tar.c, zip.c).
	pharSignature = ".phar/signature.bin"
	// maxPHAREntries bounds the files of an archive.
	maxPHAREntries = 1 << 16
)

// pharHashes are the signatures that are plain hashes, by type. OpenSSL's, which take a private key, are not here.
var pharHashes = map[uint32]func() hash.Hash{1: md5.New, 2: sha1.New, 3: sha256.New, 4: sha512.New}

// isPHP reports whether b may begin a PHP program: anything may stand before PHP's own mark.
func isPHP(b []byte) bool {
	head := b[:min(len(b), headLen)]
	for rest := head; ; {
		at := bytes.Index(rest, []byte("<?"))
		if at < 0 {
			return pharHalt(head) >= 0
		}
		rest = rest[at+2:]
		if bytes.HasPrefix(rest, []byte("=")) || len(rest) >= 3 && bytes.EqualFold(rest[:3], []byte("php")) {
			return true
		}
	}
}

// pharHalt gives the place in b of what ends the PHP program before an archive, in letters of either case, or -1.
func pharHalt(b []byte) int {
	for at := 0; ; at++ {
		n := bytes.Index(b[at:], []byte("__"))
		if at += n; n < 0 || at+len(pharStub) > len(b) {
			return -1
		}
		if bytes.EqualFold(b[at:at+len(pharStub)], []byte(pharStub)) {
			return at
		}
	}
}

// isPHAR reports whether data is a PHP program with an archive behind it.
func isPHAR(data []byte) bool { return isPHP(data) && pharManifest(data, int64(len(data))) > 0 }

// pharManifest gives the place of an archive's manifest in a file of size bytes that begins with data, or 0.
func pharManifest(data []byte, size int64) int {
	at := pharHalt(data)
	if at < 0 {
		return 0
	}
	at += len(pharStub)
	for _, end := range []string{" ", "?>", "\r", "\n"} {
		if bytes.HasPrefix(data[at:], []byte(end)) {
			at += len(end)
		}
	}
	if at+18 > len(data) {
		return 0
	}
	length, count := int64(binary.LittleEndian.Uint32(data[at:])), int64(binary.LittleEndian.Uint32(data[at+4:]))
	if length > size-int64(at)-4 || count > length/24+1 {
		return 0
	}
	return at
}

// pharReader takes a manifest apart.
type pharReader struct {
	data []byte
	at   int
	bad  bool
}

func (r *pharReader) number() int {
	if r.bad || r.at+4 > len(r.data) {
		r.bad = true
		return 0
	}
	n := binary.LittleEndian.Uint32(r.data[r.at:])
	r.at += 4
	return int(n)
}

func (r *pharReader) skip(n int) []byte {
	if r.bad || n < 0 || n > len(r.data)-r.at {
		r.bad = true
		return nil
	}
	r.at += n
	return r.data[r.at-n : r.at]
}

// phar rewrites the files of a PHAR and puts right their checksums, and the signature where it is a plain hash.
func (f *fixer) phar(s source) ([]edit, error) {
	start := pharManifest(s.data, int64(len(s.data)))
	edits, err := f.text(source{data: s.data[:start]}, format{})
	if err != nil {
		return nil, err
	}
	r := &pharReader{data: s.data, at: start}
	size := r.number()
	count := r.number()
	r.skip(2)
	flags := r.number()
	r.skip(r.number()) // the alias
	r.skip(r.number()) // metadata
	if r.bad || count > maxPHAREntries {
		return nil, f.pharUnread(s)
	}
	begin := start + 4 + size
	for range count {
		name := string(r.skip(r.number()))
		sums := r.at
		r.skip(4) // the size before it is compressed
		r.skip(4) // the time
		packed := r.number()
		r.skip(4) // its sum
		kind := r.number()
		r.skip(r.number())
		if r.bad || packed > len(s.data)-begin {
			return nil, f.pharUnread(s)
		}
		changed, err := f.pharFile(s, name, begin, begin+packed, sums, kind)
		if err != nil {
			return nil, inMember(err, name)
		}
		edits = append(edits, changed...)
		begin += packed
	}
	// Names, and metadata, in which PHP says how long a text is.
	manifest, err := f.text(source{data: s.data[start:min(start+4+size, len(s.data))]}, format{})
	if err != nil {
		return nil, err
	}
	edits = append(edits, moved(manifest, start)...)
	if err := sortEdits(edits); err != nil {
		return nil, err
	}
	if flags&pharSigned == 0 {
		return edits, nil
	}
	return f.pharSum(s, begin, edits)
}

// pharUnread says that a PHAR cannot be read, if it may have a reference.
func (f *fixer) pharUnread(s source) error {
	return f.mustBeFree(s, format{name: pharName, kind: Checksummed}, errMalformed)
}

// pharFile rewrites one file of a PHAR.
func (f *fixer) pharFile(s source, name string, begin, end, sums, kind int) ([]edit, error) {
	data := s.data[begin:end]
	if kind&(pharDeflated|pharBzip2) != 0 {
		return f.pharCompressed(s, name, begin, end, sums, kind)
	}
	inner, err := f.rewrite(s.in(data, name))
	if err != nil || len(inner) == 0 {
		return nil, err
	}
	if err := sortEdits(inner); err != nil {
		return nil, err
	}
	sum, size := crc32.NewIEEE(), len(data)+grown(inner)
	applyTo(sum, data, inner)
	return append(pharSums(sums, size, size, sum.Sum32()), moved(inner, begin)...), nil
}

// pharCompressed rewrites a file of a PHAR that is compressed.
func (f *fixer) pharCompressed(s source, name string, begin, end, sums, kind int) ([]edit, error) {
	data := s.data[begin:end]
	var r io.Reader = flate.NewReader(bytes.NewReader(data))
	if kind&pharBzip2 != 0 {
		r = stdbzip2.NewReader(bytes.NewReader(data))
	}
	plain, err := f.inflated(s, r)
	if err != nil {
		return nil, err
	}
	inner, err := f.rewrite(s.inflated(plain, name))
	if err != nil || len(inner) == 0 {
		return nil, err
	}
	if err := sortEdits(inner); err != nil {
		return nil, err
	}
	now := apply(plain, inner)
	var packed []byte
	if kind&pharBzip2 != 0 {
		packed, err = f.compressed(now, asBzip2(data))
	} else {
		packed, err = f.deflate(now, len(data))
	}
	if err != nil {
		return nil, err
	}
	return append(pharSums(sums, len(now), len(packed), crc32.ChecksumIEEE(now)),
		edit{from: begin, to: end, data: packed}), nil
}

// pharSums are the edits of a file's entry in the manifest: size, time, compressed size, checksum.
func pharSums(at, size, packed int, crc uint32) []edit {
	number := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	return []edit{
		{from: at, to: at + 4, data: number(uint32(size))},
		{from: at + 8, to: at + 12, data: number(uint32(packed))},
		{from: at + 12, to: at + 16, data: number(crc)},
	}
}

// pharSum puts the signature right, which begins at at. What stands before the archive may have been rewritten
// before, so it is made anew even where there is nothing to rewrite.
func (f *fixer) pharSum(s source, at int, edits []edit) ([]edit, error) {
	tail := s.data[at:]
	if len(tail) < 8 || string(tail[len(tail)-4:]) != pharEnd {
		return nil, f.pharUnread(s)
	}
	rewritten := len(edits) > 0 || bytes.Contains(s.data[:at], f.scan.name)
	kind := binary.LittleEndian.Uint32(tail[len(tail)-8:])
	hash, ok := pharHashes[kind]
	if !ok || len(tail) != hash().Size()+8 {
		if rewritten {
			return nil, privateKey(kind)
		}
		return nil, nil
	}
	if !rewritten {
		return nil, nil
	}
	sum := hash()
	applyTo(sum, s.data[:at], edits)
	return append(edits, edit{from: at, to: at + sum.Size(), data: sum.Sum(nil)}), nil
}

// tarSignature puts right the signature of a PHAR that is a tar archive: the type, the length, and the hash of what stands
// before the member that it is.
func (f *fixer) tarSignature(s source, e tarEntry, edits []edit) ([]edit, error) {
	if len(edits) == 0 {
		return nil, nil
	}
	if err := sortEdits(edits); err != nil {
		return nil, err
	}
	const head = 8
	signature := s.data[e.begin:e.end]
	if len(signature) < head {
		return nil, errMalformed
	}
	kind := binary.LittleEndian.Uint32(signature)
	hash, ok := pharHashes[kind]
	if !ok || len(signature) != head+hash().Size() {
		return nil, privateKey(kind)
	}
	sum := hash()
	applyTo(sum, s.data[:e.header], edits)
	return []edit{{from: e.begin + head, to: e.end, data: sum.Sum(nil)}}, nil
}

func privateKey(kind uint32) error {
	return blockedBy(Checksummed, "a reference in a PHAR whose signature (type %#x) takes a private key", kind)
}
