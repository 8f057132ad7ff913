package cache

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/closure/xz"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
)

// narStream is a NAR on its way: transfer, Content-Encoding, decompression, the NAR's hash and size.
type narStream struct {
	found    *Found
	transfer *transfer
	file     *meter
	content  io.ReadCloser
	nar      io.ReadCloser
	sum      hash.Hash
	address  *narinfo.ContentCheck // nil where a signature is the proof
	size     int64
	err      error
}

// openNAR starts a transfer and puts the decoders behind it.
func (s *Set) openNAR(ctx context.Context, f *Found, other fallback) (*narStream, error) {
	u, err := f.cache.address.resolve(f.URL)
	if err != nil {
		return nil, &invalidError{fmt.Errorf("narinfo field URL: %w", err)}
	}
	n := &narStream{found: f, sum: sha256.New()}
	if f.provesItself {
		if n.address, err = f.ContentCheck(); err != nil {
			return nil, &invalidError{fmt.Errorf("narinfo field CA: %w", err)}
		}
	}
	n.transfer = &transfer{
		cache: f.cache, fallback: other,
		request: request{url: u, packed: f.Compression != "none"}, size: -1,
	}
	switch {
	case f.FileSize > 0:
		n.transfer.size = f.FileSize
	case !n.transfer.request.packed:
		n.transfer.size = f.NarSize
	}
	if err := n.transfer.begin(ctx); err != nil {
		n.transfer.close()
		return nil, n.located(u, err)
	}
	if err := n.decode(ctx, s.pool); err != nil {
		err = n.causeOf(err)
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *narStream) located(u *url.URL, err error) error {
	if errors.Is(err, errAbsent) {
		return &VerifyError{Cache: n.found.CacheURL, Path: n.found.StorePath, Field: "URL",
			Want: redact.URL(u), Got: "a file that is not there"}
	}
	return fmt.Errorf("fetching %s from %s: %w", n.found.StorePath, n.found.CacheURL, err)
}

// decode stacks the decoders.
func (n *narStream) decode(ctx context.Context, pool *decompress.Pool) error {
	var raw io.Reader = &meter{r: n.transfer, limit: packedLimit(n.found.NarSize)}
	if e := n.transfer.encoding; e != "" && e != strings.TrimPrefix(cmp.Or(n.found.Compression, "bzip2"), "x-") {
		// A server that announces the file's own compression as Content-Encoding, as static ones do by its name,
		// means the file as it is.
		content, err := decodeContent(ctx, pool, e, raw, packedLimit(n.found.NarSize))
		if err != nil {
			return err
		}
		n.content, raw = content, content
	}
	n.file = &meter{r: raw, limit: packedLimit(n.found.NarSize)}
	nar, err := pool.Reader(ctx, n.found.Compression, n.file, n.found.NarSize)
	n.nar = nar
	return err
}

// packedLimit is more than any compression makes of a NAR of this size that does not compress.
func packedLimit(narSize int64) int64 { return narSize + narSize/8 + 1<<20 }

func (n *narStream) close() {
	n.transfer.abort() // first, because a decoder may be a process that is being fed
	for _, c := range []io.Closer{n.nar, n.content} {
		if c != nil {
			c.Close()
		}
	}
	n.transfer.close()
}

// Read gives verified bytes; see Set.Fetch.
func (n *narStream) Read(p []byte) (int, error) {
	if n.err != nil {
		return 0, n.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	// One byte beyond NarSize is asked for only when NarSize is reached: it must not exist.
	left := n.found.NarSize - n.size
	if left == 0 {
		n.err = n.finish()
		return 0, n.err
	}
	got, err := n.nar.Read(p[:min(int64(len(p)), left)])
	n.sum.Write(p[:got])
	if n.address != nil {
		n.address.Write(p[:got])
	}
	n.size += int64(got)
	switch {
	case err == io.EOF && n.size == n.found.NarSize:
		err = n.finish()
	case err == io.EOF:
		err = n.short()
	case err != nil:
		err = n.causeOf(err)
	}
	n.err = err
	return got, err
}

// finish checks everything once NarSize bytes came, and gives io.EOF when all is right.
func (n *narStream) finish() error {
	var one [1]byte
	for {
		got, err := n.nar.Read(one[:])
		if got > 0 {
			return n.mismatch("NarSize", fmt.Sprint(n.found.NarSize), "more")
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return n.causeOf(err)
		}
	}
	if err := n.finishFile(); err != nil {
		return err
	}
	if got := storepath.Hash(n.sum.Sum(nil)); got != n.found.NarHash {
		return n.mismatch("NarHash", n.found.NarHash.String(), got.String())
	}
	if n.address != nil {
		if err := n.address.Verify(); err != nil {
			return n.mismatch("CA", n.found.CA, "an address of other contents: "+err.Error())
		}
	}
	return io.EOF
}

// short is a NAR that ended before NarSize; when the file itself is not what it should be, that is the better news.
func (n *narStream) short() error {
	if err := n.finishFile(); err != nil {
		return err
	}
	if err := n.otherFile(); err != nil {
		return err
	}
	return n.restartIfCut(n.mismatch("NarSize", fmt.Sprint(n.found.NarSize), fmt.Sprint(n.size)))
}

// otherFile is what is wrong with a file that came whole and ends early, where it is not as long as its narinfo says.
func (n *narStream) otherFile() error {
	if want := n.found.FileSize; want > 0 && n.file != nil && n.transfer.err == io.EOF && n.file.size != want {
		return n.mismatch("FileSize", fmt.Sprint(want), fmt.Sprint(n.file.size))
	}
	return nil
}

// restartIfCut makes a *restartError of an error, where the file may have been cut off without anybody noticing.
func (n *narStream) restartIfCut(err error) error {
	if n.transfer.err == io.EOF && n.transfer.size < 0 && n.transfer.openEnd {
		return &restartError{err}
	}
	return err
}

// finishFile reads what the decoder left of the file, which should be nothing. How much came is no matter by itself: nobody
// signs FileSize, and Nix does not look at it.
func (n *narStream) finishFile() error {
	var rest [512]byte
	for {
		got, err := n.file.Read(rest[:])
		if got > 0 {
			return n.mismatch("Compression", n.found.Compression, "followed by something else")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return n.causeOf(err)
		}
	}
}

func (n *narStream) mismatch(field, want, got string) error {
	return &VerifyError{Cache: n.found.CacheURL, Path: n.found.StorePath, Field: field, Want: want, Got: got}
}

// causeOf finds out whether a decoder failed or what lies below it.
func (n *narStream) causeOf(err error) error {
	switch {
	case n.transfer.err != nil && n.transfer.err != io.EOF:
		return fmt.Errorf("fetching %s from %s: %w", n.found.StorePath, n.found.CacheURL, n.transfer.err)
	case errors.Is(err, errTooLong):
		return n.mismatch("FileSize", fmt.Sprintf("NarSize %d, which packs to less", n.found.NarSize),
			fmt.Sprintf("more than %d", packedLimit(n.found.NarSize)))
	case errors.Is(err, xz.ErrSize):
		return n.mismatch("NarSize", fmt.Sprint(n.found.NarSize), "more")
	}
	if other := n.otherFile(); other != nil && errors.Is(err, io.ErrUnexpectedEOF) && !n.transfer.html {
		return other
	}
	if n.transfer.html {
		err = fmt.Errorf("the answer is an HTML page: %w", err)
	}
	return n.restartIfCut(&CompressionError{
		Cache: n.found.CacheURL, Path: n.found.StorePath, Compression: n.found.Compression, Err: err,
	})
}

var errTooLong = errors.New("longer than it can be")

// meter counts a file, and ends it when it grows beyond its limit.
type meter struct {
	r     io.Reader
	size  int64
	limit int64
}

func (m *meter) Read(p []byte) (int, error) {
	got, err := m.r.Read(p)
	m.size += int64(got)
	if m.size > m.limit {
		return 0, errTooLong
	}
	return got, err
}
