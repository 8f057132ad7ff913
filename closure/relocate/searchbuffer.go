package relocate

import (
	"io"
	"sync"
)

const (
	// chunkSize is what is handed on at once, except at a file's end: whole pages at whole pages' offsets, because a
	// file system is slower with others.
	chunkSize = 128 << 10
	pageSize  = 4 << 10
	// bufferSize is what is searched at once: small enough for a core's own cache, and a page larger than what is handed
	// on, which is room for what has to be kept from one time to the next.
	bufferSize = chunkSize + pageSize
	// ahead is how far behind a place one may have to look to know what begins there: a hash in UTF-32 has 125 bytes.
	ahead = 128
	// lookback is how far before a hash its reference may begin, in UTF-32, and what says that it is relative, or below another.
	lookback = 256
	// behind is how far before a hash its reference begins.
	behind = len(storePrefix)
)

// patch is a change of a file's contents: data stands at off.
type patch struct {
	off  int64
	data []byte
}

// searchBuffer slides over the contents of one file, which come in pieces of any size, and hands them on with patches
// applied. Every place of the file is searched exactly once, with the original bytes around it, so what is found
// does not depend on the pieces.
type searchBuffer struct {
	next io.Writer
	// search looks at the places buf[from:to]; it may look at all of buf, which reaches at least lookback before from,
	// less at the file's start, and ahead after to, less at its end.
	search func(buf []byte, from, to int)

	buf     []byte // of buffers, or one that it was made with
	off     int64  // of buf[0] in the file
	from    int    // places before it are searched
	left    int64  // bytes that the file has yet to get
	patches []patch
}

// buffers are those that nothing is searched in: there are many more store paths than are read at once.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// open begins a file of size bytes.
func (s *searchBuffer) open(size int64) {
	if s.buf == nil {
		s.buf = buffers.Get().(*[bufferSize]byte)[:0]
	}
	s.buf, s.off, s.from, s.left, s.patches = s.buf[:0], 0, 0, size, s.patches[:0]
}

// release lets another have the memory. The next file opens this one again.
func (s *searchBuffer) release() {
	if cap(s.buf) >= bufferSize {
		buffers.Put((*[bufferSize]byte)(s.buf[:bufferSize]))
	}
	s.buf, s.left = nil, 0
}

// patch makes data stand at buf[i:] in what is handed on. Patches may come in any order but do not overlap.
func (s *searchBuffer) patch(i int, data []byte) {
	s.patches = append(s.patches, patch{s.off + int64(i), data})
}

// Write takes contents, no more than are left.
func (s *searchBuffer) Write(p []byte) (int, error) {
	if s.off == 0 && len(s.buf) == 0 && int64(len(p)) == s.left && len(p) <= bufferSize {
		return len(p), s.whole(p)
	}
	for rest := p; len(rest) > 0; {
		n := min(len(rest), bufferSize-len(s.buf))
		s.buf = append(s.buf, rest[:n]...)
		rest = rest[n:]
		if s.left -= int64(n); s.left == 0 || len(s.buf) == bufferSize {
			if err := s.slide(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// whole takes a file that comes at once, as small ones do, and copies it only to change it.
func (s *searchBuffer) whole(p []byte) error {
	own := s.buf
	s.buf, s.left = p, 0
	s.search(p, 0, len(p))
	s.buf = own
	if len(s.patches) > 0 {
		p = append(own, p...)
		s.apply(p)
	}
	_, err := s.next.Write(p)
	s.off = int64(len(p))
	return err
}

// slide searches what can be searched and hands on what no later find can change.
func (s *searchBuffer) slide() error {
	to, done := len(s.buf), len(s.buf)
	if s.left > 0 {
		to -= ahead
		done = int((s.off+int64(to-lookback))&^(pageSize-1) - s.off)
	}
	s.search(s.buf, s.from, to)
	s.apply(s.buf[:done])
	if _, err := s.next.Write(s.buf[:done]); err != nil {
		return err
	}
	s.buf = append(s.buf[:0], s.buf[done:]...)
	s.off += int64(done)
	s.from = to - done
	return nil
}

// apply writes the patches over b, which begins at s.off, and keeps what reaches beyond it.
func (s *searchBuffer) apply(b []byte) {
	if len(s.patches) == 0 {
		return
	}
	keep := s.patches[:0]
	for _, p := range s.patches {
		i := int(p.off - s.off)
		if i >= len(b) {
			keep = append(keep, p)
			continue
		}
		if n := copy(b[i:], p.data); n < len(p.data) {
			keep = append(keep, patch{p.off + int64(n), p.data[n:]})
		}
	}
	s.patches = keep
}
