package relocate

import (
	"bytes"
	"encoding/binary"
)

// Names of formats in more than one place.
const (
	beamName     = "beam"
	keyStoreName = "Java key store"
)

// magic is the mark of a format at a fixed place.
type magic struct {
	at    int
	bytes string
	format
}

// magics are the formats that bytes at the start tell. Sources are the formats' own documents; where a format is a
// program's private one, the program's file that writes it is named.
func magics() []magic {
	rData := format{name: "R data", kind: HashKeyed, fix: (*fixer).rData, check: isRData}
	return []magic{
		{0, "\x1f\x8b\x08", format{name: "gzip", look: (*inspector).gzip, kind: Compressed, fix: (*fixer).gzip}},                 // RFC 1952
		{0, "\xfd7zXZ\x00", format{name: "xz", look: (*inspector).xz, kind: Compressed, fix: (*fixer).xz}},                       // xz-file-format
		{0, zstdMark, format{name: "zstd", look: (*inspector).zstd, kind: Compressed, fix: (*fixer).zstd}},                       // RFC 8878
		{0, "BZh", format{name: "bzip2", check: isBzip2, look: (*inspector).bzip2, kind: Compressed, fix: (*fixer).bzip2}},       //
		{0, "PK\x03\x04", format{name: "zip", look: (*inspector).zip, kind: Checksummed, fix: (*fixer).zip}},                     // APPNOTE.TXT
		{0, "PK\x05\x06", format{name: "zip", look: (*inspector).zip, kind: Checksummed, fix: (*fixer).zip}},                     // an empty one
		{4, "PK\x01\x02", format{name: "zip", look: (*inspector).laterZip, kind: Checksummed, fix: (*fixer).zip}},                // Mozilla's omni.ja
		{0, "JM\x01\x00PK\x03\x04", format{name: "jmod", look: (*inspector).jmod, kind: Checksummed, fix: (*fixer).zip}},         // JDK JmodFile
		{0, "FOR1", format{name: beamName, check: isBeam, look: (*inspector).beam, fix: (*fixer).beam, code: true, pools: true}}, // erl beam_lib
		{0, "\x83P", format{name: "Erlang term", check: isErlangTerm, look: (*inspector).erlangTerm, kind: Compressed, fix: (*fixer).erlangTerm}},
		{0, "# v2 git bundle\n", format{name: "git bundle", look: (*inspector).gitBundle, kind: Checksummed}}, // gitformat-bundle
		{0, "# v3 git bundle\n", format{name: "git bundle", look: (*inspector).gitBundle, kind: Checksummed}},
		{0, "PACK\x00\x00\x00", format{name: "git pack", check: isGitPack, look: (*inspector).gitPack, kind: Checksummed}},
		{0, "MZ", format{name: "MZ", pools: true, trailer: true}},                               // a program for Windows
		{0, "\x00asm\x01\x00\x00\x00", format{name: "WebAssembly", pools: true, trailer: true}}, // core specification, 5.5
		{0, classMark, format{name: className, check: isClass, kind: HashKeyed, fix: (*fixer).class}},
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
		{0, "\x01\x02\x03\x04", format{name: "Erlang's ETS table with a checksum", check: isETS, kind: Checksummed}}, // disk_log.hrl, ets.erl
		{4, "\x00\xab\xcd\xef", format{name: "Erlang's dets table", kind: HashKeyed}},                                // dets_v9.erl
		{0, chezMark, format{name: "Chez Scheme code", kind: Compressed, settles: true, fix: (*fixer).chez}},         // fasl.ss
		{0, "#~", format{name: "Racket code", check: isRacket, kind: Compressed, settles: true, fix: (*fixer).chez}}, // compiled-code
		{0, "070702", format{name: "cpio with checksums", check: isCpio, kind: Checksummed}},                         // newc, crc
		{0, catalogueLittle, format{name: "message catalogue", kind: HashKeyed, fix: (*fixer).catalogue}},
		{0, catalogueBig, format{name: "message catalogue", kind: HashKeyed, fix: (*fixer).catalogue}},
		{0, "\x89HDF\r\n\x1a\n", format{name: "HDF5", kind: Checksummed, fix: (*fixer).hdf5}},
		{0, "TDB file\n", format{name: "TDB table", kind: HashKeyed}},
		{0, "DIRC\x00\x00\x00", format{name: "git index", kind: Checksummed}},                         // gitformat-index
		{0, "\x00\x01\x00\x01", format{name: "Mercurial revlog", check: isRevlog, kind: Checksummed}}, // mercurial/revlogutils/constants.py
		{0, "\x00\x03\x00\x01", format{name: "Mercurial revlog", check: isRevlog, kind: Checksummed}}, // with deltas to any revision
		{0, "\x3f\xd7\x6c\x17", format{name: "Lucene index", kind: Checksummed}},                      // CodecUtil.java
		{0, "REDIS0", format{name: "Redis dump", check: isDump, kind: Checksummed}},                   // rdb.c
		{0, "VALKEY", format{name: "Valkey dump", check: isDump, kind: Checksummed}},                  // rdb.c, since 9.0
		{0, "\x41\xd8\x01\x00\x01\x00\x00\x00", format{name: "WiredTiger table", kind: Checksummed}},  // MongoDB; block.h
		{0, "\xfe\xfe\x09", format{name: "Aria index", kind: Checksummed}},                            // MariaDB; maria_def.h
		{0, "DELTA\nSVN", format{name: "Subversion revision", kind: Checksummed}},                     // libsvn_fs_fs/structure
		{0, "PLAIN\nEND\n", format{name: "Subversion revision", kind: Checksummed}},                   // packed: the first revision has nothing
		{0, "PLAIN\nK ", format{name: "Subversion revision", kind: Checksummed}},
		{8, "DUCK", format{name: "DuckDB database", check: isDuckDB, kind: Checksummed}},  // main_header.cpp
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
		{0, "\r\x00\x00\x00\x00\x00\x00\x00nix-archive-1", format{name: "NAR", kind: Checksummed}},  // narinfos have its hash
		{0, "ESZIP_V2", format{name: "eszip", kind: Checksummed}},                                   // Deno
		{0, "ESZIP2.", format{name: "eszip", kind: Checksummed}},                                    //
		{0, "dex\n0", format{name: "Dalvik program", kind: Checksummed}},                            // and sorted strings
		{0, "\xfe\xed\xfe\xed", format{name: keyStoreName, check: isKeyStore, kind: Checksummed}},   // a hash over all: JavaKeyStore.java
		{0, "\xce\xce\xce\xce", format{name: keyStoreName, check: isKeyStore, kind: Checksummed}},   // of JCEKS: JceKeyStore.java
		{0x438, "\x53\xef", format{name: "ext file system image", check: isExt, kind: Checksummed}}, // ext4: inode checksums

		// What cannot be looked into here.
		{0, "hsqs", format{name: "squashfs", check: isSquashfs, kind: Compressed, opaque: true}},
		{0, "sqsh", format{name: "squashfs", check: isSquashfs, kind: Compressed, opaque: true}},
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

func isBzip2(head []byte) bool {
	return len(head) >= 10 && '1' <= head[3] && head[3] <= '9' &&
		(string(head[4:10]) == "\x31\x41\x59\x26\x53\x59" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90")
}

// isErlangTerm wants zlib behind the head of a compressed term.
func isErlangTerm(head []byte) bool {
	return len(head) > erlangTermHead && isZlib(head[erlangTermHead:])
}

// isRData wants of one that is text versions of R behind the mark.
func isRData(head []byte) bool {
	return head[0] != 'A' || len(bytes.Trim(head[len(rText3):min(len(head), len(rText3)+14)], "0123456789\n")) == 0
}

// isDump wants the rest of a dump's version, in digits.
func isDump(head []byte) bool { return len(head) >= 9 && len(bytes.Trim(head[6:9], "0123456789")) == 0 }

// isSquashfs is false for a text, such as one that begins with the name of a program, sqsh.
func isSquashfs(head []byte) bool { return !isText(head) }

// isDuckDB wants flags of zero behind the version, which has eight bytes.
func isDuckDB(head []byte) bool { return len(head) >= 20 && string(head[16:20]) == "\x00\x00\x00\x00" }

// isClass tells classes from Mach-O's programs for several machines, which have the same mark.
func isClass(head []byte) bool {
	return len(head) >= 8 && binary.BigEndian.Uint16(head[6:]) >= firstClass
}

// isETS wants the first record to have the options of tab2file/3.
func isETS(head []byte) bool {
	return len(head) > 8 && (string(head[4:8]) == "cXM\x0b" || string(head[4:8]) == "\x06\x07\x08\x09") &&
		bytes.Contains(head, []byte("\x06md5sum"))
}

func isBeam(head []byte) bool { return len(head) >= 12 && string(head[8:12]) == "BEAM" }

func isGitPack(head []byte) bool { return len(head) >= 12 && (head[7] == 2 || head[7] == 3) }

// isKeyStore wants one of the two versions there are.
func isKeyStore(head []byte) bool {
	return len(head) >= 8 && (string(head[4:8]) == "\x00\x00\x00\x01" || string(head[4:8]) == "\x00\x00\x00\x02")
}

// isRevlog wants a first revision without parents.
func isRevlog(head []byte) bool {
	return len(head) >= 64 && string(head[24:32]) == "\xff\xff\xff\xff\xff\xff\xff\xff"
}

func isCpio(head []byte) bool {
	return len(head) >= 110 && len(bytes.Trim(head[:110], "0123456789abcdefABCDEF")) == 0
}

// isExt wants a boot block, most of it unused, and behind the magic s_state and s_errors.
func isExt(head []byte) bool {
	return bytes.Count(head[:0x400], []byte{0}) > 0x200 && !bytes.HasPrefix(head, []byte("\x7fELF")) &&
		len(head) > 0x43e && head[0x43a] < 8 && head[0x43b] == 0 && head[0x43c]-1 < 3 && head[0x43d] == 0
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
