package relocate

import (
	"encoding/binary"
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

// xzWindow is the window that the first block of an .xz file wants (xz-file-format, 3.1), or 0 where there is none.
func xzWindow(head []byte) int64 {
	const streamHeader, lzma2, largest = 12, 0x21, 40
	if len(head) < streamHeader+2 {
		return 0
	}
	flags, b := head[streamHeader+1], head[streamHeader+2:]
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		b = b[max(n, 0):]
		return v
	}
	for range flags>>6&1 + flags>>7 {
		number() // the block's sizes
	}
	for range flags&3 + 1 {
		filter, properties := number(), number()
		if properties > uint64(len(b)) || filter == lzma2 && properties == 0 {
			return 0
		}
		if filter == lzma2 {
			bits := min(b[0], largest)
			return int64(2|bits&1) << (bits/2 + 11)
		}
		b = b[properties:]
	}
	return 0
}

// onlyLZMA2 reports whether the first block of an .xz file has one filter; the last one is always LZMA2.
func onlyLZMA2(head []byte) bool {
	const blockFlags = 13
	return len(head) > blockFlags && head[blockFlags]&3 == 0
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
