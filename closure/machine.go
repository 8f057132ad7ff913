package closure

import (
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// DefaultLookups is how many narinfos are asked for at the same time: they cost latency and little else.
const DefaultLookups = 64

// DefaultDownloads is how many NARs stream at the same time. A core is kept busy by few, latency asks for more; the
// memory of their decoders is bounded by the cache.
func DefaultDownloads() int { return min(64, max(16, 8*runtime.GOMAXPROCS(0))) }

// DefaultMemory is enough for three large NARs per core: more do not decode faster. It is at most an eighth of what
// the process may have.
func DefaultMemory() int64 {
	return min(3*maxWindow*int64(runtime.GOMAXPROCS(0)), allowedMemory(os.DirFS("/sys/fs/cgroup"))/8)
}

// allowedMemory is what GOMEMLIMIT and the control group, of version 2 or 1, allow the process.
func allowedMemory(cgroup fs.FS) int64 {
	allowed := debug.SetMemoryLimit(-1)
	for _, name := range []string{"memory.max", "memory/memory.limit_in_bytes"} {
		raw, err := fs.ReadFile(cgroup, name)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil {
			allowed = min(allowed, n)
		}
	}
	return allowed
}
