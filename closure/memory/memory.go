// Package memory bounds what many streams at work side by side hold for their decoders, each of which may need several
// on top of each other.
//
// A Share is what one stream holds of a Budget. While it holds nothing, it waits in line until there is as much as it
// wants. Who has to wait while holding something could wait for somebody who waits for him; so a share that holds
// something takes what is free, and else overdraws: one share may at a time, and that one waits for nothing until it has
// given back what was beyond the budget. Then one of the others that hold something may. Hence there is always one that
// goes on, and all come to their end.
package memory

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Budget is a number of bytes that shares hold together. One of them may hold more.
type Budget struct {
	size      int64
	free      *semaphore.Weighted
	overdraft chan struct{} // held by the share that overdraws
}

// NewBudget is a budget of size bytes.
func NewBudget(size int64) *Budget {
	return &Budget{size: size, free: semaphore.NewWeighted(size), overdraft: make(chan struct{}, 1)}
}

// Size is how many bytes it has.
func (b *Budget) Size() int64 { return b.size }

// Share is a share for one more stream, which holds nothing yet.
func (b *Budget) Share() *Share { return &Share{budget: b} }

// Share is what one stream holds of a budget. It may be used by several goroutines.
type Share struct {
	budget *Budget
	taking sync.Mutex // held by the one goroutine of the stream that may wait for memory

	mu        sync.Mutex
	loans     int
	overdrawn int // of the loans
}

// Loan is some of a budget's memory, until it is given back.
type Loan struct {
	share     *Share
	n         int64
	overdrawn bool
}

type key struct{}

// With gives a context whose stream has that share, for all who decode something of it.
func With(ctx context.Context, s *Share) context.Context { return context.WithValue(ctx, key{}, s) }

// Of is the share of a context's stream, or else a new one of b.
func Of(ctx context.Context, b *Budget) *Share {
	if s, ok := ctx.Value(key{}).(*Share); ok {
		return s
	}
	return b.Share()
}

// Has reports whether a context's stream has a share.
func Has(ctx context.Context) bool { return ctx.Value(key{}) != nil }

// Take lends n bytes, or all there are where that is less, as soon as that may be. The error is the context's cause.
func (s *Share) Take(ctx context.Context, n int64) (*Loan, error) {
	s.taking.Lock()
	defer s.taking.Unlock()
	n = min(n, s.budget.size)
	switch {
	case s.holdsNothing():
		if s.budget.free.Acquire(ctx, n) != nil {
			return nil, context.Cause(ctx)
		}
	case !s.budget.free.TryAcquire(n):
		return s.overdraw(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loans++
	return &Loan{share: s, n: n}, nil
}

// Overdraw lends memory that is beyond the budget, to one share at a time.
func (s *Share) Overdraw(ctx context.Context) (*Loan, error) {
	s.taking.Lock()
	defer s.taking.Unlock()
	return s.overdraw(ctx)
}

func (s *Share) overdraw(ctx context.Context) (*Loan, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.overdrawn == 0 {
		s.mu.Unlock() // others of the stream may give back meanwhile
		select {
		case s.budget.overdraft <- struct{}{}:
			s.mu.Lock()
		case <-ctx.Done():
			s.mu.Lock()
			return nil, context.Cause(ctx)
		}
	}
	s.loans, s.overdrawn = s.loans+1, s.overdrawn+1
	return &Loan{share: s, overdrawn: true}, nil
}

func (s *Share) holdsNothing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loans == 0
}

// Return gives back what was borrowed, once; nil is no loan.
func (l *Loan) Return() {
	if l == nil || l.share == nil {
		return
	}
	s := l.share
	l.share = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loans--
	if !l.overdrawn {
		s.budget.free.Release(l.n)
	} else if s.overdrawn--; s.overdrawn == 0 {
		<-s.budget.overdraft
	}
}
