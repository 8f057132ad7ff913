package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"syscall"

	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// store is where the files of an image are: a directory, or an archive.
type store interface {
	// open opens a regular file. Its error is os.ErrNotExist where there is none.
	open(name string) (file io.ReadCloser, size int64, err error)
	// openDocument opens a file that is no link: where one in an archive leads, container engines disagree.
	openDocument(name string) (file io.ReadCloser, size int64, err error)
	close() error
}

// maxArchived and maxLinksArchived bound an archive's files, and the links that lead from one to another.
const (
	maxArchived      = 64 << 10
	maxLinksArchived = 8
)

func openStore(ctx context.Context, name string) (store, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		file.Close()
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, err
		}
		return directory{root}, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is neither a file nor a directory")
	}
	var archive store
	if err == nil {
		archive, err = openArchive(ctx, file)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return archive, nil
}

// directory is an OCI layout's.
type directory struct{ root *os.Root }

func (d directory) open(name string) (io.ReadCloser, int64, error) {
	file, err := regularfile.OpenIn(d.root, path.Clean(name))
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(file, info.Size()), file}, info.Size(), nil
}

// openDocument opens a file: where a link leads in a directory, the file system says.
func (d directory) openDocument(name string) (io.ReadCloser, int64, error) { return d.open(name) }

// ancestors are the directories above a relative path, and itself.
func ancestors(name string) []string {
	if name == "." || name == "/" || name == "" {
		return nil
	}
	return append(ancestors(path.Dir(name)), name)
}

func (d directory) close() error { return d.root.Close() }

// archive is a tar file, by where its files begin.
type archive struct {
	file  *os.File
	files map[string]archived
	given int64 // how many bytes it has, packed as it was given
}

type archived struct {
	offset, size int64
	link         string
}

// openArchive reads where everything is. A name that is there twice is refused: engines disagree on which one counts.
func openArchive(ctx context.Context, file *os.File) (store, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	head := make([]byte, 6)
	if n, err := file.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	} else if packed := compression(head[:n]); packed != "" && packed != "gzip" {
		return nil, fmt.Errorf("reading the archive: it is packed with %s; unpack it, and give what comes out", packed)
	} else if packed != "" {
		if file, err = gunzip(ctx, file, filetree.Room(info.Size())); err != nil {
			return nil, err
		}
	}
	a, err := index(ctx, file)
	if err != nil {
		file.Close()
		return nil, err
	}
	a.given = info.Size()
	return a, nil
}

// compression is what an archive that begins so was packed with as a whole, "" for none. gzip is what docker load takes, too.
func compression(head []byte) string {
	for _, each := range []struct{ name, magic string }{
		{"gzip", "\x1f\x8b"}, {"zstd", "\x28\xb5\x2f\xfd"}, {"xz", "\xfd7zXZ\x00"}, {"bzip2", "BZh"},
	} {
		if bytes.HasPrefix(head, []byte(each.magic)) {
			return each.name
		}
	}
	return ""
}

// index reads where an archive's files are.
func index(ctx context.Context, file *os.File) (*archive, error) {
	a := &archive{file: file, files: map[string]archived{}}
	reader := tar.NewReader(&interruptibleSeeker{regularfile.NewReader(ctx, file), ctx, file})
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return a, a.nested()
		}
		if err != nil {
			return nil, fmt.Errorf("reading the archive: %w; it takes what docker save writes, or an OCI layout", err)
		}
		if err := a.add(header); err != nil {
			return nil, fmt.Errorf("reading the archive: %.200q: %w", header.Name, err)
		}
	}
}

// add notes a file's place, which is where the archive has been read to.
func (a *archive) add(header *tar.Header) error {
	name := path.Clean("/" + header.Name)[1:]
	next := archived{size: header.Size}
	switch header.Typeflag {
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg:
	case tar.TypeSymlink:
		next = archived{link: path.Join(path.Dir(name), header.Linkname)}
	case tar.TypeLink:
		next = archived{link: header.Linkname}
	default:
		return fmt.Errorf("it is of type %q", header.Typeflag)
	}
	for record := range header.PAXRecords {
		if len(record) > 11 && record[:11] == "GNU.sparse." {
			return errors.New("it is sparse")
		}
	}
	if _, twice := a.files[name]; twice {
		return errors.New("the archive has it twice")
	}
	if len(a.files) == maxArchived {
		return fmt.Errorf("the archive has more than %d files", maxArchived)
	}
	var err error
	if next.offset, err = a.file.Seek(0, io.SeekCurrent); err != nil {
		return err
	}
	a.files[name] = next
	return nil
}

// nested reports a file below what is no directory: an engine that unpacks the archive writes it where a link leads, maybe
// over another one.
func (a *archive) nested() error {
	for name := range a.files {
		for _, above := range ancestors(path.Dir(name)) {
			if _, ok := a.files[above]; ok {
				return fmt.Errorf("reading the archive: it has %.200q, and below that %.200q", above, name)
			}
		}
	}
	return nil
}

func (a *archive) openDocument(name string) (io.ReadCloser, int64, error) {
	if a.files[path.Clean("/" + name)[1:]].link != "" {
		return nil, 0, fmt.Errorf("%.200q is a link", name)
	}
	return a.open(name)
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	name = path.Clean("/" + name)[1:]
	for range maxLinksArchived {
		found, ok := a.files[name]
		if !ok {
			return nil, 0, fmt.Errorf("the archive has no %.200q: %w", name, os.ErrNotExist)
		}
		if found.link == "" {
			return io.NopCloser(bufio.NewReaderSize(io.NewSectionReader(a.file, found.offset, found.size), 256<<10)), found.size, nil
		}
		name = path.Clean("/" + found.link)[1:]
	}
	return nil, 0, fmt.Errorf("%.200q is one link after another", name)
}

func (a *archive) close() error { return a.file.Close() }

// interruptibleSeeker lets tar skip contents without reading them.
type interruptibleSeeker struct {
	io.Reader
	ctx    context.Context
	seeker io.Seeker
}

// Seek moves within the archive.
func (s *interruptibleSeeker) Seek(offset int64, whence int) (int64, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.seeker.Seek(offset, whence)
}

// gunzip writes an archive that was compressed as a whole to a file without a name, for which there is that much room, and
// closes the one it was given.
func gunzip(ctx context.Context, packed *os.File, room int64) (*os.File, error) {
	content, err := gzip.NewReader(bufio.NewReader(regularfile.NewReader(ctx, packed)))
	if err != nil {
		return nil, err
	}
	plain, err := os.CreateTemp("", "image-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(plain.Name())
	limited := &io.LimitedReader{R: regularfile.NewReader(ctx, content), N: MaxSize}
	if err == nil {
		err = filetree.CopySparse(plain, limited, make([]byte, 64<<10), &room)
	}
	switch {
	case errors.Is(err, filetree.ErrNoRoom):
		err = fmt.Errorf("reading the archive: %w; where you trust it, gunzip it, and give what comes out", err)
	case err == nil && limited.N == 0:
		err = fmt.Errorf("reading the archive: %w of %d bytes", filetree.ErrTooLarge, int64(MaxSize))
	case err == nil:
		_, err = plain.Seek(0, io.SeekStart)
	}
	if err != nil {
		plain.Close()
		return nil, err
	}
	return plain, packed.Close()
}
