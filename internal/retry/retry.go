// Package retry says when a server is asked again that gave no answer, or wanted a pause.
package retry

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxPause is the longest pause between two attempts, in times of the first.
	maxPause = 40
	// longest is what a larger number of seconds in Retry-After counts as.
	longest = 24 * time.Hour
)

// Pause is the wait after the n-th attempt that failed: first after one, twice as long after each more, up to 40 times that.
// Up to half of it is left to chance, so that clients that failed together do not come back together.
func Pause(first time.Duration, n int) time.Duration {
	d := maxPause * first
	if doubled := n - 1; doubled < 20 {
		d = min(first<<doubled, d)
	}
	return d - time.Duration(float64(d)/2*rand.Float64())
}

// After is the wait that the header Retry-After of an answer asks for, in seconds or until a date (RFC 9110, section
// 10.2.3). It is 0 where there is none, and for one that is over or cannot be read.
func After(header http.Header) time.Duration {
	text := header.Get("Retry-After")
	if when, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(when))
	}
	seconds, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return time.Duration(min(max(seconds, 0), int(longest/time.Second))) * time.Second
}

// Sleep waits, unless ctx ends before: then the error is its cause.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
