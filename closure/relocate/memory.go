package relocate

import (
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
)

const (
	// maxWindows is how much memory the decoders at work on one file may take together, in bytes: what
	// `zstd --ultra -22` wants, and twice what `xz -9` does.
	maxWindows = 128 << 20
	// smallWindows is what they may take without waiting: what `zstd -19` and `xz -6` want.
	smallWindows = 8 << 20
	// bzip2Window is what bzip2 wants: 900,000 words.
	bzip2Window = 4 << 20
)

// withMemory calls look while the file at hand may take size bytes more.
func (x *inspector) withMemory(size int64, look func() error) error {
	if size > maxWindows-x.taken {
		return unsupported(fmt.Sprintf("decoding it takes more than %d MiB of memory", maxWindows>>20))
	}
	x.taken += size
	defer func() { x.taken -= size }()
	if x.taken > smallWindows && x.loan == nil && !x.hasLoan {
		loan, err := memory.Of(x.ctx, x.budget.memory).Overdraw(x.ctx)
		if err != nil {
			return err
		}
		x.loan = loan
	}
	return look()
}

// withNew is withMemory for a decoder that takes all of it anew, however little it then reads: as that takes time, it is
// charged for as if so much less were inflated.
func (x *inspector) withNew(size int64, look func() error) error {
	if !x.budget.takes(size) {
		return errBudget
	}
	return x.withMemory(size, look)
}

// freeMemory gives back what the file at hand has taken.
func (x *inspector) freeMemory() {
	x.taken = 0
	x.loan.Return()
	x.loan = nil
}

// zstdWindow is the window that the first frame of a zstd file wants.
func zstdWindow(head []byte) int64 {
	var h zstd.Header
	if err := h.Decode(afterSkippable(head)); err != nil {
		return maxWindows // as the frame is not in sight
	}
	return decompress.ZstdWindow(h)
}

// brotliWindow is the window that a brotli stream wants.
func brotliWindow(head []byte) int64 {
	if len(head) == 0 {
		return 1 << 16
	}
	return decompress.BrotliWindow(head[0])
}
