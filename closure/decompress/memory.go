package decompress

import (
	"context"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
)

const (
	// usualWindow is what the compressors of today's caches want: 8 MiB of xz -6, and of zstd up to -19. A zstd decoder
	// has more besides than one of xz.
	usualWindow = 8<<20 + zstdSlack
	// memoryShare is which part of what the process may have the decoders of a Pool take together.
	memoryShare = 8
)

// DefaultMemory is what the decoders of a Pool share, in bytes: a usual window for each core, but no more than an eighth
// of what the process may have.
func DefaultMemory() int64 { return defaultMemory(os.DirFS("/sys/fs/cgroup")) }

func defaultMemory(cgroup fs.FS) int64 {
	return min(int64(runtime.GOMAXPROCS(0))*usualWindow, allowedMemory(cgroup)/memoryShare)
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

// windows are what decoders hold of a budget, those in use and those that wait for their next use.
type windows struct {
	budget *memory.Budget

	mu    sync.Mutex
	held  int64   // by leases
	spare []spare // the one that was used last at the end
	kept  int64   // by those
}

// spare is a decoder that waits for its next use.
type spare struct {
	class   any // which use that can be
	bytes   int64
	decoder any
}

// take gives a spare decoder of that class, nil where there is none. The caller has a lease for what it holds.
func (m *windows) take(class any) (decoder any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, s := range slices.Backward(m.spare) {
		if s.class == class {
			m.drop(i)
			decoder = s.decoder
			break
		}
	}
	m.fit()
	return decoder
}

// keep has a decoder wait for its next use, unless decoders in use need the memory that it holds.
func (m *windows) keep(class any, bytes int64, decoder any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spare, m.kept = append(m.spare, spare{class, bytes, decoder}), m.kept+bytes
	m.fit()
}

// fit lets go of what was not used for longest, until there is room for the leases.
func (m *windows) fit() {
	for len(m.spare) > 0 && m.held+m.kept > m.budget.Size() {
		m.drop(0)
	}
}

func (m *windows) drop(i int) {
	m.kept -= m.spare[i].bytes
	m.spare = slices.Delete(m.spare, i, i+1)
}

// hold counts what leases take and give back.
func (m *windows) hold(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held += n
}

// lease is what one decoder holds, nothing at first.
type lease struct {
	ctx     context.Context
	windows *windows
	share   *memory.Share
	n       int64
	loan    *memory.Loan
}

func (m *windows) lease(ctx context.Context) lease {
	return lease{ctx: ctx, windows: m, share: memory.Of(ctx, m.budget)}
}

// grow waits until the lease can be of n bytes. What it has is given back before.
func (l *lease) grow(n int64) error {
	if n = min(n, l.windows.budget.Size()); n <= l.n {
		return nil
	}
	l.release()
	loan, err := l.share.Take(l.ctx, n)
	if err != nil {
		return err
	}
	l.n, l.loan = n, loan
	l.windows.hold(n)
	return nil
}

func (l *lease) release() {
	l.windows.hold(-l.n)
	l.loan.Return()
	l.n, l.loan = 0, nil
}
