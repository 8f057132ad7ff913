package gitfiles

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// errAbsent is an object that is not here: the repository is a partial or broken one.
var errAbsent = errors.New("the object is not in this repository")

// read gives an object's content, checked against its name, if it is of the wanted kind.
func (r *Repository) read(id, want string) ([]byte, error) {
	name, err := hex.DecodeString(id)
	if err != nil || len(name) != r.hashSize {
		return nil, fmt.Errorf("%.80q is no object name", id)
	}
	kind, data, err := r.object(name, 0)
	if err != nil {
		return nil, err
	}
	if kind != want {
		return nil, fmt.Errorf("the object is a %s, not a %s", kind, want)
	}
	if ObjectID(kind, data, r.hashSize) != id {
		return nil, errors.New("the object's content does not have this name")
	}
	return data, nil
}

// ObjectID is the name that git gives to content: with 20 bytes SHA-1, with 32 SHA-256, in hex.
func ObjectID(kind string, data []byte, size int) string {
	var sum hash.Hash = sha1.New()
	if size == sha256.Size {
		sum = sha256.New()
	}
	fmt.Fprintf(sum, "%s %d\x00", kind, len(data))
	sum.Write(data)
	return hex.EncodeToString(sum.Sum(nil))
}

// HashSize is the length of this repository's object names in bytes.
func (r *Repository) HashSize() int { return r.hashSize }

func (r *Repository) object(name []byte, depth int) (string, []byte, error) {
	for _, store := range r.stores {
		id := hex.EncodeToString(name)
		kind, data, err := loose(filepath.Join(store, id[:2], id[2:]))
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return kind, data, err
		}
	}
	for _, p := range r.packs {
		offset, found, err := p.find(name)
		if err != nil {
			return "", nil, err
		}
		if found {
			return r.packed(p, offset, depth)
		}
	}
	return "", nil, errAbsent
}

// loose reads an object that has a file of its own: zlib of "<kind> <size>\0<content>".
func loose(file string) (string, []byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	z, err := zlib.NewReader(bufio.NewReader(f))
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", file, err)
	}
	r := bufio.NewReader(z)
	head, err := r.ReadString(0)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", file, err)
	}
	kind, text, _ := strings.Cut(strings.TrimSuffix(head, "\x00"), " ")
	size, err := strconv.ParseInt(text, 10, 64)
	if err != nil || size < 0 || size > maxObject {
		return "", nil, fmt.Errorf("%s: its size is %.40q", file, text)
	}
	data, err := readExactly(r, size)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", file, err)
	}
	return kind, data, nil
}

// readExactly reads to the end, which must come after size bytes.
func readExactly(r io.Reader, size int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != size {
		return nil, fmt.Errorf("it has not the %d bytes that it says", size)
	}
	return data, nil
}

func readSmall(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(data) > maxSmall {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxSmall)
	}
	return string(data), err
}

// applyDelta makes an object from another one and the instructions to change it.
func applyDelta(base, delta []byte) ([]byte, error) {
	broken := errors.New("a delta is broken")
	from, delta, ok := deltaSize(delta)
	if !ok || from != uint64(len(base)) {
		return nil, broken
	}
	to, delta, ok := deltaSize(delta)
	if !ok || to > maxObject {
		return nil, broken
	}
	out := bytes.NewBuffer(make([]byte, 0, min(to, maxSmall)))
	for len(delta) > 0 {
		op := delta[0]
		delta = delta[1:]
		switch {
		case op&0x80 != 0:
			var offset, size uint64
			for i := range 7 {
				if op&(1<<i) == 0 {
					continue
				}
				if len(delta) == 0 {
					return nil, broken
				}
				if i < 4 {
					offset |= uint64(delta[0]) << (8 * i)
				} else {
					size |= uint64(delta[0]) << (8 * (i - 4))
				}
				delta = delta[1:]
			}
			if size == 0 {
				size = 0x10000
			}
			if offset+size > uint64(len(base)) || uint64(out.Len())+size > to {
				return nil, broken
			}
			out.Write(base[offset : offset+size])
		case op != 0 && len(delta) >= int(op) && uint64(out.Len())+uint64(op) <= to:
			out.Write(delta[:op])
			delta = delta[op:]
		default:
			return nil, broken
		}
	}
	if uint64(out.Len()) != to {
		return nil, broken
	}
	return out.Bytes(), nil
}

// deltaSize reads a number of 7 bits a byte, least significant first.
func deltaSize(data []byte) (size uint64, rest []byte, ok bool) {
	for i := 0; i < len(data) && i < 9; i++ {
		size |= uint64(data[i]&0x7f) << (7 * i)
		if data[i]&0x80 == 0 {
			return size, data[i+1:], true
		}
	}
	return 0, nil, false
}
