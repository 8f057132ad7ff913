package decompress

import (
	"io"
	"sync"
	"time"
)

// budget shares memory out among decoders. Up to a number of them run whatever there is left, as long as they want no
// more than a usual window, and one of them may always run, whatever it wants.
type budget struct {
	limit   int64 // 0 for none
	atLeast int   // decoders with usual windows

	mu      sync.Mutex
	freed   sync.Cond // of mu
	used    int64
	running int
	lent    int64
}

// newBudget has no limit where that is 0.
func newBudget(limit int64, atLeast int) *budget {
	b := &budget{limit: limit, atLeast: atLeast}
	b.freed.L = &b.mu
	return b
}

const (
	// usualWindow is what the compressors of today's caches want: 8 MiB of xz -6, and of zstd up to -19.
	usualWindow = 8 << 20
	// starvedAfter is how long a decoder waits for its input before others may have its part.
	starvedAfter = time.Second
	// maxLent bounds what is lent out, as a multiple of the limit: starved decoders keep their windows.
	maxLent = 4
)

func (b *budget) hasRoom(n int64) bool {
	return b.running == 0 || b.used+n <= b.limit || b.running < b.atLeast && n <= usualWindow+windowSlack
}

func (b *budget) take(n int64) {
	b.used += n
	b.running++
}

func (b *budget) give(n int64) {
	b.used -= n
	b.running--
	b.freed.Broadcast()
}

// lease is one decoder's part of a budget, nothing at first. Its methods may be called from any goroutine.
type lease struct {
	budget  *budget
	n       int64
	waiting bool // the decoder waits for its input
	lent    bool // others have it meanwhile
}

// want waits until the part can be n bytes. A smaller one is given back before.
func (l *lease) want(n int64) {
	b := l.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if n <= l.n || b.limit <= 0 {
		return
	}
	l.drop()
	for !b.hasRoom(n) {
		b.freed.Wait()
	}
	b.take(n)
	l.n = n
}

// release gives the part back.
func (l *lease) release() {
	l.budget.mu.Lock()
	defer l.budget.mu.Unlock()
	l.drop()
}

func (l *lease) drop() {
	l.recall()
	if l.n > 0 {
		l.budget.give(l.n)
		l.n = 0
	}
}

// await says that the decoder waits for its input, or that the input has come. What was lent is taken back at once,
// even where that is more than there is.
func (l *lease) await(waiting bool) {
	l.budget.mu.Lock()
	defer l.budget.mu.Unlock()
	if l.waiting = waiting; !waiting {
		l.recall()
	}
}

// lend lets others have the part of a decoder that still waits.
func (l *lease) lend() {
	b := l.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.waiting && !l.lent && l.n > 0 && b.lent+l.n <= maxLent*b.limit {
		l.lent = true
		b.lent += l.n
		b.give(l.n)
	}
}

func (l *lease) recall() {
	if l.lent {
		l.lent = false
		l.budget.lent -= l.n
		l.budget.take(l.n)
	}
}

// input is what a decoder reads. It lends the decoder's lease out where the reader below keeps it waiting.
type input struct {
	io.Reader
	*lease
	timer *time.Timer
}

func (b *budget) input(r io.Reader) *input { return &input{Reader: r, lease: &lease{budget: b}} }

func (i *input) Read(p []byte) (int, error) {
	i.await(true)
	if i.timer == nil {
		i.timer = time.AfterFunc(starvedAfter, i.lend)
	} else {
		i.timer.Reset(starvedAfter)
	}
	n, err := i.Reader.Read(p)
	i.timer.Stop()
	i.await(false)
	return n, err
}
