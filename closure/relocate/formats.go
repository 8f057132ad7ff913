package relocate

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"math/bits"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
)

const (
	zstdMark = "\x28\xb5\x2f\xfd"
	// headLen is how much of a file is wanted to recognise its format; shorter files are recognised too.
	headLen = 4096
	// scriptLen is how much is wanted of one that begins as a script: a zip archive may stand behind it.
	scriptLen = 64 << 10
)

// wanted is how much of a file that begins with head is wanted to recognise its format.
func wanted(head []byte) int {
	if bytes.HasPrefix(head, []byte("#!")) {
		return scriptLen
	}
	return headLen
}

// format is what a file's first bytes say about how its contents may be rewritten.
type format struct {
	name string
	// look goes through what the format hides from a plain search; nil where there is nothing.
	look func(*inspector, *level, location) error
	// kind is what a plain reference in the file is, from byte sealed on, where rewriting it would break the file;
	// "" where it may be rewritten.
	kind   Kind
	sealed int64
	// fix rewrites the references in a file of the format as a whole, where a Rewriter may not; nil where that cannot be done.
	fix func(*fixer, source) ([]edit, error)
	// always says that fix has to look at every file of the format: a Rewriter cannot see what is in it.
	always bool
	// settles says that fix decides on whatever is found, hashes that stand alone among it.
	settles bool
	// opaque says that the contents cannot be looked into.
	opaque bool
	// code says that there may be machine code in plain sight.
	code bool
	// pools says that texts may stand one behind the other with nothing between them, as compilers put them.
	pools bool
	// trailer says that a zip archive may stand behind what the format describes.
	trailer bool
	// check looks at more than the magic where other files may begin with that, texts above all; nil where none do.
	check func(head []byte) bool
}

// recognise tells the format of a file by its base name and its first bytes, as many as are wanted or all there are.
func (x *inspector) recognise(name string, head []byte) format {
	head = afterSkippable(head)
	for i := range x.magics {
		m := &x.magics[i]
		if len(head) >= m.at+len(m.bytes) && string(head[m.at:m.at+len(m.bytes)]) == m.bytes && (m.check == nil || m.check(head)) {
			return m.format
		}
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return elfFormat(head)
	case bytes.HasPrefix(head, []byte("#!")):
		if at := bytes.Index(head, []byte(zipMark)); at >= 0 && !(isPHP(head) && pharHalt(head[:at]) >= 0) {
			return format{name: "zip behind a script", look: (*inspector).laterZip, kind: Checksummed, sealed: int64(at), fix: (*fixer).zip}
		}
		if at := makeself(head); at > 0 {
			return format{name: "Makeself archive", kind: Checksummed, sealed: int64(at)}
		}
		return format{name: "script", trailer: true}
	case isPKCS12(head):
		return format{name: keyStoreName, kind: Checksummed}
	case isZlib(head):
		return format{name: "zlib", look: (*inspector).zlib, kind: Compressed, fix: (*fixer).zlib}
	case strings.HasSuffix(name, ".rdb") && len(head) > 6 && (isZlibHeader(head[4:]) || isRecord(head[4])):
		return format{name: "R lazy-load database", look: (*inspector).rdb, kind: Compressed, fix: (*fixer).rdb}
	case strings.HasSuffix(name, ".br"):
		return format{name: "brotli", look: (*inspector).brotli, kind: Compressed, fix: (*fixer).brotli}
	case isManifest(name):
		return format{name: "jar manifest", look: (*inspector).manifest, kind: Checksummed, settles: true, fix: (*fixer).manifest}
	case isCDB(head):
		return format{name: "cdb table", kind: HashKeyed, fix: (*fixer).cdb}
	case (strings.HasSuffix(name, ".glass") || strings.HasSuffix(name, ".honey")) && !isText(head):
		return format{name: "Xapian table", kind: HashKeyed} // sorted, and in blocks: backends/glass/glass_table.cc
	case strings.HasSuffix(name, ".pag") && isSDBM(head):
		return format{name: "SDBM table", kind: HashKeyed, fix: (*fixer).sdbm}
	case isTar(head):
		return tarFormat()
	case isLZMA(head, strings.HasSuffix(name, ".lzma") || strings.HasSuffix(name, ".tlz")):
		return lzmaFormat()
	}
	if version, _, ok := snapshotHeader(head); ok {
		return format{name: "V8 start-up snapshot (V8 " + version + ")", kind: Checksummed, fix: (*fixer).snapshotFile}
	}
	if server := serverFile(name, head); server != "" {
		return format{name: server, kind: Checksummed}
	}
	if isDigest(name) {
		return format{name: "file named by a hash of its contents", kind: Checksummed, fix: (*fixer).plain, trailer: true}
	}
	return format{trailer: true}
}

