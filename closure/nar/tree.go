package nar

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

const (
	// fileMode, execMode and dirMode are the modes that Nix leaves in its store, and mtime its only time: see
	// canonicalisePathMetaData in NixOS/nix, src/libstore/posix-fs-canonicalise.cc.
	fileMode = 0o444
	execMode = 0o555
	dirMode  = 0o555
	mtime    = 1
	// fillMode is a directory's mode while it is being filled, which 0555 would forbid to all but root.
	fillMode = 0o755

	// gather is the size below which contents that come in pieces are put together before they are written.
	gather = 32 << 10
)

// Tree is a Sink that writes an archive to disk as Nix would leave it in its store: files 0444, executables and
// directories 0555, every time 1 second after the epoch. It works as any user, creates everything relative to a
// directory it made itself and never through a symlink, and holds one file descriptor per open directory.
type Tree struct {
	dest    string
	seq     sequence
	dirs    []int // file descriptors of the open directories
	file    int   // of the open file, -1 for none
	name    string
	mode    uint32
	pending []byte // contents not written yet
	chmod   map[uint32]bool
	untimed bool // leave times as the file system sets them
	created bool
	entries int
	limit   int // of entries; 0 for none
	err     error
}

// NewTree writes a tree at dest, which must not exist, in a directory that does.
func NewTree(dest string) *Tree {
	return &Tree{dest: dest, file: -1, chmod: make(map[uint32]bool, 2)}
}

// Limit bounds how many entries the tree may have; 0 is no bound. A file takes a disk's block, however little of an archive it takes.
func (t *Tree) Limit(entries int) { t.limit = entries }

// LeaveTimes makes the Tree leave every time as the file system sets it, which saves a system call for each file: for a
// layer, whose exporter gives every file the same time (buildpacks/lifecycle, archive/writer.go).
func (t *Tree) LeaveTimes() { t.untimed = true }

// Entry creates what e says.
func (t *Tree) Entry(e *Entry) error {
	if t.err != nil {
		return t.err
	}
	if t.entries++; t.limit > 0 && t.entries > t.limit {
		return t.fail(e.Path, fmt.Errorf("there are more than %d entries", t.limit))
	}
	ended, err := t.seq.enter(e)
	if err != nil {
		return t.fail(e.Path, err)
	}
	if err := t.endDirs(ended); err != nil {
		return t.fail(e.Path, err)
	}
	t.name = e.Name()
	if e.Path == "" {
		t.name = t.dest
	}
	switch e.Kind {
	case Directory:
		err = t.mkdir()
	case Regular:
		err = t.create(e)
	case Symlink:
		err = t.symlink(e.Target)
	}
	return t.fail(e.Path, err)
}

// Write writes contents of the last entry.
func (t *Tree) Write(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := t.seq.write(len(p)); err != nil {
		return 0, t.fail(t.seq.path, err)
	}
	if err := t.contents(p); err != nil {
		return 0, t.fail(t.seq.path, err)
	}
	return len(p), nil
}

// Close finishes the tree, which must be complete.
func (t *Tree) Close() error {
	if t.err != nil {
		return t.err
	}
	if err := t.seq.end(); err != nil {
		return t.fail("", err)
	}
	if err := t.endDirs(len(t.dirs)); err != nil {
		return t.fail("", err)
	}
	t.err = errClosed
	return nil
}

// Discard removes whatever was written, finished or not, and leaves alone what was there before. The Tree is of no
// use afterwards.
func (t *Tree) Discard() error {
	if t.file >= 0 {
		_ = unix.Close(t.file)
		t.file = -1
	}
	for _, dir := range t.dirs {
		_ = unix.Close(dir)
	}
	t.dirs = nil
	t.err = errClosed
	if !t.created {
		return nil
	}
	if err := RemoveAll(t.dest); err != nil {
		return err
	}
	t.created = false
	return nil
}

func (t *Tree) fail(path string, err error) error {
	if err != nil {
		t.err = at(path, err)
	}
	return t.err
}

