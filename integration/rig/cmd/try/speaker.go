package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// silence is how long nothing is said before somebody who watches is told that the work goes on.
const silence = 8 * time.Second

// speaker passes on what is said, and says itself that the work goes on where nothing else is said for a while.
type speaker struct {
	mu    sync.Mutex
	out   io.Writer
	since time.Time // when something was last said that was not this
	last  time.Time
	done  chan struct{}
}

func newSpeaker(out io.Writer) *speaker {
	s := &speaker{out: out, since: time.Now(), last: time.Now(), done: make(chan struct{})}
	go func() {
		for {
			select {
			case <-s.done:
				return
			case <-time.After(time.Second):
				s.goesOn()
			}
		}
	}()
	return s
}

// Write says something.
func (s *speaker) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since, s.last = time.Now(), time.Now()
	return s.out.Write(p)
}

func (s *speaker) goesOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.last) >= silence {
		s.last = time.Now()
		fmt.Fprintf(s.out, "    ... still at it, after %d s\n", int(time.Since(s.since).Seconds()))
	}
}

// end is called when nothing more will be said.
func (s *speaker) end() { close(s.done) }
