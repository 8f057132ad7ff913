package xz

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"math/bits"
)

const (
	headerSize = 12
	footerSize = 12
	lzma2ID    = 0x21
	indexMark  = 0x00
)

var (
	headerMagic = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	footerMagic = []byte{'Y', 'Z'}
)

// checkSizes are the lengths of the checks 0 to 15.
var checkSizes = [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}

// record is one block's line in the index.
type record struct{ packed, size int64 }

// index sums blocks up, so that what was decoded can be compared with what the index says, in constant memory.
type index struct {
	count int64
	total record
	sum   uint32
}

func (x *index) add(b record) {
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:], uint64(b.packed))
	binary.LittleEndian.PutUint64(raw[8:], uint64(b.size))
	x.count++
	x.total.packed += b.packed
	x.total.size += b.size
	x.sum = crc32.Update(x.sum, crc32.IEEETable, raw[:])
}

// startStream reads a stream's header; between streams there may be zeros, four at a time.
func (r *Reader) startStream() error {
	for r.streams > 0 {
		err := r.need(4)
		if err == io.EOF && r.have == r.lzma.in {
			return io.EOF
		}
		if err != nil {
			return r.must(4)
		}
		if binary.LittleEndian.Uint32(r.lzma.input[r.lzma.in:]) != 0 {
			break
		}
		r.lzma.in += 4
	}
	if err := r.must(headerSize); err != nil {
		if r.streams == 0 && !bytes.HasPrefix(headerMagic, r.lzma.input[:min(r.have, len(headerMagic))]) {
			return ErrFormat
		}
		return err
	}
	header := r.take(headerSize)
	flags := header[6:8]
	switch {
	case !bytes.Equal(header[:6], headerMagic):
		return ErrFormat
	case crc32.ChecksumIEEE(flags) != binary.LittleEndian.Uint32(header[8:]):
		return errCorrupt
	case flags[0] != 0 || flags[1] > 15:
		return ErrFormat
	}
	r.check = flags[1]
	r.sum = nil
	if !r.options.SkipCheck {
		r.sum = newCheck(r.check)
	}
	r.streams++
	r.blocks = index{}
	r.state = atBlock
	return nil
}

// newCheck is nil for kinds that nobody uses, whose bytes are passed over as the format allows.
func newCheck(kind byte) hash.Hash {
	switch kind {
	case 1:
		return crc32.NewIEEE()
	case 4:
		return crc64.New(crc64.MakeTable(crc64.ECMA))
	case 10:
		return sha256.New()
	}
	return nil
}

// startBlock reads a block's header, or the index that follows the last block.
func (r *Reader) startBlock() error {
	if err := r.must(1); err != nil {
		return err
	}
	first := r.lzma.input[r.lzma.in]
	if first == indexMark {
		return r.readIndex()
	}
	size := (int(first) + 1) * 4
	if err := r.must(size); err != nil {
		return err
	}
	raw := r.take(size)
	header := raw[:size-4]
	if crc32.ChecksumIEEE(header) != binary.LittleEndian.Uint32(raw[size-4:]) {
		return errCorrupt
	}
	window, err := blockWindow(header)
	if err != nil {
		return err
	}
	if r.sum != nil {
		r.sum.Reset()
	}
	r.block = record{packed: int64(size)}
	r.fresh, r.props = false, false
	r.state = atChunk
	return r.makeWindow(window)
}

// blockWindow gives the dictionary's size of a block that a Reader can read.
func blockWindow(header []byte) (int64, error) {
	if header[1]&0x3c != 0 {
		return 0, ErrFormat
	}
	window, rest, err := dictionary(header)
	switch {
	case filtered(header), err == ErrFilter:
		return 0, ErrFilter
	case err != nil || len(bytes.Trim(rest, "\x00")) > 0:
		return 0, errCorrupt
	}
	return window, nil
}

// FirstBlock says what the first block of a file that begins with head asks for (xz-file-format, 3.1): the dictionary of LZMA2,
// in bytes, or 0 where head does not say it; and whether there are filters before LZMA2, for which a Reader has ErrFilter.
// Nothing is checked: a size that the format does not have counts as the largest.
func FirstBlock(head []byte) (window int64, otherFilters bool) {
	if len(head) < headerSize+2 || head[headerSize] == indexMark {
		return 0, false
	}
	window, _, _ = dictionary(head[headerSize:])
	return window, filtered(head[headerSize:])
}

// filtered reports whether a block has more filters than one. The last one is always LZMA2.
func filtered(header []byte) bool { return header[1]&3 != 0 }

// dictionary gives the size of the dictionary of a block's LZMA2, whatever filters come before it, and what follows it in the
// block's header, which may be cut off behind its first two bytes. ErrFilter says that there is no LZMA2.
func dictionary(header []byte) (window int64, rest []byte, err error) {
	flags, rest := header[1], header[2:]
	number := func() (v uint64) {
		var ok bool
		if v, rest, ok = varint(rest); !ok {
			err = errCorrupt
		}
		return v
	}
	for range flags>>6&1 + flags>>7 {
		number() // the block's sizes
	}
	for range flags&3 + 1 {
		filter, size := number(), number()
		if err != nil || size > uint64(len(rest)) {
			return 0, nil, errCorrupt
		}
		properties := rest[:size]
		if rest = rest[size:]; filter == lzma2ID {
			window, err = lzma2Window(properties)
			return window, rest, err
		}
	}
	return 0, nil, ErrFilter
}

// lzma2Window is the size of the dictionary that LZMA2's properties say.
func lzma2Window(properties []byte) (int64, error) {
	const largest, most = 40, 1<<32 - 1
	if len(properties) != 1 {
		return 0, errCorrupt
	}
	switch bits := properties[0]; {
	case bits > largest:
		return most, errCorrupt
	case bits == largest:
		return most, nil
	default:
		return int64(2|bits&1) << (bits/2 + 11), nil
	}
}

