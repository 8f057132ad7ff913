package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// fileTransport gets files of a cache in a directory. Absolute HTTP URLs in its narinfos are left to web.
type fileTransport struct{ web transport }

func (t *fileTransport) get(ctx context.Context, r request) (*response, error) {
	if r.url.Scheme != "file" {
		return t.web.get(ctx, r)
	}
	f, info, err := openRegular(r.url.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errAbsent
	}
	if err != nil {
		return nil, fmt.Errorf("reading the cache's file: %w", err)
	}
	if r.from > 0 {
		if _, err = f.Seek(r.from, 0); err != nil {
			f.Close()
			return nil, fmt.Errorf("reading the cache's file: %w", err)
		}
	}
	return &response{body: f, from: r.from, size: info.Size() - r.from}, nil
}

// openRegular opens a regular file. A pipe in its place would be waited for and a device read without end, and no signal ends
// that.
func openRegular(name string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}
