package gitfiles

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
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

	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// objectName is an object's name in bytes, of which SHA-1 fills the first 20.
type objectName [sha256.Size]byte

func (n objectName) hex(size int) string { return hex.EncodeToString(n[:size]) }

// name reads an object's name in hex.
func (r *Repository) name(id string) (objectName, error) {
	var name objectName
	decoded, err := hex.DecodeString(id)
	if err != nil || len(decoded) != r.hashSize {
		return name, fmt.Errorf("%.80q is no object name", id)
	}
	copy(name[:], decoded)
	return name, nil
}

// limits are how many bytes an object of a kind may have.
var limits = map[string]int64{"commit": maxCommit, "tree": maxTree, "blob": maxObject}

// read gives an object's content, checked against its name, if it is of the wanted kind.
func (r *Repository) read(ctx context.Context, id, want string) ([]byte, error) {
	name, err := r.name(id)
	if err != nil {
		return nil, err
	}
	kind, data, err := r.object(ctx, name, limits[want], 0)
	if err != nil {
		return nil, err
	}
	if kind != want {
		return nil, fmt.Errorf("the object is a %.20q, not a %s", kind, want)
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

// object reads an object of at most limit bytes, which is the base of that many deltas.
func (r *Repository) object(ctx context.Context, name objectName, limit int64, deltas int) (string, []byte, error) {
	id := name.hex(r.hashSize)
	for _, store := range r.stores {
		kind, data, err := r.loose(ctx, filepath.Join(store, id[:2], id[2:]), limit)
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return kind, data, err
		}
	}
	if err := r.findPacks(ctx); err != nil {
		return "", nil, err
	}
	for i, p := range r.packs {
		if err := ctx.Err(); err != nil {
			return "", nil, err
		}
		if err := r.open(p); err != nil {
			return "", nil, fmt.Errorf("%s: %w", p.name, err)
		}
		offset, found, err := p.find(name[:r.hashSize])
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", p.name, err)
		}
		if found {
			kind, data, err := r.packed(ctx, p, offset, limit, deltas)
			if err != nil {
				err = fmt.Errorf("%s: %w", p.name, err)
			}
			// What is asked for next is likely to be in the same.
			copy(r.packs[1:i+1], r.packs[:i])
			r.packs[0] = p
			return kind, data, err
		}
	}
	return "", nil, ErrAbsent
}

// loose reads an object that has a file of its own: zlib of "<kind> <size>\0<content>".
func (r *Repository) loose(ctx context.Context, file string, limit int64) (string, []byte, error) {
	f, err := regularfile.Open(file)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	z, err := zlib.NewReader(bufio.NewReader(r.metered(ctx, f)))
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", file, err)
	}
	in := bufio.NewReader(r.metered(ctx, z))
	head, err := in.ReadSlice(0) // no more than its buffer
	if err != nil {
		return "", nil, fmt.Errorf("%s: its head does not end: %w", file, err)
	}
	kind, text, _ := strings.Cut(strings.TrimSuffix(string(head), "\x00"), " ")
	size, err := strconv.ParseInt(text, 10, 64)
	if err != nil || size < 0 || size > limit {
		return "", nil, fmt.Errorf("%s: its size is %.40q, at most %d bytes are read", file, text, limit)
	}
	data, err := readExactly(in, size)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", file, err)
	}
	return kind, data, nil
}

// readExactly reads to the end, which must come after size bytes.
func readExactly(r io.Reader, size int64) ([]byte, error) {
	var data bytes.Buffer
	data.Grow(int(min(size, maxSmall)) + bytes.MinRead)
	n, err := io.Copy(&data, io.LimitReader(r, size+1))
	if err != nil {
		return nil, err
	}
	if n != size {
		return nil, fmt.Errorf("it has not the %d bytes that it says", size)
	}
	return data.Bytes(), nil
}

// applyDelta makes an object of at most limit bytes from another one and the instructions to change it.
func applyDelta(base, delta []byte, limit int64) ([]byte, error) {
	broken := errors.New("a delta is broken")
	from, delta, ok := deltaSize(delta)
	if !ok || from != uint64(len(base)) {
		return nil, broken
	}
	to, delta, ok := deltaSize(delta)
	if !ok || to > uint64(limit) {
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
