// Package deb reads Debian binary packages: enough of deb(5) to take a package's files out of it anywhere, without
// dpkg and without root.
package deb

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

const (
	magic     = "!<arch>\n"
	headerLen = 60
)

// Walk calls visit for each file of the package read from r, in the package's order, with names cleaned to
// "usr/bin/x" (no leading "./" or "/"; the root itself is left out). The header may be changed by visit; contents is
// only readable during the call.
func Walk(r io.Reader, visit func(header *tar.Header, contents io.Reader) error) error {
	member, name, err := data(bufio.NewReaderSize(r, 1<<16))
	if err != nil {
		return fmt.Errorf("reading deb: %w", err)
	}
	plain, done, err := decompress(name, member)
	if err != nil {
		return fmt.Errorf("reading deb member %q: %w", name, err)
	}
	defer done()
	files := tar.NewReader(plain)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading deb member %q: %w", name, err)
		}
		header.Name = strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		if header.Name == "" {
			continue
		}
		if header.Typeflag == tar.TypeLink {
			header.Linkname = strings.TrimPrefix(path.Clean("/"+header.Linkname), "/")
		}
		if err := visit(header, files); err != nil {
			return err
		}
	}
}

// data finds the data.tar member of the ar archive.
func data(r io.Reader) (member io.Reader, name string, err error) {
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, "", err
	}
	if string(head) != magic {
		return nil, "", errors.New("not an ar archive")
	}
	for {
		header := make([]byte, headerLen)
		if _, err := io.ReadFull(r, header); err != nil {
			return nil, "", fmt.Errorf("no data.tar: %w", err)
		}
		name := strings.TrimSuffix(strings.TrimSpace(string(header[:16])), "/")
		size, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		if err != nil || !bytes.Equal(header[58:], []byte("`\n")) {
			return nil, "", fmt.Errorf("bad ar header %q", header)
		}
		if strings.HasPrefix(name, "data.tar") {
			return io.LimitReader(r, size), name, nil
		}
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return nil, "", err
		}
	}
}

func decompress(name string, r io.Reader) (plain io.Reader, done func(), err error) {
	done = func() {}
	switch path.Ext(name) {
	case ".tar":
		return r, done, nil
	case ".gz":
		plain, err = gzip.NewReader(r)
		return plain, done, err
	case ".xz":
		plain, err = xz.NewReader(r, xz.DefaultDictMax)
		return plain, done, err
	case ".zst":
		decoder, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, done, err
		}
		return decoder, decoder.Close, nil
	}
	return nil, done, errors.New("unknown compression")
}

// Extract writes the package's files below dir, merging with what is there: existing directories, and symbolic
// links to directories, are kept, as dpkg does. Owners are not kept; device files are refused.
func Extract(r io.Reader, dir string) error {
	return Walk(r, func(header *tar.Header, contents io.Reader) error {
		return ExtractEntry(dir, header, contents)
	})
}

// ExtractEntry writes one entry of Walk below dir, as Extract does for each.
func ExtractEntry(dir string, header *tar.Header, contents io.Reader) error {
	target := filepath.Join(dir, filepath.FromSlash(header.Name))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	mode := header.FileInfo().Mode().Perm()
	switch header.Typeflag {
	case tar.TypeDir:
		if info, err := os.Stat(target); err == nil && info.IsDir() {
			return nil
		}
		return os.MkdirAll(target, mode|0o700)
	case tar.TypeSymlink:
		if err := clear(target); err != nil {
			return err
		}
		return os.Symlink(header.Linkname, target)
	case tar.TypeLink:
		if err := clear(target); err != nil {
			return err
		}
		return os.Link(filepath.Join(dir, filepath.FromSlash(header.Linkname)), target)
	case tar.TypeReg:
		if err := clear(target); err != nil {
			return err
		}
		return write(target, mode, header.ModTime, contents)
	}
	return fmt.Errorf("extracting %q: file type %q is not supported", header.Name, header.Typeflag)
}

func clear(target string) error {
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func write(target string, mode os.FileMode, modified time.Time, contents io.Reader) error {
	file, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode|0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, contents)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chtimes(target, modified, modified)
	}
	return err
}