// isPKCS12 reports whether head begins a key store as Java makes them by now (RFC 7292, 4): a sequence of version 3 and contents,
// of the type data (1.2.840.113549.1.7.1), over which there is a MAC.
func isPKCS12(head []byte) bool {
	const sequence, lengths, version, data = 0x30, 5, "\x02\x01\x03\x30", "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
	if len(head) < 32 || head[0] != sequence {
		return false
	}
	at := bytes.Index(head[:1+lengths+len(version)], []byte(version))
	return at > 0 && bytes.Contains(head[at:at+len(version)+lengths+len(data)], []byte(data))
}

// makeself is where what is checksummed begins of a script that unpacks what stands behind it (makeself-header.sh), or 0: no later
// than in the line of the first byte that no script has.
func makeself(head []byte) int {
	has := func(name string) bool { return bytes.Contains(head, []byte("\n"+name+"=\"")) }
	if !has("skip") || !has("MD5") && !has("CRCsum") {
		return 0
	}
	text, _, _ := bytes.Cut(head, []byte{0})
	return bytes.LastIndexByte(text, '\n') + 1
}

// afterSkippable is what stands behind the frames of zstd and lz4 that decoders skip (RFC 8878, 3.1.2), as pzstd
// writes them: a mark, the size and that many bytes.
func afterSkippable(head []byte) []byte {
	for len(head) >= 8 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18" {
		size := binary.LittleEndian.Uint32(head[4:])
		if int64(size) > int64(len(head)-8-4) {
			return []byte(zstdMark) // behind the head there is more, which the decoder will see
		}
		head = head[8+size:]
	}
	return head
}

// tarFormat is that of archives with POSIX's mark and of those of before.
func tarFormat() format {
	return format{name: "tar", look: (*inspector).tar, code: true, fix: (*fixer).tar}
}

// zlibLargest begins zlib streams with the largest window, which nearly all have.
const zlibLargest = 0x78

// isZlib reports whether head begins a zlib stream (RFC 1950). Two bytes are no proof ("x^2" begins like one), so
// some of it has to inflate. Where that takes a dictionary ("x = 1" begins like that), any has to do and text does not.
// With a smaller window, text does not, either.
func isZlib(head []byte) bool {
	const needsDictionary, maxDistance, deflated, most = 0x20, 32 << 10, 8, 0x80
	if len(head) < 8 || (uint(head[0])<<8|uint(head[1]))%31 != 0 || head[0]&0xf != deflated || head[0] >= most {
		return false
	}
	small := head[0] != zlibLargest
	switch {
	case head[1]&needsDictionary == 0:
		return inflates(head[2:], nil) && !(small && isText(head[:min(len(head), 512)]))
	case small:
		return false
	}
	return !isText(head[:min(len(head), 512)]) && inflates(head[6:], make([]byte, maxDistance))
}

// isLZMA reports whether head begins an .lzma file, of the usual properties unless its name says what it is: a dictionary
// of 2^n or 2^n + 2^(n-1) bytes, a size or none, and the zero that the compressed bytes begin with.
func isLZMA(head []byte, named bool) bool {
	const usual, most, noSize = 0x5d, 9 * 5 * 5, math.MaxUint64
	if len(head) <= lzmaHeader || head[lzmaHeader] != 0 || head[0] >= most || head[0] != usual && !named {
		return false
	}
	dictionary, size := binary.LittleEndian.Uint32(head[1:]), binary.LittleEndian.Uint64(head[5:])
	if dictionary < 1<<12 {
		return false
	}
	rest := dictionary &^ (1 << (bits.Len32(dictionary) - 1))
	return (rest == 0 || rest == dictionary/3) && (size == noSize || size < 1<<38)
}

// trials are readers to try whether something inflates.
var trials = sync.Pool{New: func() any { return flate.NewReader(bytes.NewReader(nil)) }}

// inflates reports whether some of b inflates with a dictionary.
func inflates(b, dictionary []byte) bool {
	r := trials.Get().(io.ReadCloser)
	defer trials.Put(r)
	if err := r.(flate.Resetter).Reset(bytes.NewReader(b), dictionary); err != nil {
		return false
	}
	var some [512]byte
	n, err := r.Read(some[:])
	return n > 0 && (err == nil || err == io.EOF || err == io.ErrUnexpectedEOF)
}

// isText reports whether b has no control characters but those of texts.
func isText(b []byte) bool {
	return bytes.IndexFunc(b, func(c rune) bool { return c < ' ' && c != '\t' && c != '\n' && c != '\r' }) < 0
}

// elfFormat says what an ELF file's head tells besides.
func elfFormat(head []byte) format {
	switch {
	case len(head) > 10 && string(head[8:10]) == "AI" && (head[10] == 1 || head[10] == 2):
		return format{name: "AppImage", kind: Compressed, opaque: true}
	case bytes.Contains(head[:min(len(head), 1024)], []byte("UPX!")):
		return format{name: "UPX-packed program", kind: Compressed, opaque: true}
	}
	return format{name: elfName, code: true, pools: true, trailer: true}
}

const elfName = "ELF"
