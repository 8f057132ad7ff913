package gitfiles

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
)

// pack is a pack with its index, of which only what is asked for is read.
type pack struct {
	name        string
	index, data *os.File
	fanout      [256]uint32
	hashSize    int
}

// openPacks opens every pack of the repository. One that cannot be read is an error: an object could be in it.
func (r *Repository) openPacks() error {
	for _, store := range r.stores {
		names, err := filepath.Glob(filepath.Join(store, "pack", "pack-*.idx"))
		if err != nil {
			return fmt.Errorf("looking for packs: %w", err)
		}
		for _, name := range names {
			p, err := openPack(name, r.hashSize)
			if err != nil {
				return errors.Join(fmt.Errorf("opening pack %s: %w", name, err), r.Close())
			}
			r.packs = append(r.packs, p)
		}
	}
	return nil
}

func openPack(name string, hashSize int) (*pack, error) {
	p := &pack{name: name, hashSize: hashSize}
	var err error
	if p.index, err = os.Open(name); err != nil {
		return nil, err
	}
	if p.data, err = os.Open(name[:len(name)-len(".idx")] + ".pack"); err != nil {
		return nil, errors.Join(err, p.index.Close())
	}
	head := make([]byte, 8+4*len(p.fanout))
	if _, err = p.index.ReadAt(head, 0); err == nil && !bytes.HasPrefix(head, []byte("\xfftOc\x00\x00\x00\x02")) {
		err = errors.New("its index is not of version 2")
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	for i := range p.fanout {
		p.fanout[i] = binary.BigEndian.Uint32(head[8+4*i:])
	}
	return p, nil
}

func (p *pack) close() error { return errors.Join(p.index.Close(), p.data.Close()) }

// find looks an object's offset up: a fan-out by the first byte, then the sorted names.
func (p *pack) find(name []byte) (offset int64, found bool, err error) {
	low, high := uint32(0), p.fanout[name[0]]
	if name[0] > 0 {
		low = p.fanout[name[0]-1]
	}
	if high < low {
		return 0, false, fmt.Errorf("%s: its table is broken", p.name)
	}
	const names = 8 + 4*256
	size, total := int64(p.hashSize), int64(p.fanout[255])
	buf := make([]byte, p.hashSize)
	i := low + uint32(sort.Search(int(high-low), func(i int) bool {
		if _, readErr := p.index.ReadAt(buf, names+int64(low+uint32(i))*size); readErr != nil && err == nil {
			err = readErr
		}
		return bytes.Compare(buf, name) >= 0
	}))
	if err != nil || i >= high {
		return 0, false, err
	}
	if _, err := p.index.ReadAt(buf, names+int64(i)*size); err != nil || !bytes.Equal(buf, name) {
		return 0, false, err
	}
	offsets := names + total*(size+4)
	var four [4]byte
	if _, err := p.index.ReadAt(four[:], offsets+int64(i)*4); err != nil {
		return 0, false, err
	}
	short := binary.BigEndian.Uint32(four[:])
	if short&(1<<31) == 0 {
		return int64(short), true, nil
	}
	var eight [8]byte
	_, err = p.index.ReadAt(eight[:], offsets+total*4+int64(short&^(1<<31))*8)
	return int64(binary.BigEndian.Uint64(eight[:])), err == nil, err
}

// The kinds of packed objects.
const (
	offsetDelta = 6
	nameDelta   = 7
)

var packedKinds = map[byte]string{1: "commit", 2: "tree", 3: "blob", 4: "tag"}

// packed reads the object at an offset, and those it is a change of.
func (r *Repository) packed(p *pack, offset int64, depth int) (string, []byte, error) {
	if depth > maxDepth {
		return "", nil, fmt.Errorf("%s: a chain of deltas is longer than %d", p.name, maxDepth)
	}
	if offset < 0 {
		return "", nil, fmt.Errorf("%s: an offset is negative", p.name)
	}
	in := bufio.NewReader(io.NewSectionReader(p.data, offset, 1<<62))
	first, err := in.ReadByte()
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", p.name, err)
	}
	kind, size, shift := first>>4&7, int64(first&15), 4
	for b := first; b&0x80 != 0 && shift < 60; shift += 7 {
		if b, err = in.ReadByte(); err != nil {
			return "", nil, fmt.Errorf("%s: %w", p.name, err)
		}
		size |= int64(b&0x7f) << shift
	}
	if size > maxObject {
		return "", nil, fmt.Errorf("%s: an object of %d bytes is too large", p.name, size)
	}
	var baseKind string
	var base []byte
	switch kind {
	case offsetDelta:
		back, err := distance(in)
		if err != nil || back <= 0 || back > offset {
			return "", nil, fmt.Errorf("%s: a delta's base is not in it", p.name)
		}
		baseKind, base, err = r.packed(p, offset-back, depth+1)
		if err != nil {
			return "", nil, err
		}
	case nameDelta:
		name := make([]byte, r.hashSize)
		if _, err := io.ReadFull(in, name); err != nil {
			return "", nil, fmt.Errorf("%s: %w", p.name, err)
		}
		if baseKind, base, err = r.object(name, depth+1); err != nil {
			return "", nil, err
		}
	}
	z, err := zlib.NewReader(in)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", p.name, err)
	}
	data, err := readExactly(z, size)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", p.name, err)
	}
	if base != nil || kind == offsetDelta || kind == nameDelta {
		data, err = applyDelta(base, data)
		return baseKind, data, err
	}
	name, known := packedKinds[kind]
	if !known {
		return "", nil, fmt.Errorf("%s: an object is of unknown kind %d", p.name, kind)
	}
	return name, data, nil
}

// distance reads how far back a base is: 7 bits a byte, most significant first, each further byte adding one.
func distance(in io.ByteReader) (int64, error) {
	var n int64
	for i := range 9 {
		b, err := in.ReadByte()
		if err != nil {
			return 0, err
		}
		if i > 0 {
			n++
		}
		n = n<<7 | int64(b&0x7f)
		if b&0x80 == 0 {
			return n, nil
		}
	}
	return 0, errors.New("a number does not end")
}
