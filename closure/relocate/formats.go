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
	headLen  = 4096
	beamName = "beam"
	etsName  = "Erlang's ETS table with a checksum"
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
}

// magic is the mark of a format at a fixed place.
type magic struct {
	at    int
	bytes string
	format
}

// magics are the formats that bytes at the start tell. Sources are the formats' own documents; where a format is a
// program's private one, the program's file that writes it is named.
func magics() []magic {
	rData := format{name: rDataName, kind: HashKeyed, fix: (*fixer).rData}
	return []magic{
		{0, "\x1f\x8b\x08", format{name: "gzip", look: (*inspector).gzip, kind: Compressed, fix: (*fixer).gzip}},         // RFC 1952
		{0, "\xfd7zXZ\x00", format{name: "xz", look: (*inspector).xz, kind: Compressed, fix: (*fixer).xz}},               // xz-file-format
		{0, zstdMark, format{name: "zstd", look: (*inspector).zstd, kind: Compressed, fix: (*fixer).zstd}},               // RFC 8878
		{0, "BZh", format{name: "bzip2", look: (*inspector).bzip2, kind: Compressed, fix: (*fixer).bzip2}},               //
		{0, "PK\x03\x04", format{name: "zip", look: (*inspector).zip, kind: Checksummed, fix: (*fixer).zip}},             // APPNOTE.TXT
		{0, "PK\x05\x06", format{name: "zip", look: (*inspector).zip, kind: Checksummed, fix: (*fixer).zip}},             // an empty one
		{4, "PK\x01\x02", format{name: "zip", look: (*inspector).laterZip, kind: Checksummed, fix: (*fixer).zip}},        // Mozilla's omni.ja
		{0, "JM\x01\x00PK\x03\x04", format{name: "jmod", look: (*inspector).jmod, kind: Checksummed, fix: (*fixer).zip}}, // JDK JmodFile
		{0, "FOR1", format{name: beamName, look: (*inspector).beam, fix: (*fixer).beam, code: true, pools: true}},        // erl beam_lib
		{0, "\x83P", format{name: erlangTermName, look: (*inspector).erlangTerm, kind: Compressed, fix: (*fixer).erlangTerm}},
		{0, "# v2 git bundle\n", format{name: "git bundle", look: (*inspector).gitBundle, kind: Checksummed}}, // gitformat-bundle
		{0, "# v3 git bundle\n", format{name: "git bundle", look: (*inspector).gitBundle, kind: Checksummed}},
		{0, "PACK\x00\x00\x00", format{name: "git pack", look: (*inspector).gitPack, kind: Checksummed}},
		{0, "MZ", format{name: "MZ", pools: true, trailer: true}},                               // a program for Windows
		{0, "\x00asm\x01\x00\x00\x00", format{name: "WebAssembly", pools: true, trailer: true}}, // core specification, 5.5
		{0, classMark, format{name: className, kind: HashKeyed, fix: (*fixer).class}},
		{0, arMark, format{name: "ar", look: (*inspector).ar, code: true, fix: (*fixer).ar}},
		{257, "ustar", tarFormat()},
		{0, jimageLittle, format{name: "jimage", look: (*inspector).jimage, fix: (*fixer).jimage}},
		{0, jimageBig, format{name: "jimage", look: (*inspector).jimage, fix: (*fixer).jimage}},

		// What rewriting would break, and has nothing compressed worth looking for.
		{0, "\xa2\xab\x0b\xf0", format{name: classData, kind: HashKeyed, settles: true, fix: (*fixer).classData}}, // JDK cds.h, static
		{0, "\xa8\xab\x0b\xf0", format{name: classData, kind: HashKeyed, settles: true, fix: (*fixer).classData}}, // dynamic
		// Rewritten as text, which its checksum then says: Julia passes over it and compiles anew (base/loading.jl,
		// isvalid_file_crc). With the checksum made right it would be used, and tables keyed by paths are in it.
		{0, "\xfbjli\r\n\x1a\n", format{name: "Julia cache"}},
		{0, "\x89PNG\r\n\x1a\n", format{name: "PNG", kind: Checksummed, fix: (*fixer).png}},                   // a CRC per chunk
		{0, sqliteMark, format{name: "SQLite database", kind: HashKeyed, fix: (*fixer).sqlite, always: true}}, // fileformat2
		{0, lispMark, format{name: lispName, fix: (*fixer).lisp, always: true}},                               // core.h
		{0, "\x37\x7f\x06\x82", format{name: "SQLite write-ahead log", kind: Checksummed}},                    // a sum over each frame
		{0, "\x37\x7f\x06\x83", format{name: "SQLite write-ahead log", kind: Checksummed}},                    //
		{0, "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", format{name: "SQLite rollback journal", kind: Checksummed}},
		{0, "OggS\x00", format{name: "Ogg", kind: Checksummed}}, // RFC 3533, a CRC per page
		// An app's own, with V8's in it (Node.js src/node_snapshotable.cc, SnapshotData::kMagic).
		{0, "\x19\xda\x43\x01", format{name: "Node.js start-up snapshot", kind: Checksummed, fix: (*fixer).nodeSnapshot}},
		// What becomes a program with Node.js before it (src/node_sea.cc, kMagic).
		{0, "\x20\xda\x43\x01", format{name: "Node.js app in a program", kind: Checksummed, fix: (*fixer).nodeProgram}},
		{0, "\x01\x02\x03\x04", format{name: etsName, kind: Checksummed}},                                    // disk_log.hrl, ets.erl
		{4, "\x00\xab\xcd\xef", format{name: "Erlang's dets table", kind: HashKeyed}},                        // dets_v9.erl
		{0, chezMark, format{name: "Chez Scheme code", kind: Compressed, settles: true, fix: (*fixer).chez}}, // fasl.ss
		{0, "#~", format{name: racketName, kind: Compressed, settles: true, fix: (*fixer).chez}},             // compiled-code
		{0, "070702", format{name: "cpio with checksums", kind: Checksummed}},                                // newc, crc
		{0, catalogueLittle, format{name: "message catalogue", kind: HashKeyed, fix: (*fixer).catalogue}},
		{0, catalogueBig, format{name: "message catalogue", kind: HashKeyed, fix: (*fixer).catalogue}},
		{0, "\x89HDF\r\n\x1a\n", format{name: "HDF5", kind: Checksummed, fix: (*fixer).hdf5}},
		{0, "TDB file\n", format{name: "TDB table", kind: HashKeyed}},
		{0, "DIRC\x00\x00\x00", format{name: "git index", kind: Checksummed}},                        // gitformat-index
		{0, "\x00\x01\x00\x01", format{name: revlogName, kind: Checksummed}},                         // mercurial/revlogutils/constants.py
		{0, "\x00\x03\x00\x01", format{name: revlogName, kind: Checksummed}},                         // with deltas to any revision
		{0, "\x3f\xd7\x6c\x17", format{name: "Lucene index", kind: Checksummed}},                     // CodecUtil.java
		{0, "REDIS0", format{name: "Redis dump", kind: Checksummed}},                                 // rdb.c
		{0, "VALKEY", format{name: "Valkey dump", kind: Checksummed}},                                // rdb.c, since 9.0
		{0, "\x41\xd8\x01\x00\x01\x00\x00\x00", format{name: "WiredTiger table", kind: Checksummed}}, // MongoDB; block.h
		{0, "\xfe\xfe\x09", format{name: "Aria index", kind: Checksummed}},                           // MariaDB; maria_def.h
		{0, "DELTA\nSVN", format{name: "Subversion revision", kind: Checksummed}},                    // libsvn_fs_fs/structure
		{0, "PLAIN\nEND\n", format{name: "Subversion revision", kind: Checksummed}},                  // packed: the first revision has nothing
		{0, "PLAIN\nK ", format{name: "Subversion revision", kind: Checksummed}},
		{8, "DUCK", format{name: "DuckDB database", kind: Checksummed}},                   // main_header.cpp
		{0, "\xff\x06\x00\x00sNaPpY", format{name: "Snappy", kind: Checksummed}},          // framing_format.txt
		{0, "\xce\x9a\x57\x13", format{name: "GDBM table", kind: HashKeyed}},              // gdbmconst.h
		{0, "\xcd\x9a\x57\x13", format{name: "GDBM table", kind: HashKeyed}},              //
		{0, "\xcf\x9a\x57\x13", format{name: "GDBM table", kind: HashKeyed}},              //
		{0, "\xd0\x9a\x57\x13", format{name: "GDBM table", kind: HashKeyed}},              //
		{12, "\x61\x15\x06\x00", format{name: "Berkeley DB hash table", kind: HashKeyed}}, // db_page.h
		{12, "\x00\x06\x15\x61", format{name: "Berkeley DB hash table", kind: HashKeyed}}, //
		{12, "\x62\x31\x05\x00", format{name: "Berkeley DB B-tree", kind: HashKeyed}},     // sorted by its keys
		{12, "\x00\x05\x31\x62", format{name: "Berkeley DB B-tree", kind: HashKeyed}},     //
		{0, "\x00\x06\x15\x61", format{name: "Berkeley DB hash table", kind: HashKeyed}},  // of version 1: db.h of 4.4BSD
		{0, "\x61\x15\x06\x00", format{name: "Berkeley DB hash table", kind: HashKeyed}},  //
		{0, "\x62\x31\x05\x00", format{name: "Berkeley DB B-tree", kind: HashKeyed}},      //
		{0, "\x00\x05\x31\x62", format{name: "Berkeley DB B-tree", kind: HashKeyed}},      //
		{16, "\xde\xc0\xef\xbe\x01\x00\x00\x00", format{name: "LMDB", kind: HashKeyed}},   // the same; mdb.c
		{16, "\xed\xda\x0c\xed", format{name: "bbolt", kind: HashKeyed}},                  // sorted, too; db.go
		{0, "ToKyO CaBiNeT\n", format{name: "Tokyo Cabinet table", kind: HashKeyed}},      // tchdb.c
		{0, "KC\n\x00", format{name: "Kyoto Cabinet table", kind: HashKeyed}},             // kchashdb.h
		{0, "[depot]\n\f", format{name: "QDBM table", kind: HashKeyed}},                   // depot.c
		{0, "TkrzwHDB\n", format{name: "Tkrzw table", kind: HashKeyed}},                   // tkrzw_dbm_hash_impl.cc
		{0, "\xfe\xfe\x07", format{name: "MyISAM index", kind: HashKeyed}},                // mi_open.c
		{0, "H:2,block:", format{name: "H2 database", kind: HashKeyed}},                   // sorted, too; MVStore
		{0, "PAR1\x15", format{name: "Parquet", kind: HashKeyed}},                         // has least and greatest values
		{0, rData2, rData},            // R Internals, 1.8
		{0, rData3, rData},            //
		{0, rNative2, rData},          //
		{0, rNative3, rData},          //
		{0, rText2, rData},            //
		{0, rText3, rData},            //
		{0, "RDX2\n" + rData2, rData}, //
		{0, "RDX3\n" + rData3, rData}, //
		{0, "RDB2\n" + rNative2, rData},
		{0, "RDB3\n" + rNative3, rData},
		{0, "RDA2\n" + rText2, rData},
		{0, "RDA3\n" + rText3, rData},
		{0, "\r\x00\x00\x00\x00\x00\x00\x00nix-archive-1", format{name: "NAR", kind: Checksummed}}, // narinfos have its hash
		{0, "ESZIP_V2", format{name: "eszip", kind: Checksummed}},                                  // Deno
		{0, "ESZIP2.", format{name: "eszip", kind: Checksummed}},                                   //
		{0, "dex\n0", format{name: "Dalvik program", kind: Checksummed}},                           // and sorted strings
		{0, "\xfe\xed\xfe\xed", format{name: keyStoreName, kind: Checksummed}},                     // a hash over all: JavaKeyStore.java
		{0, "\xce\xce\xce\xce", format{name: keyStoreName, kind: Checksummed}},                     // of JCEKS: JceKeyStore.java
		{0x438, "\x53\xef", format{name: "ext file system image", kind: Checksummed}},              // ext4: inode checksums

		// What cannot be looked into here.
		{0, "hsqs", format{name: "squashfs", kind: Compressed, opaque: true}},
		{0, "sqsh", format{name: "squashfs", kind: Compressed, opaque: true}},
		{0, "QFI\xfb", format{name: "qcow2 image", kind: Compressed, opaque: true}},
		{0x400, "\xe2\xe1\xf5\xe0", format{name: "EROFS", kind: Compressed, opaque: true}},
		{0, "7z\xbc\xaf\x27\x1c", format{name: "7z", kind: Compressed, opaque: true}},
		{0, "MSCF\x00\x00\x00\x00", format{name: "cabinet", kind: Compressed, opaque: true}}, // [MS-CAB]
		{0, "xar!\x00\x1c", format{name: "xar", kind: Compressed, opaque: true}},
		{0, "\xed\xab\xee\xdb", format{name: "RPM package", kind: Compressed, opaque: true}},
		{0, "\x45\x3d\xcd\x28", format{name: "cramfs", kind: Compressed, opaque: true}},
		{0, "MSWIM\x00\x00\x00", format{name: "WIM image", kind: Compressed, opaque: true}},
		{0, "Rar!\x1a\x07", format{name: "RAR", kind: Compressed, opaque: true}},
		{0, "LZIP\x01", format{name: "lzip", kind: Compressed, opaque: true}},
		{0, "\x04\x22\x4d\x18", format{name: "lz4", kind: Compressed, opaque: true}},
		{0, "\x02\x21\x4c\x18", format{name: "lz4", kind: Compressed, opaque: true}}, // before version 1.4
		{0, "\x89LZO\x00\r\n\x1a\n", format{name: "lzop", kind: Compressed, opaque: true}},
		{0, "\x1f\x9d", format{name: "compress (.Z)", kind: Compressed, opaque: true}},
	}
}

