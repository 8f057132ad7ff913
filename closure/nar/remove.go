package nar

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// removeBatch is how many names are read of a directory at a time.
const removeBatch = 1024

// RemoveAll removes a tree whose directories may be read-only, as Tree leaves them, as whatever user owns it. It
// never follows a symlink and is content when there is nothing at path.
func RemoveAll(path string) error {
	if err := removeAt(unix.AT_FDCWD, path); err != nil {
		return &fs.PathError{Op: "removing", Path: path, Err: err}
	}
	return nil
}

func removeAt(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	// Linux says EISDIR for a directory, other kernels behind its interface EPERM.
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	if emptyErr := empty(dir, name); emptyErr != nil {
		if errors.Is(emptyErr, unix.ENOTDIR) || errors.Is(emptyErr, unix.ELOOP) {
			return err
		}
		return emptyErr
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// empty removes what the directory name holds.
func empty(dir int, name string) error {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	fd, err := openat(dir, name, flags, 0)
	if errors.Is(err, unix.EACCES) {
		if err := unix.Fchmodat(dir, name, 0o700, 0); err != nil {
			return err
		}
		fd, err = openat(dir, name, flags, 0)
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := unix.Fchmod(fd, 0o700); err != nil && !errors.Is(err, unix.EPERM) {
		return err
	}
	for {
		names, err := f.Readdirnames(removeBatch)
		for _, name := range names {
			if err := removeAt(fd, name); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Move renames a finished tree into another directory of the same file system. A directory that is read-only may not
// be moved by its owner, as its ".." changes with it, so it is made writable for the moment.
func Move(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, unix.EACCES) {
		return err
	}
	info, statErr := os.Lstat(from)
	if statErr != nil || !info.IsDir() || info.Mode().Perm()&0o200 != 0 {
		return err
	}
	if err := os.Chmod(from, info.Mode().Perm()|0o700); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return errors.Join(err, os.Chmod(from, info.Mode().Perm()))
	}
	return os.Chmod(to, info.Mode().Perm())
}
