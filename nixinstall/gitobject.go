package nixinstall

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// maxCommit bounds a commit's text; commit messages of a megabyte exist in no repository worth the name.
const maxCommit = 1 << 20

// errNoCommit says that a commit is not stored in a way that is read here.
var errNoCommit = errors.New("the commit is not stored whole")

// commitTime is when HEAD's commit was made, in seconds since 1970: what a flake of this revision sees as
// self.lastModified. 0 where the commit cannot be read: a shallow or partial copy, a delta in a pack.
func commitTime(common, rev string) int64 {
	text, err := looseObject(common, rev)
	if err != nil {
		text, err = packedCommit(common, rev)
	}
	if err != nil {
		return 0
	}
	return committed(text)
}

// committed reads the time in a commit's line "committer NAME <MAIL> SECONDS ZONE".
func committed(commit []byte) int64 {
	for line := range strings.Lines(string(commit)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			return 0
		}
		if rest, ok := strings.CutPrefix(line, "committer "); ok {
			fields := strings.Fields(rest[strings.LastIndexByte(rest, '>')+1:])
			if len(fields) == 0 {
				return 0
			}
			seconds, err := strconv.ParseInt(fields[0], 10, 64)
			if err != nil || seconds < 0 {
				return 0
			}
			return seconds
		}
	}
	return 0
}

// looseObject reads a commit from objects/ab/cdef….
func looseObject(common, rev string) ([]byte, error) {
	f, err := os.Open(filepath.Join(common, "objects", rev[:2], rev[2:]))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := inflate(f)
	if err != nil {
		return nil, err
	}
	head, text, found := bytes.Cut(data, []byte{0})
	if !found || !bytes.HasPrefix(head, []byte("commit ")) {
		return nil, errNoCommit
	}
	return text, nil
}

func inflate(r io.Reader) ([]byte, error) {
	z, err := zlib.NewReader(r)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return io.ReadAll(io.LimitReader(z, maxCommit))
}

// packedCommit reads a commit from the pack whose index knows it (git: Documentation/gitformat-pack.txt).
func packedCommit(common, rev string) ([]byte, error) {
	id, err := hex.DecodeString(rev)
	if err != nil {
		return nil, err
	}
	indexes, err := filepath.Glob(filepath.Join(common, "objects", "pack", "*.idx"))
	if err != nil {
		return nil, err
	}
	for _, index := range indexes {
		offset, err := indexedOffset(index, id)
		if err != nil || offset < 0 {
			continue
		}
		return packedAt(strings.TrimSuffix(index, ".idx")+".pack", offset)
	}
	return nil, errNoCommit
}

const (
	packMagic   = "\xfftOc\x00\x00\x00\x02"
	fanoutBytes = 256 * 4
	packOffset  = 8 + fanoutBytes
)

// indexedOffset is where an object lies in the pack of a version-2 index; -1 where it does not.
func indexedOffset(index string, id []byte) (int64, error) {
	f, err := os.Open(index)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	head := make([]byte, packOffset)
	if _, err := f.ReadAt(head, 0); err != nil {
		return -1, err
	}
	if string(head[:8]) != packMagic {
		return -1, fmt.Errorf("%s is no index of version 2", index)
	}
	fanout := func(i int) int64 { return int64(binary.BigEndian.Uint32(head[8+4*i:])) }
	total, low, high := fanout(255), int64(0), fanout(int(id[0]))
	if id[0] > 0 {
		low = fanout(int(id[0]) - 1)
	}
	size := int64(len(id))
	var failed error
	at := func(offset int64, n int) []byte {
		b := make([]byte, n)
		if _, err := f.ReadAt(b, offset); err != nil {
			failed = err
		}
		return b
	}
	if high < low || high > total {
		return -1, fmt.Errorf("%s is out of order", index)
	}
	i := low + int64(sort.Search(int(high-low), func(i int) bool {
		return bytes.Compare(at(packOffset+(low+int64(i))*size, len(id)), id) >= 0
	}))
	if failed != nil || i >= high || !bytes.Equal(at(packOffset+i*size, len(id)), id) {
		return -1, failed
	}
	offsets := packOffset + total*(size+4)
	offset := int64(binary.BigEndian.Uint32(at(offsets+i*4, 4)))
	if offset&(1<<31) != 0 {
		offset = int64(binary.BigEndian.Uint64(at(offsets+total*4+(offset&^(1<<31))*8, 8)))
	}
	return offset, failed
}

// packedAt reads the commit at an offset of a pack.
func packedAt(pack string, offset int64) ([]byte, error) {
	const commitType = 1
	f, err := os.Open(pack)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	header := make([]byte, 16)
	n, err := f.ReadAt(header, offset)
	if n == 0 {
		return nil, err
	}
	if header[0]>>4&7 != commitType {
		return nil, errNoCommit
	}
	length := 1
	for header[length-1]&0x80 != 0 && length < n {
		length++
	}
	return inflate(io.NewSectionReader(f, offset+int64(length), maxCommit))
}