// dir is where the next entry goes: the innermost open directory, or the working directory for the root, whose name
// is dest.
func (t *Tree) dir() int {
	if len(t.dirs) == 0 {
		return unix.AT_FDCWD
	}
	return t.dirs[len(t.dirs)-1]
}

func (t *Tree) mkdir() error {
	dir := t.dir()
	if err := unix.Mkdirat(dir, t.name, fillMode); err != nil {
		return t.diskError("creating directory", err)
	}
	t.created = true
	fd, err := openat(dir, t.name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return t.diskError("opening directory", err)
	}
	t.dirs = append(t.dirs, fd)
	return nil
}

// endDirs finishes the n innermost directories: only now can they become read-only and have their times.
func (t *Tree) endDirs(n int) error {
	for range n {
		fd := t.dir()
		t.dirs = t.dirs[:len(t.dirs)-1]
		err := unix.Fchmod(fd, dirMode)
		if err == nil {
			err = t.touch(fd, ".")
		}
		if closeErr := unix.Close(fd); err == nil {
			err = closeErr
		}
		if err != nil {
			return fmt.Errorf("finishing the directory before it: %w", err)
		}
	}
	return nil
}

func (t *Tree) create(e *Entry) error {
	t.mode = fileMode
	if e.Executable {
		t.mode = execMode
	}
	fd, err := openat(t.dir(), t.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, t.mode)
	if err != nil {
		return t.diskError("creating file", err)
	}
	t.created = true
	t.file = fd
	if e.Size == 0 {
		return t.endFile()
	}
	return nil
}

// contents writes p to the open file, in few system calls however small the pieces are.
func (t *Tree) contents(p []byte) error {
	last := t.seq.left == 0
	if len(t.pending) == 0 && (last || len(p) >= gather) {
		if err := t.write(p); err != nil {
			return err
		}
	} else {
		t.pending = append(t.pending, p...)
		if last || len(t.pending) >= gather {
			if err := t.write(t.pending); err != nil {
				return err
			}
			t.pending = t.pending[:0]
		}
	}
	if last {
		return t.endFile()
	}
	return nil
}

func (t *Tree) write(p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(t.file, p)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return t.diskError("writing file", err)
		}
		p = p[n:]
	}
	return nil
}

func (t *Tree) endFile() error {
	fd := t.file
	t.file = -1
	err := t.setMode(fd)
	if closeErr := unix.Close(fd); err == nil && !errors.Is(closeErr, unix.EINTR) {
		err = closeErr
	}
	if err == nil {
		err = t.touch(t.dir(), t.name)
	}
	if err != nil {
		return t.diskError("finishing file", err)
	}
	return nil
}

// setMode gives a file its mode where creating it did not. Whether the umask, or a default access list, interferes is
// looked up once for each of the two modes, not once a file.
func (t *Tree) setMode(fd int) error {
	needed, known := t.chmod[t.mode]
	if !known {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		needed = st.Mode&0o7777 != t.mode
		t.chmod[t.mode] = needed
	}
	if !needed {
		return nil
	}
	return unix.Fchmod(fd, t.mode)
}

func (t *Tree) symlink(target string) error {
	if err := unix.Symlinkat(target, t.dir(), t.name); err != nil {
		return t.diskError("creating symlink", err)
	}
	t.created = true
	if err := t.touch(t.dir(), t.name); err != nil {
		return t.diskError("finishing symlink", err)
	}
	return nil
}

// diskError names the file on disk that an operation failed on, when it is not one below the root that the entry names.
func (t *Tree) diskError(doing string, err error) error {
	if len(t.dirs) == 0 {
		return &fs.PathError{Op: doing, Path: t.dest, Err: err}
	}
	return fmt.Errorf("%s below %s: %w", doing, t.dest, err)
}

// touch sets the times of name, a symlink's own if it is one.
func (t *Tree) touch(dir int, name string) error {
	if t.untimed {
		return nil
	}
	then := []unix.Timespec{{Sec: mtime}, {Sec: mtime}}
	return unix.UtimesNanoAt(dir, name, then, unix.AT_SYMLINK_NOFOLLOW)
}

// openat opens name, which may not be a symlink.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
