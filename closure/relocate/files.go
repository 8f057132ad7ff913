package relocate

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// How FixTree and FixWrappers read and write files of a tree that nobody may write to, and whose modes and times stay.

// mapped is mapFile for a file by its name.
func mapped(name string, size int64) (data []byte, unmap func(), err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	return mapFile(file, size)
}

// mapFile maps a file, which nobody changes, into memory. What is written there stays there.
func mapFile(file *os.File, size int64) (data []byte, unmap func(), err error) {
	if size == 0 {
		return nil, func() {}, nil
	}
	data, err = unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, fmt.Errorf("mapping: %w", err)
	}
	return data, func() { _ = unix.Munmap(data) }, nil
}

// write makes the edits to a file: in place where nothing moves, else in a new file that takes its place.
func write(name string, before os.FileInfo, data []byte, edits []edit) error {
	if sameLength(edits) {
		return writeAt(name, before, edits)
	}
	return replaceIn(name, before, data, edits)
}

// replaceIn writes a new file in the place of one, in a directory that nobody may write to.
func replaceIn(name string, before os.FileInfo, data []byte, edits []edit) error {
	dir := filepath.Dir(name)
	parent, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, parent.Mode().Perm()|0o300); err != nil {
		return err
	}
	err = replace(name, before, data, edits)
	return cmp.Or(err, os.Chmod(dir, parent.Mode().Perm()), os.Chtimes(dir, parent.ModTime(), parent.ModTime()))
}

// replace writes a new file in the place of one.
func replace(name string, before os.FileInfo, data []byte, edits []edit) (err error) {
	next, err := os.CreateTemp(filepath.Dir(name), ".fixup-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(next.Name())
		}
	}()
	at := 0
	for _, e := range slices.Concat(edits, []edit{{from: len(data), to: len(data)}}) {
		for _, part := range [][]byte{data[at:e.from], e.data} {
			if _, err := next.Write(part); err != nil {
				_ = next.Close()
				return err
			}
		}
		at = e.to
	}
	for _, step := range []func() error{
		func() error { return next.Chmod(before.Mode().Perm()) },
		next.Close,
		func() error { return os.Chtimes(next.Name(), before.ModTime(), before.ModTime()) },
		func() error { return os.Rename(next.Name(), name) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// writeAt changes a file that nobody may write to, in place, and leaves its mode and time as before.
func writeAt(name string, before os.FileInfo, edits []edit) (err error) {
	if err := os.Chmod(name, before.Mode().Perm()|0o200); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for _, e := range edits {
		if _, err = f.WriteAt(e.data, int64(e.from)); err != nil {
			break
		}
	}
	for _, next := range []func() error{
		f.Close,
		func() error { return os.Chmod(name, before.Mode().Perm()) },
		func() error { return os.Chtimes(name, before.ModTime(), before.ModTime()) },
	} {
		if nextErr := next(); err == nil {
			err = nextErr
		}
	}
	return err
}
