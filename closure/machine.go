package closure

import "runtime"

// lookups is how many narinfos are asked for at the same time: they cost latency and little else.
const lookups = 64

// largeNAR is the size from which a NAR counts as large: today's compressors want a window of 8 MiB for it.
const largeNAR = 8 << 20

// largeDownloads is how many large NARs are under way at the same time, or smaller ones of together their size. More do
// not come faster, and each has its buffers.
func largeDownloads() int64 { return 3 * int64(runtime.GOMAXPROCS(0)) }

// DefaultDownloads is how many NARs stream at the same time. A core is kept busy by few, latency asks for more; the
// memory of their decoders is bounded by the cache.
func DefaultDownloads() int { return min(64, max(16, 8*runtime.GOMAXPROCS(0))) }
