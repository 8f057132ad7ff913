package decompress

import "sync"

// budget shares memory out among decoders. One of them may always run, whatever it wants; a nil budget has no bounds.
type budget struct {
	limit int64

	mu    sync.Mutex
	freed *sync.Cond
	used  int64
}

// acquire waits for n bytes and gives the function that gives them back.
func (b *budget) acquire(n int64) (release func()) {
	if b == nil || n <= 0 || b.limit <= 0 {
		return func() {}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.freed == nil {
		b.freed = sync.NewCond(&b.mu)
	}
	for b.used > 0 && b.used+n > b.limit {
		b.freed.Wait()
	}
	b.used += n
	return sync.OnceFunc(func() {
		b.mu.Lock()
		b.used -= n
		b.mu.Unlock()
		b.freed.Broadcast()
	})
}
