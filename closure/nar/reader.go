package nar

import (
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	// bufferSize is what a Reader reads at a time when nobody lends it a buffer: large enough that a system call or a
	// decoder's block is not felt, small enough to stay in a core's cache.
	bufferSize = 128 << 10
	// minBuffer holds the longest string of the format with its length and padding.
	minBuffer = 2 * (MaxTargetLen + 1)
	// maxWord is read where one of the format's words must follow, the longest being the magic: long enough for an
	// error to name what is there instead.
	maxWord = len(magic)
	// maxEmptyReads is how often a source may give no bytes and no error before it counts as broken.
	maxEmptyReads = 100
)

// Reader reads an archive as a sequence of entries. It starts no goroutine, allocates nothing by a declared size, and
// repeats its first error for ever.
type Reader struct {
	src    io.Reader
	srcErr error
	buf    []byte
	lo, hi int // buf[lo:hi] is read from src and not yet consumed

	err     error
	started bool
	inFile  bool
	left    int64 // contents of the file not yet given out
	pad     int   // zeros after them
	path    []byte
	where   int   // path[:where] is the entry that errors speak of
	dirs    []int // the length of path of each open directory
}

// NewReader reads an archive from r, up to its end: bytes after the archive are refused.
func NewReader(r io.Reader) *Reader { return &Reader{src: r} }

// Next goes on to the next entry, depth first, a directory before what it holds. It skips what was not read of the
// last one's contents. It returns io.EOF after the whole archive, once the source has ended too; an error of the
// source itself as it is; and for an archive that is not as it should be an *Error.
func (r *Reader) Next() (*Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	e, err := r.next()
	if err != nil {
		return nil, r.fail(err)
	}
	return e, nil
}

// Read reads the contents of the last entry, a Regular one, and returns io.EOF at their end.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	if r.lo == r.hi && len(p) >= len(r.buf) {
		n, err := r.readSource(p)
		if err != nil {
			return 0, r.fail(err)
		}
		r.left -= int64(n)
		return n, nil
	}
	chunk, err := r.chunk()
	if err != nil {
		return 0, r.fail(err)
	}
	n := copy(p, chunk)
	r.consume(n)
	return n, nil
}

// WriteTo writes the rest of the contents of the last entry to w, straight from the Reader's buffer.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for r.left > 0 {
		if r.err != nil {
			return written, r.err
		}
		chunk, err := r.chunk()
		if err != nil {
			return written, r.fail(err)
		}
		n, err := w.Write(chunk)
		r.consume(n)
		written += int64(n)
		if err != nil {
			return written, err
		}
		if n < len(chunk) {
			return written, io.ErrShortWrite
		}
	}
	if r.err != io.EOF {
		return written, r.err
	}
	return written, nil
}

func (r *Reader) fail(err error) error {
	r.err = at(string(r.path[:r.where]), err)
	if r.srcErr != nil && r.srcErr != io.EOF && errors.Is(err, r.srcErr) {
		r.err = r.srcErr
	}
	return r.err
}

func (r *Reader) next() (*Entry, error) {
	if !r.started {
		r.started = true
		if err := r.expect(magic); err != nil {
			return nil, err
		}
		return r.node()
	}
	if r.inFile {
		if err := r.endFile(); err != nil {
			return nil, err
		}
	}
	for len(r.dirs) > 0 {
		r.where = r.dirs[len(r.dirs)-1]
		word, err := r.word(maxWord)
		if err != nil {
			return nil, err
		}
		switch string(word) {
		case wordEntry:
			if err := r.name(); err != nil {
				return nil, err
			}
			return r.node()
		case wordClose:
			r.path = r.path[:r.where]
			r.dirs = r.dirs[:len(r.dirs)-1]
			if err := r.endNode(); err != nil {
				return nil, err
			}
		default:
			return nil, unexpected(word, wordEntry, wordClose)
		}
	}
	return nil, r.end()
}

