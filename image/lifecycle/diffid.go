package lifecycle

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// DiffID is the digest ("sha256:" and hex) of a layer's Archive: the digest by which an image names the layer's
// uncompressed bytes.
func DiffID(ctx context.Context, dir string, uid, gid int) (string, error) {
	sum := sha256.New()
	if err := Archive(ctx, sum, dir, uid, gid); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// Archive writes the archive that the lifecycle's exporter makes of a layer's directory, owned by uid and gid in the
// image, as the lifecycle makes it (buildpacks/lifecycle, layers/dir.go and archive/): the directories above dir, then dir
// in lexical order, names absolute, every time the same. Where a lifecycle made it another way, no layer of a previous
// image would be recognized, and each build would export all of them.
func Archive(ctx context.Context, w io.Writer, dir string, uid, gid int) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("archiving layer %s: %w", dir, err)
	}
	archive := layerArchive{Writer: tar.NewWriter(w), ctx: ctx, buffer: make([]byte, 256<<10)}
	err = archive.parents(filepath.Dir(dir))
	if err == nil {
		archive.owner = &[2]int{uid, gid}
		err = archive.layer(dir)
	}
	if err = errors.Join(err, archive.Close()); err != nil {
		return fmt.Errorf("archiving layer %s: %w", dir, err)
	}
	return nil
}

// layerArchive writes files as the lifecycle does.
type layerArchive struct {
	*tar.Writer
	ctx    context.Context
	owner  *[2]int // of what is in the layer; nil leaves files their own
	buffer []byte
}

// parents adds the directories that lead to a layer, the topmost first.
func (a *layerArchive) parents(dir string) error {
	if dir == "/" {
		return nil
	}
	if err := a.parents(filepath.Dir(dir)); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return a.header(dir, info, "")
}

func (a *layerArchive) layer(dir string) error {
	above, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer above.Close()
	return a.add(above, dir)
}

// add adds what has this whole name, and all that is in it. It is looked for in its directory: looking each whole name up anew
// takes most of the time where the root directory is a file system of FUSE (fuse-overlayfs).
func (a *layerArchive) add(dir *os.Root, name string) error {
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	base := filepath.Base(name)
	info, err := dir.Lstat(base)
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case fs.ModeSocket:
		return nil
	case fs.ModeSymlink:
		target, err := dir.Readlink(base)
		if err != nil {
			return err
		}
		return a.header(name, info, target)
	}
	if err := a.header(name, info, ""); err != nil {
		return err
	}
	switch {
	case info.IsDir():
		return a.contents(dir, name)
	case info.Mode().IsRegular():
		return a.file(dir, base)
	}
	return nil
}

func (a *layerArchive) contents(above *os.Root, name string) error {
	dir, err := above.OpenRoot(filepath.Base(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	list, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return err
	}
	for _, each := range list {
		if err := a.add(dir, filepath.Join(name, each.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (a *layerArchive) header(name string, info fs.FileInfo, target string) error {
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name, header.Uname, header.Gname = name, "", ""
	header.ModTime = time.Date(1980, time.January, 1, 0, 0, 1, 0, time.UTC)
	if a.owner != nil {
		header.Uid, header.Gid = a.owner[0], a.owner[1]
	}
	return a.WriteHeader(header)
}

func (a *layerArchive) file(dir *os.Root, name string) error {
	file, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{a.Writer}, struct{ io.Reader }{file}, a.buffer)
	return err
}
