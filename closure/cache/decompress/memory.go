package decompress

import (
	"context"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sync/semaphore"
)

const (
	// usualWindow is what the compressors of today's caches want: 8 MiB of xz -6, and of zstd up to -19.
	usualWindow = 8<<20 + windowSlack
	// memoryShare is which part of what the process may have the decoders of a Pool take together.
	memoryShare = 8
)

// DefaultMemory is what the decoders of a Pool share, in bytes: a usual window for each core, and one more, but no more
// than an eighth of what the process may have.
func DefaultMemory() int64 { return defaultMemory(os.DirFS("/sys/fs/cgroup")) }

func defaultMemory(cgroup fs.FS) int64 {
	return min(int64(runtime.GOMAXPROCS(0)+1)*usualWindow, allowedMemory(cgroup)/memoryShare)
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

// memory is bytes that decoders hold their windows of; who wants more than there is gets all of it.
type memory struct {
	*semaphore.Weighted
	size int64
}

func newMemory(size int64) memory { return memory{Weighted: semaphore.NewWeighted(size), size: size} }

// lease is one decoder's part of some memory, nothing at first.
type lease struct {
	ctx    context.Context
	memory memory
	n      int64
}

// grow waits until the part can be n bytes. A smaller one is given back before, so that nobody holds memory while
// waiting for memory.
func (l *lease) grow(n int64) error {
	if n = min(n, l.memory.size); n <= l.n {
		return nil
	}
	l.release()
	if err := l.memory.Acquire(l.ctx, n); err != nil {
		return context.Cause(l.ctx)
	}
	l.n = n
	return nil
}

func (l *lease) release() {
	if l.n > 0 {
		l.memory.Release(l.n)
		l.n = 0
	}
}