// varint reads xz's multibyte integer: up to nine bytes, seven bits each, lowest first, in the shortest form.
func varint(b []byte) (value uint64, rest []byte, ok bool) {
	for i := 0; i < len(b) && i < 9; i++ {
		value |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return value, b[i+1:], i == 0 || b[i] != 0
		}
	}
	return 0, nil, false
}

// makeWindow makes the dictionary ready for a block: as large as the stream says, or, rounded up to a power of two so
// that it fits the next Reset's too, as its whole output. Where that is not known the dictionary begins small and grows.
func (r *Reader) makeWindow(window int64) error {
	size := r.options.Size
	if window > r.options.MaxWindow && (size <= 0 || size > r.options.MaxWindow) {
		return &WindowError{Want: window, Limit: r.options.MaxWindow}
	}
	first := min(window, max(firstWindow, int64(cap(r.memory)-frontPad-2*copySlack)))
	if size > 0 {
		enough := int64(1) << bits.Len64(uint64(min(window, size)-1))
		window = min(window, r.options.MaxWindow, max(enough, 4096))
		first = window
	}
	r.lzma.window = int(window)
	if err := r.growDictionary(circle(first)); err != nil {
		return err
	}
	r.forget()
	return nil
}

// firstWindow is what a dictionary begins with that may have to grow.
const firstWindow = 256 << 10

// circle is the size of a dictionary's circle for a window.
func circle(window int64) int { return (int(window) + copySlack + 4095) &^ 4095 }

// growDictionary makes the circle that large and keeps what is in it.
func (r *Reader) growDictionary(size int) error {
	d := &r.lzma
	total := frontPad + size + copySlack
	if r.options.Reserve != nil {
		if err := r.options.Reserve(int64(total)); err != nil {
			return err
		}
	}
	if cap(r.memory) < total {
		memory := make([]byte, total)
		copy(memory, r.memory[:min(len(r.memory), frontPad+d.pos)])
		r.memory = memory
	}
	r.memory = r.memory[:total]
	d.size, d.dict = size, r.memory[frontPad:]
	return nil
}

// turnRound begins the circle again, unless it has still to grow.
func (r *Reader) turnRound() error {
	d := &r.lzma
	if whole := circle(int64(d.window)); d.size < whole {
		return r.growDictionary(min(2*d.size, whole))
	}
	r.memory[frontPad-1] = d.dict[d.size-1]
	d.pos, r.given = 0, 0
	return nil
}

// forget makes the dictionary empty; all that was in it has been given out.
func (r *Reader) forget() {
	r.memory[frontPad-1] = 0
	r.lzma.pos, r.lzma.full, r.given = 0, 0, 0
}

// frontPad is the room for the one byte before the dictionary's first, and keeps the rest aligned.
const frontPad = 64

// startChunk reads an LZMA2 chunk's header (xz's lzma2_decoder.c), and all of a compressed chunk into the buffer.
func (r *Reader) startChunk() error {
	if err := r.must(1); err != nil {
		return err
	}
	control := r.lzma.input[r.lzma.in]
	switch {
	case control == 0:
		r.take(1)
		r.block.packed++
		return r.endBlock()
	case control >= 0x80:
		return r.startLZMA(control)
	case control > 2, control == 2 && !r.fresh:
		return errCorrupt
	}
	if err := r.must(3); err != nil {
		return err
	}
	header := r.take(3)
	r.block.packed += 3
	r.chunk = int(binary.BigEndian.Uint16(header[1:])) + 1
	if control == 1 {
		r.resetDict()
	}
	r.state = inRaw
	return nil
}

// resetDict makes the dictionary empty, as a block's first chunk has to.
func (r *Reader) resetDict() {
	r.forget()
	r.fresh = true
}

func (r *Reader) startLZMA(control byte) error {
	if err := r.must(6); err != nil {
		return err
	}
	d := &r.lzma
	reset := control >> 5 & 3
	size := 5
	if reset >= 2 {
		size = 6
	}
	header := r.take(size)
	r.chunk = int(control&0x1f)<<16 + int(binary.BigEndian.Uint16(header[1:])) + 1
	packed := int(binary.BigEndian.Uint16(header[3:])) + 1
	if reset == 3 {
		r.resetDict()
	}
	if !r.fresh || reset < 2 && !r.props {
		return errCorrupt
	}
	if reset >= 2 {
		if err := d.setProps(header[5]); err != nil {
			return err
		}
		r.props = true
	}
	if reset >= 1 {
		d.resetState()
	}
	if err := r.must(packed); err != nil {
		return err
	}
	r.block.packed += int64(size + packed)
	d.inEnd = d.in + packed
	r.state = inLZMA
	return d.startChunk()
}

// endBlock reads a block's padding and check.
func (r *Reader) endBlock() error {
	padding := int(-r.block.packed & 3)
	size := checkSizes[r.check]
	if err := r.must(padding + size); err != nil {
		return err
	}
	for _, b := range r.take(padding) {
		if b != 0 {
			return errCorrupt
		}
	}
	want := r.take(size)
	if r.sum != nil && !equalCheck(r.check, r.sum, want) {
		return errCorrupt
	}
	r.block.packed += int64(size)
	r.blocks.add(r.block)
	r.state = atBlock
	return nil
}

// equalCheck compares a check; the format stores CRCs in the other byte order than hash.Hash.
func equalCheck(kind byte, sum hash.Hash, want []byte) bool {
	got := sum.Sum(nil)
	if kind == 10 {
		return bytes.Equal(got, want)
	}
	for i := range got {
		if got[i] != want[len(want)-1-i] {
			return false
		}
	}
	return true
}
