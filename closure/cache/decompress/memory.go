package decompress

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// lease is one decoder's part of a semaphore of bytes, nothing at first.
type lease struct {
	ctx    context.Context
	memory *semaphore.Weighted
	size   int64 // of the semaphore; a decoder that wants more gets all of it
	n      int64
}

// grow waits until the part can be n bytes. A smaller one is given back before, so that nobody holds memory while
// waiting for memory.
func (l *lease) grow(n int64) error {
	if n = min(n, l.size); n <= l.n {
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
