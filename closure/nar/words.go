package nar

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// expect reads the given words.
func (r *Reader) expect(words ...string) error {
	for _, want := range words {
		word, err := r.word(maxWord)
		if err != nil {
			if want == magic {
				return fmt.Errorf("this is not a Nix archive: %w", err)
			}
			return err
		}
		if string(word) != want {
			return unexpected(word, want)
		}
	}
	return nil
}

// word reads a string of at most limit bytes. It is valid until the next read.
func (r *Reader) word(limit int) ([]byte, error) {
	n, err := r.length()
	if err != nil {
		return nil, err
	}
	if n > uint64(limit) {
		return nil, fmt.Errorf("found a string of %d bytes, want at most %d", n, limit)
	}
	size := int(n)
	pad := padding(int64(size))
	if err := r.need(size + pad); err != nil {
		return nil, err
	}
	word := r.buf[r.lo : r.lo+size]
	r.lo += size
	return word, r.zeros(pad)
}

// length reads a 64-bit little-endian number.
func (r *Reader) length() (uint64, error) {
	if err := r.need(8); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(r.buf[r.lo:])
	r.lo += 8
	return n, nil
}

// zeros consumes n bytes of padding that are buffered already.
func (r *Reader) zeros(n int) error {
	for _, b := range r.buf[r.lo : r.lo+n] {
		if b != 0 {
			return fmt.Errorf("padding is not zero")
		}
	}
	r.lo += n
	return nil
}

// chunk returns buffered contents, reading more if there are none. It is called when contents are left.
func (r *Reader) chunk() ([]byte, error) {
	if r.lo == r.hi {
		if err := r.need(1); err != nil {
			return nil, err
		}
	}
	return r.buf[r.lo : r.lo+int(min(int64(r.hi-r.lo), r.left))], nil
}

func (r *Reader) consume(n int) {
	r.lo += n
	r.left -= int64(n)
}

// need makes sure that n bytes, at most minBuffer of them, are buffered.
func (r *Reader) need(n int) error {
	if r.hi-r.lo >= n {
		return nil
	}
	if r.buf == nil {
		r.buf = make([]byte, bufferSize)
	}
	if r.lo > 0 {
		r.hi = copy(r.buf, r.buf[r.lo:r.hi])
		r.lo = 0
	}
	for r.hi < n {
		got, err := r.readSource(r.buf[r.hi:])
		if err != nil {
			return err
		}
		r.hi += got
	}
	return nil
}

// readSource reads at least one byte. The source's end is unexpected wherever it is asked for more.
func (r *Reader) readSource(p []byte) (int, error) {
	for range maxEmptyReads {
		if r.srcErr == io.EOF {
			return 0, io.ErrUnexpectedEOF
		}
		if r.srcErr != nil {
			return 0, r.srcErr
		}
		n, err := r.src.Read(p)
		r.srcErr = err
		if n > 0 {
			return n, nil
		}
	}
	return 0, io.ErrNoProgress
}

func unexpected(word []byte, want ...string) error {
	return fmt.Errorf(`found %q, want "%s"`, word, strings.Join(want, `" or "`))
}
