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
		err = filepath.WalkDir(dir, archive.add)
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
	return a.file(dir, info)
}

func (a *layerArchive) add(name string, entry fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	return a.file(name, info)
}

func (a *layerArchive) file(name string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(name); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name, header.Uname, header.Gname = name, "", ""
	header.ModTime = time.Date(1980, time.January, 1, 0, 0, 1, 0, time.UTC)
	if a.owner != nil {
		header.Uid, header.Gid = a.owner[0], a.owner[1]
	}
	if err := a.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{a.Writer}, struct{ io.Reader }{file}, a.buffer)
	return err
}
