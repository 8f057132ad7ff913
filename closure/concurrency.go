package closure

import (
	"runtime"
	"syscall"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
)

// atOnce is how many narinfos are asked for at the same time, and how many NARs stream: they cost latency and little else,
// and a descriptor or several each.
func atOnce() int {
	const most, descriptors = cache.LookupsAtOnce, 8
	limit := syscall.Rlimit{Cur: most * descriptors} // where the system does not say
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return int(max(1, min(most, limit.Cur/descriptors)))
}

// largeNAR is the size from which a NAR counts as large: today's compressors want a window of 8 MiB for it.
const largeNAR = 8 << 20

// largeDownloads is how many large NARs are under way at the same time, or smaller ones of together their size. More do
// not come faster, and each has its buffers.
func largeDownloads() int64 { return 3 * int64(runtime.GOMAXPROCS(0)) }

// defaultDownloads is how many NARs stream at the same time. A core is kept busy by few, latency asks for more; the
// memory of their decoders is bounded by the cache.
func defaultDownloads() int { return min(atOnce(), max(16, 8*runtime.GOMAXPROCS(0))) }
