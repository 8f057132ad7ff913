// Package regularfile reads files that a stranger has made and that may be anything: a FIFO that nobody writes to, a
// device, a file without end. It opens regular files only, and waits for none; what it reads is bounded, and ends with a
// context.
package regularfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// withoutWaiting opens a file for reading, of a FIFO without its other end, and takes no terminal for this process's.
const withoutWaiting = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY

// Open opens a regular file for reading. It does not follow a symbolic link at the path's end; what is no regular file is a
// *fs.PathError.
func Open(name string) (*os.File, error) {
	return checked(os.OpenFile(name, withoutWaiting|unix.O_NOFOLLOW, 0))
}

// OpenLinked is Open, and follows a symbolic link at the path's end.
func OpenLinked(name string) (*os.File, error) {
	return checked(os.OpenFile(name, withoutWaiting, 0))
}

// OpenIn is OpenLinked for a file below root, which no link leads out of.
func OpenIn(root *os.Root, name string) (*os.File, error) {
	return checked(root.OpenFile(name, withoutWaiting, 0))
}

// ErrOutside is the error of a link that leads out of the directory it is in.
var ErrOutside = errors.New("it is a link to what is not in the source")

// Resolve is where all links lead that are in a name below root: another name below root, with no link in it. Errors: ErrOutside,
// and those of filepath.EvalSymlinks.
func Resolve(root, name string) (string, error) {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(filepath.Join(root, name))
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(root, real)
	if err != nil || !filepath.IsLocal(rel) {
		return "", ErrOutside
	}
	return rel, nil
}

// checked closes what is open and is no regular file.
func checked(f *os.File, err error) (*os.File, error) {
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: f.Name(), Err: errors.New("it is no regular file")}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Read reads a regular file as Open does; one of more than limit bytes is an error.
func Read(ctx context.Context, name string, limit int64) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(ctx, f, limit)
}

// ReadLinked is Read, and follows a symbolic link at the path's end.
func ReadLinked(ctx context.Context, name string, limit int64) ([]byte, error) {
	f, err := OpenLinked(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(ctx, f, limit)
}

func readAll(ctx context.Context, f *os.File, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var data bytes.Buffer
	if info.Size() <= limit { // all at once, where it does not grow meanwhile: half the memory
		data.Grow(int(info.Size()) + bytes.MinRead)
		_, err = data.ReadFrom(io.LimitReader(NewReader(ctx, f), limit+1))
	}
	if err == nil && max(info.Size(), int64(data.Len())) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: err}
	}
	return data.Bytes(), nil
}

// NewReader is r until ctx ends, and then the error that it ended with.
func NewReader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

// Read reads, unless the context has ended.
func (r reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
