package relocate

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Formats that look some of their texts up by a hash or an order, and others not: those may be rewritten.

// unkeyed rewrites references in s that stand in none of the keys that each gives, from and to.
func (f *fixer) unkeyed(s source, what string, each func(key func(from, to int)) bool) ([]edit, error) {
	edits, err := f.text(s, format{})
	if err != nil || len(edits) == 0 {
		return nil, err
	}
	if err := sortEdits(edits); err != nil {
		return nil, err
	}
	found := false
	whole := each(func(from, to int) {
		i, _ := slices.BinarySearchFunc(edits, from, func(e edit, from int) int { return e.to - from - 1 })
		found = found || i < len(edits) && edits[i].from < to
	})
	switch {
	case !whole:
		return nil, errMalformed
	case found:
		return nil, blockedBy(HashKeyed, "a reference in %s", what)
	}
	return edits, nil
}

// catalogue rewrites translations. The texts that they are of are found by their hash, and by halves (GNU gettext, "The
// Format of GNU MO Files").
func (f *fixer) catalogue(s source) ([]edit, error) {
	return f.unkeyed(s, "a text to translate, which is found by its hash", func(key func(from, to int)) bool {
		order := binary.ByteOrder(binary.LittleEndian)
		if string(s.data[:4]) == catalogueBig {
			order = binary.BigEndian
		}
		if len(s.data) < 20 {
			return false
		}
		count, at := int64(order.Uint32(s.data[8:])), int64(order.Uint32(s.data[12:]))
		if at+8*count > int64(len(s.data)) {
			return false
		}
		for ; count > 0; count-- {
			from := int(order.Uint32(s.data[at+4:]))
			key(from, from+int(order.Uint32(s.data[at:])))
			at += 8
		}
		return true
	})
}

// A catalogue's mark is a number in the order of the machine that it was made for.
const catalogueLittle, catalogueBig = "\xde\x12\x04\x95", "\x95\x04\x12\xde"

// R writes data in three forms: in XDR's order, in the machine's, and as text, each of either version. save puts a word before
// them ("RDX3").
const (
	rData2, rData3     = "X\n\x00\x00\x00\x02", "X\n\x00\x00\x00\x03"
	rNative2, rNative3 = "B\n\x02\x00\x00\x00", "B\n\x03\x00\x00\x00"
	rText2, rText3     = "A\n2\n", "A\n3\n"
)

// rVariables begin a variable of an environment, and an element of other lists that has a name, in each form: types of a pair with
// a tag, of a symbol and of a string of ASCII (R src/main/serialize.c: LISTSXP, SYMSXP, CHARSXP). The name's length is next.
var rVariables = map[byte]string{
	'X': "\x00\x00\x04\x02\x00\x00\x00\x01\x00\x04\x00\x09",
	'B': "\x02\x04\x00\x00\x01\x00\x00\x00\x09\x00\x04\x00",
	'A': "1026\n1\n262153\n",
}

// rName is where a variable's name stands whose length is at data[at:].
func rName(form byte, data []byte, at int) (from, to int) {
	if form == 'A' {
		digits, _, _ := bytes.Cut(data[at:min(len(data), at+len("2147483647\n"))], []byte{'\n'})
		n, err := strconv.Atoi(string(digits))
		if err != nil {
			return at, at
		}
		from = at + len(digits) + 1
		return from, from + n
	}
	if at+4 > len(data) {
		return at, at
	}
	n := binary.BigEndian.Uint32(data[at:])
	if form == 'B' {
		n = binary.LittleEndian.Uint32(data[at:])
	}
	return at + 4, at + 4 + int(n)
}

// rData rewrites what is no variable's name: an environment finds its variables by a hash of their names, and is read with the
// table of them that was written.
func (f *fixer) rData(s source) ([]edit, error) {
	form := s.data[0]
	if form == 'R' {
		form = s.data[len("RDX3\n")]
	}
	return f.unkeyed(s, "the name of a variable, which is found by its hash", func(key func(from, to int)) bool {
		for at, mark := 0, rVariables[form]; ; {
			n := bytes.Index(s.data[at:], []byte(mark))
			if n < 0 {
				return true
			}
			at += n + len(mark)
			key(rName(form, s.data, at))
		}
	})
}

