package filetree

import (
	"archive/tar"
	"bytes"
	"io"
	"path"
	"time"
)

// maxHeaders bounds what is compared of one entry's headers, in bytes. A path of 4095 bytes and a link's target take 10 KB.
const maxHeaders = 64 << 10

// recorder keeps what is read of an archive's headers, to compare it with what they say. There are many ways to write the same
// header, and two readers need not take one in the same way; of what one writer makes there is one reading.
type recorder struct {
	from io.Reader
	on   bool
	raw  []byte
	lost bool // there was more than maxHeaders
}

// Read reads a piece.
func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if r.on {
		r.lost = r.lost || len(r.raw)+n > maxHeaders
		if !r.lost {
			r.raw = append(r.raw, p[:n]...)
		}
	}
	return n, err
}

// start begins to keep what is read.
func (r *recorder) start() { r.on, r.lost, r.raw = true, false, r.raw[:0] }

// is reports whether exactly this was read since start, and ends to keep it.
func (r *recorder) is(want []byte) bool {
	r.on = false
	return !r.lost && bytes.Equal(r.raw, want)
}

const blockSize = 512

// padding is what follows the contents of a file.
func padding(size int64) []byte { return make([]byte, -size&(blockSize-1)) }

// archiveEnd is how an archive ends.
func archiveEnd() []byte { return make([]byte, 2*blockSize) }

// modTime is what the lifecycle gives every file.
var modTime = time.Date(1980, time.January, 1, 0, 0, 1, 0, time.UTC)

// canonical is an entry as the lifecycle writes it, with Go's archive/tar, no names of users and one time; nil for what it does
// not write: it names each file from the root on and knows no hard links.
func canonical(h *tar.Header) []byte {
	if !path.IsAbs(h.Name) || path.Clean(h.Name) != h.Name || h.Mode&^0o7777 != 0 || h.Typeflag == tar.TypeLink {
		return nil
	}
	plain := tar.Header{Typeflag: h.Typeflag, Name: h.Name, Size: h.Size, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, ModTime: modTime}
	switch h.Typeflag {
	case tar.TypeSymlink:
		plain.Linkname = h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		plain.Devmajor, plain.Devminor = h.Devmajor, h.Devminor
	}
	var text bytes.Buffer
	err := tar.NewWriter(&text).WriteHeader(&plain)
	if err != nil {
		return nil
	}
	return text.Bytes()
}
