package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// fileTransport gets files of a cache in a directory. Absolute HTTP URLs in its narinfos are left to web.
type fileTransport struct{ web transport }

func (t *fileTransport) get(ctx context.Context, r request) (*response, error) {
	if r.url.Scheme != "file" {
		return t.web.get(ctx, r)
	}
	f, err := regularfile.OpenLinked(r.url.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errAbsent
	}
	if err != nil {
		return nil, fmt.Errorf("reading the cache's file: %w", err)
	}
	info, err := f.Stat()
	if err == nil && r.from > 0 {
		_, err = f.Seek(r.from, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("reading the cache's file: %w", err)
	}
	return &response{body: f, from: r.from, size: info.Size() - r.from}, nil
}
