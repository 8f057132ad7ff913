package gitfiles

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// maxIndex bounds the index file in bytes; a million files take about 100 MB.
const maxIndex = 64 << 20

// index is the files of .git/index: those of the last commit, with what was added since.
func (r *Repository) index(ctx context.Context) (*Snapshot, error) {
	data, err := regularfile.Read(ctx, filepath.Join(r.dir, "index"), maxIndex)
	if err != nil {
		return nil, fmt.Errorf("reading the index: %w", err)
	}
	files, err := parseIndex(data, r.hashSize)
	if err != nil {
		return nil, fmt.Errorf("reading the index: %w", err)
	}
	return &Snapshot{Files: files, From: "the index"}, nil
}

// Flags of an index entry.
const (
	extendedFlag = 0x4000
	stageMask    = 0x3000
	addLater     = 0x2000 // among the extended flags: "git add -N", not part of the next commit
	fixedPart    = 40     // bytes before the object's name
)

// parseIndex reads the files of an index of version 2, 3 or 4 whose object names have hashSize bytes. Conflicts and
// files that are only intended to be added are left out; a split index is refused, as its files are elsewhere.
func parseIndex(data []byte, hashSize int) (map[string]File, error) {
	if len(data) < 12+hashSize || string(data[:4]) != "DIRC" {
		return nil, errors.New("it does not begin with DIRC")
	}
	version, count := binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:])
	if version < 2 || version > 4 {
		return nil, fmt.Errorf("its version is %d, of which nothing is known", version)
	}
	if count > maxFiles {
		return nil, fmt.Errorf("it has %d files, at most %d are read", count, maxFiles)
	}
	cut := errors.New("it is cut off")
	files := map[string]File{}
	rest, name := data[12:len(data)-hashSize], ""
	names := 0
	for range count {
		head := fixedPart + hashSize + 2
		if len(rest) < head {
			return nil, cut
		}
		mode := Mode(binary.BigEndian.Uint32(rest[24:]))
		id := hex.EncodeToString(rest[fixedPart : fixedPart+hashSize])
		flags := binary.BigEndian.Uint16(rest[fixedPart+hashSize:])
		var more uint16
		if flags&extendedFlag != 0 {
			if head += 2; len(rest) < head {
				return nil, cut
			}
			more = binary.BigEndian.Uint16(rest[head-2:])
		}
		var size int
		var ok bool
		if name, size, ok = entryName(rest, head, name, version); !ok {
			return nil, cut
		}
		rest = rest[size:]
		if names += len(name); names > maxNames {
			return nil, fmt.Errorf("its names have more than %d bytes", maxNames)
		}
		if flags&stageMask == 0 && more&addLater == 0 && mode != tree {
			files[name] = File{Mode: normal(mode), ID: id}
		}
	}
	if bytes.HasPrefix(rest, []byte("link")) {
		return nil, errors.New("it is split, and the other part is not read")
	}
	return files, nil
}

// entryName reads the name after an entry's head and gives the entry's whole size.
func entryName(entry []byte, head int, before string, version uint32) (name string, size int, ok bool) {
	text := entry[head:]
	if version == 4 {
		in := bytes.NewReader(text)
		strip, err := distance(in)
		if err != nil || strip > int64(len(before)) {
			return "", 0, false
		}
		text = text[len(text)-in.Len():]
		end := bytes.IndexByte(text, 0)
		if end < 0 {
			return "", 0, false
		}
		return before[:len(before)-int(strip)] + string(text[:end]), len(entry) - len(text) + end + 1, true
	}
	end := bytes.IndexByte(text, 0)
	if end < 0 {
		return "", 0, false
	}
	size = (head + end + 8) / 8 * 8
	return string(text[:end]), size, size <= len(entry)
}
