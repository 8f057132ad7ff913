package nar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Dump writes the archive of the tree at path to w, byte for byte as `nix-store --dump` does: of a file's mode only
// the owner's execute bit counts. Sockets, pipes and devices are refused.
func Dump(ctx context.Context, w io.Writer, path string) error {
	return DumpTo(ctx, NewWriter(w), path)
}

// DumpTo sends the archive of the tree at path to dst, and closes dst unless there is an error.
func DumpTo(ctx context.Context, dst Sink, path string) error {
	return DumpFiltered(ctx, dst, path, func(string) bool { return true })
}

// DumpFiltered is DumpTo of what keep accepts, which is asked by the path in the archive. It does not look at what is left
// out, nor into it; the root is asked about by nobody.
func DumpFiltered(ctx context.Context, dst Sink, path string, keep func(path string) bool) error {
	d := &dumper{ctx: ctx, dst: dst, keep: keep, buf: make([]byte, bufferSize)}
	if err := d.node(unix.AT_FDCWD, path, ""); err != nil {
		return err
	}
	return dst.Close()
}

// SpecialError is a file that no archive holds.
type SpecialError struct {
	What string // "named pipe", "socket", "device"
}

func (e *SpecialError) Error() string { return fmt.Sprintf("a %s cannot be archived", e.What) }

type dumper struct {
	ctx  context.Context
	dst  Sink
	keep func(path string) bool
	buf  []byte
}

// node sends what name is in the directory dir; path is its place in the archive.
func (d *dumper) node(dir int, name, path string) error {
	if err := d.ctx.Err(); err != nil {
		return at(path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return diskError("looking up", name, path, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return d.directory(dir, name, path)
	case unix.S_IFREG:
		return d.regular(dir, name, path)
	case unix.S_IFLNK:
		return d.symlink(dir, name, path)
	default:
		return at(path, &SpecialError{What: special(st.Mode)})
	}
}

func (d *dumper) directory(dir int, name, path string) error {
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return diskError("opening", name, path, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return diskError("reading", name, path, err)
	}
	slices.Sort(names)
	if err := d.dst.Entry(&Entry{Path: path, Kind: Directory}); err != nil {
		return err
	}
	prefix := path
	if prefix != "" {
		prefix += "/"
	}
	for _, name := range names {
		if !d.keep(prefix + name) {
			continue
		}
		if err := d.node(fd, name, prefix+name); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) regular(dir int, name, path string) error {
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return diskError("opening", name, path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return diskError("looking up", name, path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return at(path, fmt.Errorf("a file became a %s", special(st.Mode)))
	}
	e := &Entry{Path: path, Kind: Regular, Executable: st.Mode&unix.S_IXUSR != 0, Size: st.Size}
	if err := d.dst.Entry(e); err != nil {
		return err
	}
	for left := e.Size; left > 0; {
		if err := d.ctx.Err(); err != nil {
			return at(path, err)
		}
		n, err := unix.Read(fd, d.buf[:min(left, int64(len(d.buf)))])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = fmt.Errorf("the file became shorter: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return diskError("reading", name, path, err)
		}
		if _, err := d.dst.Write(d.buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

func (d *dumper) symlink(dir int, name, path string) error {
	buf := d.buf[:MaxTargetLen+1]
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return diskError("reading", name, path, err)
	}
	return d.dst.Entry(&Entry{Path: path, Kind: Symlink, Target: string(buf[:n])})
}

// diskError names the file; the root's entry has no name of its own.
func diskError(doing, name, path string, err error) error {
	if path == "" {
		return at(path, &fs.PathError{Op: doing, Path: name, Err: err})
	}
	return at(path, fmt.Errorf("%s: %w", doing, err))
}

// special names a kind of file that no archive holds.
func special(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFIFO:
		return "named pipe"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "device"
	case unix.S_IFDIR:
		return wordDir
	case unix.S_IFLNK:
		return wordSymlink
	default:
		return fmt.Sprintf("file of type %#o", mode&unix.S_IFMT)
	}
}
