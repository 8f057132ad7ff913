package filetree

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// ReadDirectory reads what a directory on disk holds, without following links out of it or into anything. Contents are read
// when they are asked for; the tree is of use until close.
func ReadDirectory(ctx context.Context, name string) (tree *File, close func() error, err error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, nil, err
	}
	d := directoryReader{ctx: ctx, root: root}
	tree, err = d.read(".")
	if err != nil {
		root.Close()
		return nil, nil, err
	}
	return tree, root.Close, nil
}

type directoryReader struct {
	ctx    context.Context
	root   *os.Root
	memory int
}

func (d *directoryReader) read(name string) (*File, error) {
	if err := d.ctx.Err(); err != nil {
		return nil, context.Cause(d.ctx)
	}
	if d.memory += fileMemory + len(name); d.memory > maxMemory {
		return nil, fmt.Errorf("%w: %s has too many files", ErrTooLarge, d.root.Name())
	}
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	f := &File{Mode: info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky), Layer: NoLayer}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		f.UID, f.GID = int(stat.Uid), int(stat.Gid)
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		f.Kind = Directory
		f.children, err = d.entries(name)
	case fs.ModeSymlink:
		f.Kind = Symlink
		f.Target, err = d.root.Readlink(name)
	case 0:
		f.Kind, f.Size = Regular, info.Size()
		f.content = &onDisk{root: d.root, name: name, size: f.Size}
		if f.Mode&0o111 != 0 {
			f.Attributes = capabilities(d.root, name)
		}
	default:
		f.Kind = Special
	}
	return f, err
}

func (d *directoryReader) entries(name string) (map[string]*File, error) {
	dir, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return nil, err
	}
	children := make(map[string]*File, len(names))
	for _, each := range names {
		if children[each], err = d.read(path.Join(name, each)); err != nil {
			return nil, err
		}
	}
	return children, nil
}

// capabilities names the attribute that gives a program rights, where it has that.
func capabilities(root *os.Root, name string) []string {
	const attribute = "security.capability"
	file, err := regularfile.OpenIn(root, name)
	if err != nil {
		return nil
	}
	defer file.Close()
	if n, err := unix.Fgetxattr(int(file.Fd()), attribute, nil); err == nil && n > 0 {
		return []string{attribute}
	}
	return nil
}

// onDisk is the contents of a file of a directory.
type onDisk struct {
	root *os.Root
	name string
	size int64
}

func (c *onDisk) open() (io.ReadCloser, error) {
	file, err := regularfile.OpenIn(c.root, c.name)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(file, c.size), file}, nil
}
