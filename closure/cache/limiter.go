package cache

import (
	"context"
	"math"
	"sync"
	"time"
)

const (
	// firstGap is the time between two requests after the first refusal, maxGap the longest.
	firstGap, maxGap = 4 * time.Millisecond, time.Second
	// shrink is the part of the gap that an answer takes from it.
	shrink = 32
)

// limiter bounds the unanswered requests to one cache. A cache that refuses one (429 Too Many Requests, 503 Service
// Unavailable) is given a pause, half as many requests may be unanswered, and the gap between two doubles; each answer
// lets in a little more again: additive increase, multiplicative decrease, as TCP has it (RFC 5681, section 3.1).
type limiter struct {
	policy Policy

	mu         sync.Mutex
	allowed    float64       // requests that may be unanswered
	unanswered int           // how many are
	less       chan struct{} // closed when they become fewer
	gap        time.Duration // between two requests
	paused     time.Time     // when the last pause began
	resume     time.Time     // when the next request may begin
	answered   time.Time     // when something last came
}

func newLimiter(p Policy) *limiter {
	return &limiter{policy: p, allowed: math.Inf(1), less: make(chan struct{})}
}

// start waits until a request may begin, or ctx ends. It gives the time, which finish wants.
func (l *limiter) start(ctx context.Context) (time.Time, error) {
	for {
		now := time.Now()
		pause, less := l.admit(now)
		if less == nil {
			return now, nil
		}
		timer := time.NewTimer(pause)
		var err error
		select {
		case <-timer.C:
		case <-less:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		timer.Stop()
		if err != nil {
			return time.Time{}, err
		}
	}
}

// admit lets a request in, or says after what time, or what channel's end, to ask again.
func (l *limiter) admit(now time.Time) (pause time.Duration, less <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch left := l.resume.Sub(now); {
	case left > 0:
		return left, l.less
	case float64(l.unanswered+1) > l.allowed:
		return time.Hour, l.less
	}
	l.unanswered++
	l.resume = now.Add(l.gap)
	return 0, nil
}

// finish ends a request that began at a time, with its error, if any: the n-th attempt, of which each is waited for longer.
func (l *limiter) finish(began time.Time, n int, err error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if isRefusal(err) {
		l.refused(began, now, n, err)
	} else if err == nil || isAnswer(err) {
		l.allowed += 1 / l.allowed
		l.gap -= l.gap / shrink
		l.answered = now
	}
	l.unanswered--
	close(l.less)
	l.less = make(chan struct{})
}

// refused begins a pause. What began before it, and is refused too, only makes it longer where the server says so.
func (l *limiter) refused(began, now time.Time, n int, err error) {
	first := began.After(l.paused)
	if first {
		l.paused = now
		l.allowed = max(1, float64(l.unanswered)/2)
		l.gap = min(max(2*l.gap, firstGap), maxGap)
	}
	if until := now.Add(l.policy.pause(n, err)); until.After(l.resume) && (first || retryAfterOf(err) > 0) {
		l.resume = until
	}
}

// alive notes that the cache sends something.
func (l *limiter) alive() {
	l.mu.Lock()
	l.answered = time.Now()
	l.mu.Unlock()
}

// aliveSince reports whether the cache has sent something since then.
func (l *limiter) aliveSince(then time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answered.After(then)
}

// pause is for how long no request may begin.
func (l *limiter) pause() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.resume)
}
