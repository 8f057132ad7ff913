package cache

import (
	"context"
	"sync"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
)

// limiter has requests to one cache begin further apart while it refuses some (429 Too Many Requests, 503 Service
// Unavailable). A refusal begins a pause, after which the gap between two requests is twice as long; each answer takes a little
// of the gap away, so that it comes to be about as long as the cache wants it. Refusals are no failure of a request but of the
// cache, once nothing has come from it in as many pauses as a request has attempts.
type limiter struct {
	policy Policy

	mu       sync.Mutex
	gap      time.Duration // between two requests
	paused   time.Time     // when the last pause began
	resume   time.Time     // when the next request may begin
	refusals int           // pauses since something last came
}

// start waits until a request may begin, or ctx ends. It gives the time, which finish wants.
func (l *limiter) start(ctx context.Context) (time.Time, error) {
	for {
		now := time.Now()
		pause := l.admit(now)
		if pause <= 0 {
			return now, nil
		}
		if err := retry.Sleep(ctx, pause); err != nil {
			return time.Time{}, err
		}
	}
}

// admit lets a request in, or says after what time to ask again.
func (l *limiter) admit(now time.Time) (pause time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pause = l.resume.Sub(now); pause <= 0 {
		l.resume = now.Add(l.gap)
	}
	return pause
}

// finish notes how a request ended that began at a time: with which error, if any.
func (l *limiter) finish(began time.Time, err error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if isRefusal(err) {
		l.refused(began, now, err)
	} else if err == nil || isAnswer(err) {
		l.gap -= l.gap / gapPart
		l.refusals = 0
	}
}

// refused begins a pause. What began before it, and is refused too, only makes it longer.
func (l *limiter) refused(began, now time.Time, err error) {
	if began.After(l.paused) {
		l.paused = now
		l.refusals++
		l.gap = min(max(2*l.gap, l.policy.Backoff/gapPart), l.policy.Backoff)
	}
	if until := now.Add(pause(l.policy, max(l.refusals, 1), err)); until.After(l.resume) {
		l.resume = until
	}
}

// alive notes that the cache sends something.
func (l *limiter) alive() {
	l.mu.Lock()
	l.refusals = 0
	l.mu.Unlock()
}

// refusesAll reports whether the cache has refused everything for so long that it is given up.
func (l *limiter) refusesAll() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusals >= attempts
}

// pause is for how long no request may begin.
func (l *limiter) pause() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.resume)
}