// recognise tells the format of a file by its base name and its first bytes, as many as are wanted or all there are.
func (x *inspector) recognise(name string, head []byte) format {
	head = afterSkippable(head)
	for i := range x.magics {
		m := &x.magics[i]
		if len(head) >= m.at+len(m.bytes) && string(head[m.at:m.at+len(m.bytes)]) == m.bytes && plausible(m, head) {
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

// plausible checks more than the magic where the magic could be the start of a text.
func plausible(m *magic, head []byte) bool {
	switch m.name {
	case "bzip2":
		return len(head) >= 10 && '1' <= head[3] && head[3] <= '9' &&
			(string(head[4:10]) == "\x31\x41\x59\x26\x53\x59" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90")
	case racketName:
		return isRacket(head)
	case erlangTermName:
		return len(head) > erlangTermHead && isZlib(head[erlangTermHead:])
	case rDataName: // as text, versions of R follow
		return head[0] != 'A' || len(bytes.Trim(head[len(rText3):min(len(head), len(rText3)+14)], "0123456789\n")) == 0
	case "Redis dump", "Valkey dump":
		return len(head) >= 9 && len(bytes.Trim(head[6:9], "0123456789")) == 0 // the rest of its version
	case "squashfs":
		return !isText(head) // such as one that begins with the name of a program, sqsh
	case "DuckDB database":
		return len(head) >= 20 && string(head[16:20]) == "\x00\x00\x00\x00" // behind a version of eight bytes
	case className:
		return len(head) >= 8 && binary.BigEndian.Uint16(head[6:]) >= firstClass
	case etsName: // its first record has the options of tab2file/3
		return len(head) > 8 && (string(head[4:8]) == "cXM\x0b" || string(head[4:8]) == "\x06\x07\x08\x09") &&
			bytes.Contains(head, []byte("\x06md5sum"))
	case beamName:
		return len(head) >= 12 && string(head[8:12]) == "BEAM"
	case "git pack":
		return len(head) >= 12 && (head[7] == 2 || head[7] == 3)
	case keyStoreName: // of version 1 or 2
		return len(head) >= 8 && (string(head[4:8]) == "\x00\x00\x00\x01" || string(head[4:8]) == "\x00\x00\x00\x02")
	case revlogName: // the first revision has no parents
		return len(head) >= 64 && string(head[24:32]) == "\xff\xff\xff\xff\xff\xff\xff\xff"
	case "cpio with checksums":
		return len(head) >= 110 && len(bytes.Trim(head[:110], "0123456789abcdefABCDEF")) == 0
	case "ext file system image":
		// A boot block, most of it unused, and behind the magic s_state and s_errors.
		return bytes.Count(head[:0x400], []byte{0}) > 0x200 && !bytes.HasPrefix(head, []byte("\x7fELF")) &&
			len(head) > 0x43e && head[0x43a] < 8 && head[0x43b] == 0 && head[0x43c]-1 < 3 && head[0x43d] == 0
	}
	return true
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

// isRacket reports whether head begins compiled code: a version, the virtual machine or the machine that the code is for,
// and whether it is a bundle, a directory of them or a syntax literal (Racket's "printing compiled code").
func isRacket(head []byte) bool {
	word := func() (text []byte) {
		if n := int(head[0]); n < len(head)-1 && n < 32 {
			text, head = head[1:n+1], head[n+1:]
		}
		return text
	}
	head = head[len("#~"):]
	if len(head) < 2 {
		return false
	}
	version := word()
	return len(version) > 1 && len(bytes.Trim(version, ".0123456789")) == 0 && len(word()) > 1 &&
		bytes.IndexByte([]byte("BDS"), head[0]) >= 0
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

const (
	elfName        = "ELF"
	erlangTermName = "Erlang term"
	racketName     = "Racket code"
	revlogName     = "Mercurial revlog"
	keyStoreName   = "Java key store"
	rDataName      = "R data"
)
