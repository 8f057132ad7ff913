package gitfiles

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// pack is a pack with its index, of which only what is asked for is read.
type pack struct {
	name        string // of the index, without its ending
	index, data *os.File
	fanout      [256]uint32
	hashSize    int
}

// findPacks finds the packs of the repository, once. One that cannot be read is an error: an object could be in it.
func (r *Repository) findPacks(ctx context.Context) error {
	if r.packsKnown {
		return nil
	}
	for _, store := range r.stores {
		names, err := packNames(filepath.Join(store, "pack"))
		if err != nil {
			return fmt.Errorf("looking for packs: %w", err)
		}
		if len(r.packs)+len(names) > maxPacks {
			return fmt.Errorf("looking for packs: there are more than %d", maxPacks)
		}
		for _, name := range names {
			p := &pack{name: name, hashSize: r.hashSize}
			if err := p.readFanout(ctx); err != nil {
				return fmt.Errorf("opening pack %s: %w", name, err)
			}
			r.packs = append(r.packs, p)
		}
	}
	r.packsKnown = true
	return nil
}

// packNames are the packs of a directory, without the endings of their files.
func packNames(dir string) ([]string, error) {
	// What is no directory is not waited for, as a FIFO would be.
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for read := 0; ; {
		some, err := f.Readdirnames(maxPacks)
		for _, name := range some {
			if base, found := strings.CutSuffix(name, ".idx"); found && strings.HasPrefix(base, "pack-") {
				names = append(names, filepath.Join(dir, base))
			}
		}
		if read += len(some); read > 8*maxPacks || len(names) > maxPacks {
			return nil, fmt.Errorf("%s has too many files", dir)
		}
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// readFanout reads the index's table of how many objects have names up to each first byte.
func (p *pack) readFanout(ctx context.Context) error {
	f, err := regularfile.Open(p.name + ".idx")
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 8+4*len(p.fanout))
	if _, err := io.ReadFull(regularfile.NewReader(ctx, f), head); err != nil {
		return err
	}
	if !bytes.HasPrefix(head, []byte("\xfftOc\x00\x00\x00\x02")) {
		return errors.New("its index is not of version 2")
	}
	for i := range p.fanout {
		p.fanout[i] = binary.BigEndian.Uint32(head[8+4*i:])
		if i > 0 && p.fanout[i] < p.fanout[i-1] {
			return errors.New("its index's table is not in order")
		}
	}
	return nil
}

// open opens a pack's files. Few packs are open at a time, whatever the number of packs.
func (r *Repository) open(p *pack) (err error) {
	if p.data != nil {
		return nil
	}
	open := 0
	for _, other := range r.packs {
		if other.data != nil {
			open++
		}
	}
	if open >= maxOpen {
		if err := r.Close(); err != nil {
			return err
		}
	}
	if p.index, err = regularfile.Open(p.name + ".idx"); err != nil {
		return err
	}
	p.data, err = regularfile.Open(p.name + ".pack")
	if err != nil {
		return errors.Join(err, p.close())
	}
	return nil
}

// maxOpen is how many packs are open at a time.
const maxOpen = 8

// close closes a pack's files.
func (p *pack) close() error {
	var err error
	for _, f := range []**os.File{&p.index, &p.data} {
		if *f != nil {
			err = errors.Join(err, (*f).Close())
			*f = nil
		}
	}
	return err
}

// find looks an object's offset up: a fan-out by the first byte, then the sorted names.
func (p *pack) find(name []byte) (offset int64, found bool, err error) {
	low, high := uint32(0), p.fanout[name[0]]
	if name[0] > 0 {
		low = p.fanout[name[0]-1]
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
func (r *Repository) packed(ctx context.Context, p *pack, offset, limit int64, deltas int) (string, []byte, error) {
	if deltas > maxDeltas {
		return "", nil, fmt.Errorf("a chain of deltas is longer than %d", maxDeltas)
	}
	if offset < 0 {
		return "", nil, errors.New("an offset is negative")
	}
	if err := r.open(p); err != nil {
		return "", nil, err
	}
	in := r.at(ctx, p, offset)
	kind, size, err := packedHead(in, limit)
	if err != nil {
		return "", nil, err
	}
	readBase, err := r.baseOf(ctx, p, in, kind, offset, limit, deltas+1)
	if err != nil {
		return "", nil, err
	}
	name, base := packedKinds[kind], []byte(nil)
	if readBase != nil {
		start := offset + in.pos()
		if name, base, err = readBase(); err != nil {
			return "", nil, err
		}
		if err := r.open(p); err != nil { // for the base it may have been closed
			return "", nil, err
		}
		in = r.at(ctx, p, start)
	}
	if name == "" {
		return "", nil, fmt.Errorf("an object is of unknown kind %d", kind)
	}
	z, err := zlib.NewReader(in)
	if err != nil {
		return "", nil, err
	}
	data, err := readExactly(r.metered(ctx, z), size)
	if err != nil || readBase == nil {
		return name, data, err
	}
	data, err = applyDelta(base, data, limit)
	r.remaining -= int64(len(data))
	return name, data, err
}

// baseOf reads which object that at an offset is a change of, and gives what reads that; nil where it is a change of none.
func (r *Repository) baseOf(ctx context.Context, p *pack, in positioned, kind byte, offset, limit int64, deltas int,
) (func() (string, []byte, error), error) {
	switch kind {
	case offsetDelta:
		back, err := distance(in)
		if err != nil || back <= 0 || back > offset {
			return nil, errors.New("a delta's base is not in it")
		}
		return func() (string, []byte, error) { return r.packed(ctx, p, offset-back, limit, deltas) }, nil
	case nameDelta:
		var name objectName
		if _, err := io.ReadFull(in, name[:r.hashSize]); err != nil {
			return nil, err
		}
		return func() (string, []byte, error) { return r.object(ctx, name, limit, deltas) }, nil
	}
	return nil, nil
}

// positioned is a buffered reader that knows how far it has been read.
type positioned struct {
	*bufio.Reader
	taken *int64
}

// at reads a pack from an offset on.
func (r *Repository) at(ctx context.Context, p *pack, offset int64) positioned {
	taken := new(int64)
	section := io.NewSectionReader(p.data, offset, 1<<62-offset)
	return positioned{bufio.NewReader(counting{r.metered(ctx, section), taken}), taken}
}

// pos is how many bytes were read.
func (p positioned) pos() int64 { return *p.taken - int64(p.Buffered()) }

type counting struct {
	r     io.Reader
	taken *int64
}

// Read reads and counts.
func (c counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.taken += int64(n)
	return n, err
}

// packedHead reads an object's kind and size: 4 bits of the size in the first byte, then 7 bits a byte.
func packedHead(in io.ByteReader, limit int64) (kind byte, size int64, err error) {
	b, err := in.ReadByte()
	if err != nil {
		return 0, 0, err
	}
	kind, size = b>>4&7, int64(b&15)
	for shift := 4; b&0x80 != 0; shift += 7 {
		if shift > 32 {
			return 0, 0, errors.New("an object's size does not end")
		}
		if b, err = in.ReadByte(); err != nil {
			return 0, 0, err
		}
		size |= int64(b&0x7f) << shift
	}
	if size > limit {
		return 0, 0, fmt.Errorf("an object has %d bytes, at most %d are read", size, limit)
	}
	return kind, size, nil
}

// distance reads how far back a base is: 7 bits a byte, most significant first, each further byte adding one. It is never
// negative: nine bytes would not fit, and no file is as long.
func distance(in io.ByteReader) (int64, error) {
	var n int64
	for i := range 8 {
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
