package imagetest

import (
	"archive/tar"
	"bytes"
	"time"

	. "github.com/onsi/gomega"
)

// Layer is one layer: what the label knows it as, and its entries.
type Layer struct {
	Name    string
	Entries []Entry
	Cut     bool   // the archive ends in the middle
	After   []byte // what comes after the archive
	// Rewrite, if set, changes the archive's bytes, Pack those that are stored.
	Rewrite, Pack func([]byte) []byte
}

// Entry is a file in a layer's archive.
type Entry struct {
	tar.Header
	Body string
}

// modTime is what the lifecycle gives every file.
var modTime = time.Date(1980, time.January, 1, 0, 0, 1, 0, time.UTC)

// Directory is a directory, which anybody may read.
func Directory(name string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755, Uid: 1000, Gid: 1000, ModTime: modTime}}
}

// Regular is a file.
func Regular(name, body string, mode int64) Entry {
	return Entry{tar.Header{
		Name: name, Typeflag: tar.TypeReg, Mode: mode, Uid: 1000, Gid: 1000, Size: int64(len(body)), ModTime: modTime,
	}, body}
}

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777, ModTime: modTime}}
}

// HardLink is a hard link.
func HardLink(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o444, ModTime: modTime}}
}

// Special is a device or a named pipe: kind is one of package tar.
func Special(name string, kind byte) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: kind, Mode: 0o666, Devmajor: 1, Devminor: 5, ModTime: modTime}}
}

// Archive is a layer's uncompressed bytes.
func (l Layer) Archive() []byte {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, e := range l.Entries {
		header := e.Header
		Expect(w.WriteHeader(&header)).To(Succeed(), e.Name)
		_, err := w.Write([]byte(e.Body))
		Expect(err).NotTo(HaveOccurred())
	}
	Expect(w.Close()).To(Succeed())
	if l.Cut {
		return text.Bytes()[:text.Len()/2]
	}
	archive := append(text.Bytes(), l.After...)
	if l.Rewrite != nil {
		return l.Rewrite(archive)
	}
	return archive
}
