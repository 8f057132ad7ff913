package relocate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"
)

// sized looks into a member of size bytes and leaves l behind it.
func (x *inspector) sized(l *level, size int64, p location) error {
	r := &io.LimitedReader{R: l.Reader, N: size}
	if err := x.look(r, p); err != nil && (unreadable(err) || errors.Is(err, errStopped)) {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if r.N > 0 {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// tar goes through an archive as POSIX pax and GNU tar write it. References in members can be rewritten, those in
// a header cannot: it has a checksum.
func (x *inspector) tar(l *level, p location) error {
	var header [tarBlock]byte
	for {
		if _, err := io.ReadFull(l, header[:]); err != nil {
			return err
		}
		if header == [tarBlock]byte{} || !isTar(header[:]) {
			return nil
		}
		name, _, _ := bytes.Cut(header[:100], []byte{0})
		inner := p.member(string(name))
		if p.plain {
			sealed := inner.in(": header", false)
			sealed.kind = Checksummed
			x.scan.scan(header[:], 0, tarBlock, &plainSearch{x: x, buf: header[:], location: sealed})
		}
		size, ok := tarSize(header[124:136])
		if !ok {
			return errors.New("a member's size is not a number")
		}
		switch header[156] {
		case '1', '2', '3', '4', '5', '6':
			size = 0
		}
		if err := x.sized(l, size, inner); err != nil {
			return err
		}
		if _, err := l.Discard(int(-size & (tarBlock - 1))); err != nil {
			return err
		}
	}
}

// isTar reports whether b begins with the header of a tar archive's member. Those of before POSIX have no mark, but the
// sum of their bytes, with blanks for that sum.
func isTar(b []byte) bool {
	const sum, sumEnd, mark = 148, 156, 257
	if len(b) < tarBlock {
		return false
	}
	if string(b[mark:mark+5]) == "ustar" {
		return true
	}
	if b[0] == 0 || b[mark] != 0 {
		return false
	}
	want, err := strconv.ParseInt(strings.Trim(string(b[sum:sumEnd]), " \x00"), 8, 64)
	if err != nil {
		return false
	}
	for i, c := range b[:tarBlock] {
		if i >= sum && i < sumEnd {
			c = ' '
		}
		want -= int64(c)
	}
	return want == 0
}

// tarSize reads a header's size field: octal, or GNU's base-256.
func tarSize(field []byte) (int64, bool) {
	if field[0]&0x80 != 0 {
		n := binary.BigEndian.Uint64(field[4:])
		return int64(n), n < 1<<62
	}
	text := strings.Trim(string(field), " \x00")
	if text == "" {
		return 0, true
	}
	n, err := strconv.ParseInt(text, 8, 64)
	return n, err == nil && n >= 0
}

// ar goes through an archive as ar(5) describes it: static libraries, Debian packages.
func (x *inspector) ar(l *level, p location) error {
	if _, err := l.Discard(len(arMark)); err != nil {
		return err
	}
	var header [60]byte
	for {
		if _, err := io.ReadFull(l, header[:]); err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimRight(string(header[48:58]), " "), 10, 64)
		if err != nil || size < 0 {
			return errors.New("a member's size is not a number")
		}
		if err := x.sized(l, size, p.member(strings.TrimRight(string(header[:16]), " /"))); err != nil {
			return err
		}
		if _, err := l.Discard(int(size & 1)); err != nil {
			return err
		}
	}
}

// beam goes through an Erlang module (erts/emulator/beam/beam_file.c, lib/stdlib/src/beam_lib.erl). Its chunks are
// plain, but for literals (until OTP 27) and external terms that may be compressed.
func (x *inspector) beam(l *level, p location) error {
	if _, err := l.Discard(12); err != nil {
		return err
	}
	var header [8]byte
	for {
		if _, err := io.ReadFull(l, header[:]); err != nil {
			return err
		}
		id, size := string(header[:4]), int64(binary.BigEndian.Uint32(header[4:]))
		if err := x.chunk(l, id, size, p); err != nil {
			return err
		}
		if _, err := l.Discard(int(-size & 3)); err != nil {
			return err
		}
	}
}

// chunk looks into one chunk of an Erlang module.
func (x *inspector) chunk(l *level, id string, size int64, p location) error {
	if isUnusedChunk(id) {
		_, err := l.Discard(int(size))
		return err
	}
	p.via += ": chunk " + strconv.Quote(id)
	head, _ := l.Peek(int(min(8, size)))
	skip := beamSkip(id, head)
	if skip == 0 {
		return x.sized(l, size, p)
	}
	if _, err := l.Discard(skip); err != nil {
		return err
	}
	p.name = "" // so that the zlib stream is recognised by its bytes
	return x.sized(l, size-int64(skip), p)
}

// erlangTermHead is how much stands before the zlib stream of an external term that is compressed (erts' "External Term
// Format"): two bytes, and the size that it inflates to.
const erlangTermHead = 6

// erlangTerm goes through a term in a file of its own.
func (x *inspector) erlangTerm(l *level, p location) error {
	if _, err := l.Discard(erlangTermHead); err != nil {
		return err
	}
	p.name = ""
	return x.look(l, p)
}

// isUnusedChunk reports whether nothing that runs reads a chunk, so that it is not inflated, as in harmless places: only
// the debugger, cover, dialyzer, the shell's help and Elixir's compiler read these.
func isUnusedChunk(id string) bool {
	switch id {
	case "Dbgi", "Abst", "Docs", "ExCk":
		return true
	}
	return false
}

// beamSkip is how much stands before the zlib stream in a chunk that begins with head: of literals the inflated size,
// of a compressed term two bytes and its size. It is 0 where the chunk is not compressed.
func beamSkip(id string, head []byte) int {
	switch {
	case len(head) < 8:
	case id == "LitT" && isZlibHeader(head[4:]):
		return 4
	case head[0] == 131 && head[1] == 80 && isZlibHeader(head[erlangTermHead:]):
		return erlangTermHead
	}
	return 0
}
