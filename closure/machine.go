package closure

import "runtime"

// lookups is how many narinfos are asked for at the same time: they cost latency and little else.
const lookups = 64

// DefaultDownloads is how many NARs stream at the same time. A core is kept busy by few, latency asks for more; the
// memory of their decoders is bounded by the cache.
func DefaultDownloads() int { return min(64, max(16, 8*runtime.GOMAXPROCS(0))) }
