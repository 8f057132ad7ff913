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
	// windowSize is what is searched at once: small enough for a core's own cache, and a page larger than what is handed
	// on, which is room for what has to be kept from one time to the next.
	windowSize = chunkSize + pageSize
	// ahead is how far behind a place one may have to look to know what begins there: a hash in UTF-32 has 125 bytes.
	ahead = 128
	// lookback is how far before a hash its reference may begin, in UTF-32, and what says that it is relative.
	lookback = 64
	// behind is how far before a hash its reference begins.
	behind = len(storePrefix)
)

// patch is a change of a file's contents: data stands at off.
type patch struct {
	off  int64
	data []byte
}

// window slides over the contents of one file, which come in pieces of any size, and hands them on with patches
// applied. Every place of the file is searched exactly once, with the original bytes around it, so what is found
// does not depend on the pieces.
type window struct {
	next io.Writer
	// search looks at the places buf[from:to]; it may look at all of buf, which reaches at least lookback before from,
	// less at the file's start, and ahead after to, less at its end.
	search func(buf []byte, from, to int)

	buf     []byte // of buffers, or one that the window was made with
	off     int64  // of buf[0] in the file
	from    int    // places before it are searched
	left    int64  // bytes that the file has yet to get
	patches []patch
}

// buffers are those that no window has: there are many more store paths than are read at once.
var buffers = sync.Pool{New: func() any { return new([windowSize]byte) }}

// open begins a file of size bytes.
func (w *window) open(size int64) {
	if w.buf == nil {
		w.buf = buffers.Get().(*[windowSize]byte)[:0]
	}
	w.buf, w.off, w.from, w.left, w.patches = w.buf[:0], 0, 0, size, w.patches[:0]
}

// release lets another window have the buffer. The next file opens the window again.
func (w *window) release() {
	if cap(w.buf) >= windowSize {
		buffers.Put((*[windowSize]byte)(w.buf[:windowSize]))
	}
	w.buf, w.left = nil, 0
}

// patch makes data stand at buf[i:] in what is handed on. Patches may come in any order but do not overlap.
func (w *window) patch(i int, data []byte) {
	w.patches = append(w.patches, patch{w.off + int64(i), data})
}

// Write takes contents, no more than are left.
func (w *window) Write(p []byte) (int, error) {
	if w.off == 0 && len(w.buf) == 0 && int64(len(p)) == w.left && len(p) <= windowSize {
		return len(p), w.whole(p)
	}
	for rest := p; len(rest) > 0; {
		n := min(len(rest), windowSize-len(w.buf))
		w.buf = append(w.buf, rest[:n]...)
		rest = rest[n:]
		if w.left -= int64(n); w.left == 0 || len(w.buf) == windowSize {
			if err := w.slide(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// whole takes a file that comes at once, as small ones do, and copies it only to change it.
func (w *window) whole(p []byte) error {
	own := w.buf
	w.buf, w.left = p, 0
	w.search(p, 0, len(p))
	w.buf = own
	if len(w.patches) > 0 {
		p = append(own, p...)
		w.apply(p)
	}
	_, err := w.next.Write(p)
	w.off = int64(len(p))
	return err
}

// slide searches what can be searched and hands on what no later find can change.
func (w *window) slide() error {
	to, done := len(w.buf), len(w.buf)
	if w.left > 0 {
		to -= ahead
		done = int((w.off+int64(to-lookback))&^(pageSize-1) - w.off)
	}
	w.search(w.buf, w.from, to)
	w.apply(w.buf[:done])
	if _, err := w.next.Write(w.buf[:done]); err != nil {
		return err
	}
	w.buf = append(w.buf[:0], w.buf[done:]...)
	w.off += int64(done)
	w.from = to - done
	return nil
}

// apply writes the patches over b, which begins at w.off, and keeps what reaches beyond it.
func (w *window) apply(b []byte) {
	if len(w.patches) == 0 {
		return
	}
	keep := w.patches[:0]
	for _, p := range w.patches {
		i := int(p.off - w.off)
		if i >= len(b) {
			keep = append(keep, p)
			continue
		}
		if n := copy(b[i:], p.data); n < len(p.data) {
			keep = append(keep, patch{p.off + int64(n), p.data[n:]})
		}
	}
	w.patches = keep
}
