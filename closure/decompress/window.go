package decompress

import (
	"math"

	"github.com/klauspost/compress/zstd"
)

// BrotliWindow is the window in bytes that a stream's first byte, which holds WBITS, asks for (RFC 7932, section 9.1).
func BrotliWindow(first byte) int64 {
	high, low := first>>1&7, first>>4&7
	switch {
	case first&1 == 0:
		return 1 << 16
	case high != 0:
		return 1 << (17 + high)
	case low > 1: // 1 is reserved
		return 1 << (8 + low)
	}
	return 1 << 17
}

// ZstdWindow is the window in bytes that a zstd frame asks for: of one that is a single segment all its content
// (RFC 8878, section 3.1.1.1).
func ZstdWindow(h zstd.Header) int64 {
	if h.SingleSegment {
		return int64(min(h.FrameContentSize, math.MaxInt64))
	}
	return int64(min(h.WindowSize, math.MaxInt64))
}
