// Package filetree holds a tree of files as a container would see it: an image's layers, one laid over the other, or a
// directory. Nothing of it is ever written to disk under the names that a layer chose, so no link, device or name in a
// layer leads anywhere but inside the tree.
package filetree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Kind is what a File is.
type Kind uint8

// The kinds of file. Special is a device, a named pipe or a socket.
const (
	Directory Kind = iota + 1
	Regular
	Symlink
	Special
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Directory:
		return "directory"
	case Regular:
		return "file"
	case Symlink:
		return "symlink"
	}
	return "special file"
}

// NoLayer is the Layer of files that no layer wrote: those of a directory, and directories that a layer only implies.
const NoLayer = -1

// File is one file of a tree. Hard links to a file are Files of their own with the same contents.
type File struct {
	Kind Kind
	// Implied says of a Directory that the last layer with something in it has no entry for the directory itself. Its
	// rights are then not those in Mode to every runtime: Docker gives it 0600.
	Implied bool
	// Mode holds the permission bits and, of the others, setuid, setgid and sticky.
	Mode   fs.FileMode
	UID    int
	GID    int
	Size   int64  // of a Regular, in bytes
	Target string // of a Symlink
	// Attributes names the extended attributes.
	Attributes []string
	// Layer is the number of the layer that wrote it last.
	Layer int

	content  content
	children map[string]*File
}

// content is where a regular file's bytes are.
type content interface {
	open() (io.ReadCloser, error)
}

// errNotRead is the error of opening a file whose contents were left out.
var errNotRead = errors.New("its contents were not read")

// Open reads a regular file, exactly Size bytes of it.
func (f *File) Open() (io.ReadCloser, error) {
	switch {
	case f.Kind != Regular:
		return nil, fmt.Errorf("it is a %s, not a file", f.Kind)
	case f.Size == 0:
		return io.NopCloser(strings.NewReader("")), nil
	case f.content == nil:
		return nil, errNotRead
	}
	return f.content.open()
}

// ReadAll reads a regular file that holds at most limit bytes.
func (f *File) ReadAll(limit int64) ([]byte, error) {
	if f.Kind == Regular && f.Size > limit {
		return nil, fmt.Errorf("it has %d bytes, more than %d", f.Size, limit)
	}
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, f.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	return data, nil
}

// Names lists what a directory holds, in order of their bytes; nothing where there is no directory.
func (f *File) Names() []string {
	if f == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(f.children))
}

// Child is the file of that name in a directory, nil for none.
func (f *File) Child(name string) *File {
	if f == nil {
		return nil
	}
	return f.children[name]
}

// Find is the file at a path below f, nil for none. It follows no links.
func (f *File) Find(name string) *File {
	for _, part := range strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/") {
		if part != "" {
			f = f.Child(part)
		}
	}
	return f
}

// Walk calls visit for f and everything below, a directory before what it holds, in order of names. place is f's own
// path. A directory for which visit returns false is not entered.
func (f *File) Walk(place string, visit func(place string, file *File) bool) {
	if f == nil || !visit(place, f) {
		return
	}
	for _, name := range f.Names() {
		f.children[name].Walk(path.Join(place, name), visit)
	}
}

// maxLinks is how many symlinks one look-up may go through, as in container runtimes.
const maxLinks = 255

// errors of a look-up.
var (
	errNotDirectory = errors.New("a part of its path is not a directory")
	errManyLinks    = errors.New("its path goes through too many symlinks")
)

// step is one directory or file on the way to a place.
type step struct {
	name string
	file *File
}

// Resolve finds the file at a path as a process in the container would: through links, none of which leads out of the
// tree. It also gives the path without links. The file is nil where there is none.
func (f *File) Resolve(name string) (*File, string, error) {
	budget := 1 << 20
	steps, err := f.steps(name, nil, &budget)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	return steps[len(steps)-1].file, pathOf(steps), nil
}

// pathOf is the path that steps went.
func pathOf(steps []step) string {
	names := make([]string, 0, len(steps))
	for _, s := range steps {
		names = append(names, s.name)
	}
	return "/" + path.Join(names...)
}

// steps goes to name from the root f, through links. A directory that is missing is made by mkdir, where that is set. Each
// part of a link's target costs one of budget.
func (f *File) steps(name string, mkdir func() (*File, error), budget *int) ([]step, error) {
	way := []step{{file: f}}
	pending := strings.Split(name, "/")
	for links := 0; len(pending) > 0; {
		part := pending[0]
		pending = pending[1:]
		here := way[len(way)-1].file
		switch part {
		case "", ".":
			continue
		case "..":
			way = way[:max(len(way)-1, 1)]
			continue
		}
		if here.Kind != Directory {
			return nil, errNotDirectory
		}
		next := here.children[part]
		if next == nil {
			if mkdir == nil {
				return nil, fs.ErrNotExist
			}
			var err error
			if next, err = mkdir(); err != nil {
				return nil, err
			}
			here.children[part] = next
		}
		if next.Kind == Symlink {
			target := strings.Split(next.Target, "/")
			*budget -= len(target)
			if links++; links > maxLinks || *budget < 0 {
				return nil, errManyLinks
			}
			if strings.HasPrefix(next.Target, "/") {
				way = way[:1]
			}
			pending = append(target, pending...)
			continue
		}
		way = append(way, step{part, next})
	}
	return way, nil
}

// newDirectory is a directory that nothing describes.
func newDirectory() *File {
	return &File{Kind: Directory, Mode: 0o755, Layer: NoLayer, children: map[string]*File{}}
}
