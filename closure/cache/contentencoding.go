package cache

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// maxEncodings is how many Content-Encodings an answer may have on top of each other: curl's own limit.
const maxEncodings = 5

// decodeContent undoes the Content-Encodings of an answer, listed in the order in which they were applied. Nothing between
// two of them may be longer than limit bytes.
func decodeContent(ctx context.Context, pool *decompress.Pool, encodings string, r io.Reader, limit int64) (io.ReadCloser, error) {
	names := strings.Split(encodings, ", ")
	windows := 0
	for _, name := range names {
		if name == "br" || name == "zstd" {
			windows++
		}
	}
	// Who holds memory for a window must not wait for more of the same.
	if len(names) > maxEncodings || windows > 1 {
		return nil, fmt.Errorf("Content-Encoding: %w", &decompress.UnknownError{Name: text.Short(encodings)})
	}
	stack := &decoders{Reader: r}
	for _, name := range slices.Backward(names) {
		z, err := pool.Encoding(ctx, name, stack.Reader)
		if err != nil {
			stack.Close()
			return nil, fmt.Errorf("Content-Encoding: %w", err)
		}
		stack.closers = append(stack.closers, z)
		stack.Reader = &meter{r: z, limit: limit}
	}
	return stack, nil
}

// decoders are a chain, of which each reads what the one before it gives.
type decoders struct {
	io.Reader
	closers []io.Closer
}

// Close gives them back, the last first.
func (d *decoders) Close() error {
	for _, c := range slices.Backward(d.closers) {
		c.Close()
	}
	d.closers = nil
	return nil
}
