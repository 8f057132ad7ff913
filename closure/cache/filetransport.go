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

func (t *fileTransport) get(ctx context.Context, r request) (*answer, error) {
	if r.url.Scheme != "file" {
		return t.web.get(ctx, r)
	}
	f, err := os.OpenFile(r.url.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would be waited for
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errAbsent
	}
	if err != nil {
		return nil, fmt.Errorf("reading the cache's file: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: r.url.Path, Err: errors.New("not a regular file")}
	}
	if err == nil && r.from > 0 {
		_, err = f.Seek(r.from, 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("reading the cache's file: %w", err)
	}
	return &answer{body: f, from: r.from, size: info.Size() - r.from}, nil
}