// name reads the head of a directory's entry and makes path its path. The name before it in the same directory is
// what path still holds beyond the directory's own.
func (r *Reader) name() error {
	if err := r.expect(wordOpen, wordName); err != nil {
		return err
	}
	raw, err := r.word(MaxNameLen)
	if err != nil {
		return fmt.Errorf("reading a name: %w", err)
	}
	name := string(raw)
	if err := checkName(name); err != nil {
		return err
	}
	start := r.where
	if start > 0 {
		start++
	}
	if start < len(r.path) {
		if before := string(r.path[start:]); name <= before {
			return fmt.Errorf("the name %q comes after %q, want strictly increasing names", name, before)
		}
	}
	if start+len(name) > MaxPathLen {
		return fmt.Errorf("the path of %q is longer than %d bytes", name, MaxPathLen)
	}
	r.path = r.path[:r.where]
	if start > 0 {
		r.path = append(r.path, '/')
	}
	r.path = append(r.path, name...)
	r.where = len(r.path)
	return r.expect(wordNode)
}

// node reads a node up to its contents, its first entry or its end.
func (r *Reader) node() (*Entry, error) {
	if err := r.expect(wordOpen, wordType); err != nil {
		return nil, err
	}
	word, err := r.word(maxWord)
	if err != nil {
		return nil, fmt.Errorf("reading a type: %w", err)
	}
	e := &Entry{Path: string(r.path)}
	switch string(word) {
	case wordDir:
		if len(r.dirs) == MaxDepth {
			return nil, fmt.Errorf("more than %d directories are nested", MaxDepth)
		}
		e.Kind = Directory
		r.dirs = append(r.dirs, len(r.path))
		return e, nil
	case wordRegular:
		e.Kind = Regular
		return e, r.regular(e)
	case wordSymlink:
		e.Kind = Symlink
		return e, r.symlink(e)
	default:
		return nil, unexpected(word, wordRegular, wordDir, wordSymlink)
	}
}

func (r *Reader) regular(e *Entry) error {
	word, err := r.word(maxWord)
	if err != nil {
		return err
	}
	if string(word) == wordExec {
		e.Executable = true
		if err := r.expect(""); err != nil {
			return fmt.Errorf("reading the executable marker: %w", err)
		}
		if word, err = r.word(maxWord); err != nil {
			return err
		}
	}
	if string(word) != wordData {
		return unexpected(word, wordData)
	}
	size, err := r.length()
	if err != nil {
		return err
	}
	if size > math.MaxInt64 {
		return fmt.Errorf("file size %d is out of range", size)
	}
	e.Size = int64(size)
	r.inFile, r.left, r.pad = true, e.Size, padding(e.Size)
	return nil
}

func (r *Reader) symlink(e *Entry) error {
	if err := r.expect(wordTarget); err != nil {
		return err
	}
	target, err := r.word(MaxTargetLen)
	if err != nil {
		return fmt.Errorf("reading a symlink target: %w", err)
	}
	e.Target = string(target)
	if err := checkTarget(e.Target); err != nil {
		return err
	}
	if err := r.expect(wordClose); err != nil {
		return err
	}
	return r.endNode()
}

// endFile skips what is left of a file and reads its node's end.
func (r *Reader) endFile() error {
	for r.left > 0 {
		chunk, err := r.chunk()
		if err != nil {
			return err
		}
		r.consume(len(chunk))
	}
	r.inFile = false
	if err := r.need(r.pad); err != nil {
		return err
	}
	if err := r.zeros(r.pad); err != nil {
		return err
	}
	if err := r.expect(wordClose); err != nil {
		return err
	}
	return r.endNode()
}

// endNode reads what follows the node of a directory's entry.
func (r *Reader) endNode() error {
	if len(r.dirs) == 0 {
		return nil
	}
	return r.expect(wordClose)
}

// end makes sure that nothing follows the archive.
func (r *Reader) end() error {
	err := r.need(1)
	if errors.Is(err, io.ErrUnexpectedEOF) && r.srcErr == io.EOF {
		return io.EOF
	}
	if err == nil {
		err = errors.New("bytes follow the archive")
	}
	return err
}
