package closure

import (
	"slices"
	"sync"
)

// queue is work for several goroutines.
type queue[T any] struct {
	order func(a, b T) int // which is taken first; nil is the one that was added first

	mu      sync.Mutex
	changed *sync.Cond
	items   []T
	closed  bool
}

func newQueue[T any](order func(a, b T) int) *queue[T] {
	q := &queue[T]{order: order}
	q.changed = sync.NewCond(&q.mu)
	return q
}

func (q *queue[T]) add(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := len(q.items)
	if q.order != nil {
		at, _ = slices.BinarySearchFunc(q.items, item, q.order)
	}
	q.items = slices.Insert(q.items, at, item)
	q.changed.Signal()
}

// next waits for an item. ok is false when there will be none any more.
func (q *queue[T]) next() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) == 0 && !q.closed {
		q.changed.Wait()
	}
	if len(q.items) == 0 {
		return item, false
	}
	item, q.items = q.items[0], q.items[1:]
	return item, true
}

// close says that nothing is added any more; what was added is still taken.
func (q *queue[T]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Broadcast()
}