// cdbHeader is the size of a cdb's header: the places and sizes of 256 hash tables (cr.yp.to/cdb/cdb.txt).
const cdbHeader = 256 * 8

// isCDB reports whether head begins with tables one behind the other.
func isCDB(head []byte) bool {
	if len(head) < cdbHeader {
		return false
	}
	next, slots := binary.LittleEndian.Uint32(head), uint32(0)
	if next < cdbHeader {
		return false
	}
	for table := range slices.Chunk(head[:cdbHeader], 8) {
		at, size := binary.LittleEndian.Uint32(table), binary.LittleEndian.Uint32(table[4:])
		if at != next {
			return false
		}
		next, slots = at+8*size, slots|size
	}
	return slots > 0
}

// cdb rewrites what stands behind keys: pairs of sizes, key and value, up to the first table.
func (f *fixer) cdb(s source) ([]edit, error) {
	return f.unkeyed(s, "a key, which is found by its hash", func(key func(from, to int)) bool {
		end := int64(binary.LittleEndian.Uint32(s.data))
		for at := int64(cdbHeader); at < end; {
			if at+8 > int64(len(s.data)) {
				return false
			}
			from := at + 8
			to := from + int64(binary.LittleEndian.Uint32(s.data[at:]))
			at = to + int64(binary.LittleEndian.Uint32(s.data[at+4:]))
			if at > int64(len(s.data)) {
				return false
			}
			key(int(from), int(to))
		}
		return true
	})
}

// sdbmPages are the sizes of pages that an SDBM table may have: that of the original and of Perl's and Ruby's, and APR's.
var sdbmPages = []int{1 << 10, 8 << 10}

// sdbmPairs gives the places of the keys in a page of an SDBM table, or says that it is none (sdbm's pair.c): a count, and for
// each key and each value where it begins, from the page's end downwards.
func sdbmPairs(page []byte, size int) (keys [][2]int, ok bool) {
	word := func(i int) int { return int(binary.LittleEndian.Uint16(page[2*i:])) }
	count, end := word(0), size
	if count%2 != 0 || 2*(count+1) > min(size, len(page)) {
		return nil, false
	}
	for i := 1; i < count; i += 2 {
		key, value := word(i), word(i+1)
		if key > end || value > key || value < 2*(count+1) {
			return nil, false
		}
		keys, end = append(keys, [2]int{key, end}), value
	}
	return keys, true
}

// isSDBM reports whether head begins with the pages of a table, of which the first may be empty.
func isSDBM(head []byte) bool {
	return len(head) >= sdbmPages[0] && slices.ContainsFunc(sdbmPages, func(size int) bool {
		_, ok := sdbmPairs(head, size)
		return ok
	})
}

// sdbmKeys gives the places of the keys in a table of pages of that size, or says that it is none.
func sdbmKeys(data []byte, size int, key func(from, to int)) bool {
	for at := 0; at < len(data); at += size {
		if at+size > len(data) {
			return false
		}
		keys, ok := sdbmPairs(data[at:at+size], size)
		if !ok {
			return false
		}
		for _, k := range keys {
			key(at+k[0], at+k[1])
		}
	}
	return true
}

// sdbm rewrites values of an SDBM table, pages of keys and values.
func (f *fixer) sdbm(s source) ([]edit, error) {
	return f.unkeyed(s, "a key, which is found by its hash", func(key func(from, to int)) bool {
		return slices.ContainsFunc(sdbmPages, func(size int) bool {
			// The keys only count once all pages have turned out to be some.
			return sdbmKeys(s.data, size, func(int, int) {}) && sdbmKeys(s.data, size, key)
		})
	})
}

// hdf5 rewrites a file of HDF5 whose headers have no checksums: those of version 1 (HDF5 File Format Specification, IV.A).
func (f *fixer) hdf5(s source) ([]edit, error) {
	edits, err := f.text(s, format{})
	if err == nil && len(edits) > 0 && bytes.Contains(s.data, []byte("OHDR")) {
		return nil, blockedBy(Checksummed, "a reference in HDF5 with checksums")
	}
	return edits, err
}

