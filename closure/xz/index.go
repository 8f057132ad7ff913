package xz

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
)

// indexReader reads an index's bytes one by one, counting and summing them.
type indexReader struct {
	r    *Reader
	size int64
	sum  uint32
}

func (x *indexReader) byte() (byte, error) {
	if err := x.r.must(1); err != nil {
		return 0, err
	}
	b := x.r.take(1)
	x.size++
	x.sum = crc32.Update(x.sum, crc32.IEEETable, b)
	return b[0], nil
}

func (x *indexReader) varint() (int64, error) {
	var raw [9]byte
	for i := range raw {
		b, err := x.byte()
		if err != nil {
			return 0, err
		}
		raw[i] = b
		if b < 0x80 {
			break
		}
	}
	v, _, ok := varint(raw[:])
	if !ok || v >= 1<<63 {
		return 0, errCorrupt
	}
	return int64(v), nil
}

// readIndex compares the index with the blocks that were decoded, and reads the footer.
func (r *Reader) readIndex() error {
	x := &indexReader{r: r}
	if _, err := x.byte(); err != nil {
		return err
	}
	count, err := x.varint()
	if err != nil {
		return err
	}
	if count != r.blocks.count {
		return errCorrupt
	}
	var said index
	for range count {
		var b record
		if b.packed, err = x.varint(); err != nil {
			return err
		}
		if b.size, err = x.varint(); err != nil {
			return err
		}
		said.add(b)
	}
	if said != r.blocks {
		return errCorrupt
	}
	for x.size&3 != 0 {
		if b, err := x.byte(); err != nil || b != 0 {
			return orCorrupt(err)
		}
	}
	return r.readFooter(x)
}

func (r *Reader) readFooter(x *indexReader) error {
	if err := r.must(4 + footerSize); err != nil {
		return err
	}
	raw := r.take(4 + footerSize)
	footer := raw[4:]
	size := int64(binary.LittleEndian.Uint32(footer[4:])) + 1
	switch {
	case binary.LittleEndian.Uint32(raw) != x.sum,
		binary.LittleEndian.Uint32(footer) != crc32.ChecksumIEEE(footer[4:10]),
		size*4 != x.size+4,
		footer[8] != 0, footer[9] != r.check,
		!bytes.Equal(footer[10:], footerMagic):
		return errCorrupt
	}
	r.state = atStream
	return nil
}

func orCorrupt(err error) error {
	if err != nil {
		return err
	}
	return errCorrupt
}

var _ io.WriterTo = (*Reader)(nil)