// tableEnds end files of tables with a checksum over each block.
var tableEnds = map[string]string{
	"\x57\xfb\x80\x8b\x24\x75\x47\xdb": "LevelDB table", // table/format.h; RocksDB and TensorFlow have it, too
	"\xf7\xcf\xf4\x85\xb7\x41\xe2\x88": "RocksDB table", // table/block_based/block_based_table_builder.cc
	"\xf0\x9f\xaa\xb3\xf0\x9f\xaa\xb3": "Pebble table",  // sstable/table.go
}

// tableEnd says which table with checksums ends as data does, or "".
func tableEnd(data []byte) string {
	if len(data) < 8 {
		return ""
	}
	return tableEnds[string(data[len(data)-8:])]
}

// Files of database servers, which have no mark of their own but names, and a checksum over each page or record.
var (
	postgresTable = regexp.MustCompile(`^[0-9]+(_fsm|_vm|_init)?(\.[0-9]+)?$`)
	postgresLog   = regexp.MustCompile(`^[0-9A-F]{24}$`)
	levelLog      = regexp.MustCompile(`^(MANIFEST-[0-9]{6}|[0-9]{6}\.log)$`)
)

// serverFile says which of them the file of that name is, or "".
func serverFile(name string, head []byte) string {
	switch {
	case len(head) < 24:
	case string(head[18:20]) == "\x04\x20" && postgresTable.MatchString(name): // 8 KiB, layout 4: bufpage.h
		return "PostgreSQL table"
	case head[1] == 0xd1 && postgresLog.MatchString(name): // xlog_internal.h, XLOG_PAGE_MAGIC
		return "PostgreSQL write-ahead log"
	case strings.HasSuffix(name, ".ibd") || name == "ibdata1":
		return "InnoDB table"
	case 0 < head[6] && head[6] <= 8 && levelLog.MatchString(name): // sum, length and kind of a record: log_format.h
		return "LevelDB log"
	}
	return ""
}

// plain rewrites what has no format of its own.
func (f *fixer) plain(s source) ([]edit, error) {
	if endsWithZip(s.data) {
		return f.trailingZip(s, format{trailer: true})
	}
	return f.text(s, format{})
}

// nameOf is the name that the file at name, below a store path, goes by: its own, or its directory's, where that is a hash, as a
// registry of images has it (blobs/sha256/<2>/<hash>/data).
func nameOf(name string) string {
	dir, base := path.Split(name)
	if dir = path.Base(dir); isDigest(dir) && path.Ext(base) == "" {
		return dir
	}
	return base
}

// nameIn is nameOf for a file of a store path: a path that is a file goes by its own name.
func nameIn(p storepath.Path, file string) string {
	if file == "" {
		return p.Name()
	}
	return nameOf(file)
}

// isDigest reports whether a file's name is a hash in hexadecimal, as in stores of contents: an OCI layout's
// blobs/sha256/<hash>, npm's content-v2/sha512/<2>/<2>/<rest>.
func isDigest(name string) bool {
	digits := strings.TrimPrefix(strings.TrimPrefix(name, "sha256-"), "sha256:")
	return len(digits) >= 2*md5.Size && strings.Trim(digits, "0123456789abcdef") == ""
}

// isNamedBy reports whether a name that isDigest says yes to is that of data, or its end, or has it behind a few digits that
// say which hash it is (multihash).
func isNamedBy(name string, data []byte) bool {
	const folders = 4 // digits that are the names of folders
	end := name[strings.LastIndexAny(name, "-:")+1:]
	md5, sha1, sha256, sha512 := md5.Sum(data), sha1.Sum(data), sha256.Sum256(data), sha512.Sum512(data)
	return slices.ContainsFunc([][]byte{md5[:], sha1[:], sha256[:], sha512[:]}, func(sum []byte) bool {
		digits := hex.EncodeToString(sum)
		return len(digits)-len(end) <= folders && strings.HasSuffix(digits, end) || strings.HasSuffix(end, digits)
	})
}
