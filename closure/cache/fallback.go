package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

// fallback reports whether another cache could serve a NAR instead; nil means that none can. It may take a while.
type fallback func(ctx context.Context) bool

func (f fallback) available(ctx context.Context) bool { return f != nil && f(ctx) }

// decide says what becomes of a request for a NAR that failed a number of times: nil, and it is made again, or the error
// that ends it. What takes too long is not made again where another cache has the NAR, and a first byte that is late is
// waited for once, as that is waited for longer.
func (f fallback) decide(ctx context.Context, failed int, err error) error {
	switch {
	case timedOut(err) && f.available(ctx):
		return &fallbackError{err}
	case failed >= attempts:
		return fmt.Errorf("%w (tried %d times)", err, failed)
	case errors.Is(err, errSlow):
		return err
	}
	return nil
}

// fallbackError is why a NAR is fetched from another cache. This one may be taken up again when that fails.
type fallbackError struct{ error }

func (e *fallbackError) Error() string { return e.error.Error() + "; another cache has it" }
func (e *fallbackError) Unwrap() error { return e.error }

// sources are the places that one NAR may come from: where it was found, then every other cache that has the same.
type sources struct {
	set    *Set
	wanted *Found
	first  *Found // nil once it was taken

	mu        sync.Mutex
	asked     map[*substituter]bool
	peeked    *Found   // the next one, where it was looked for already
	postponed []*Found // disabled, or left for another one
}

func (s *Set) sources(f *Found) *sources {
	sources := &sources{set: s, wanted: f, asked: map[*substituter]bool{f.cache: true}}
	switch {
	case f.cache == nil: // a Found that no look-up made
	case f.cache.disabled() == nil:
		sources.first = f
	default:
		sources.postponed = append(sources.postponed, f)
	}
	return sources
}

// next gives the next place to try, nil when there is none left, and what to ask whether there is another one. What was
// left for another one comes last, and is then the only one.
func (s *sources) next(ctx context.Context) (*Found, fallback) {
	if f := s.first; f != nil {
		s.first = nil
		return f, s.another
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.peek(ctx); f != nil {
		s.peeked = nil
		return f, s.another
	}
	if len(s.postponed) > 0 {
		f := s.postponed[0]
		s.postponed = s.postponed[1:]
		return f, nil
	}
	s.set.awaitProbes()
	f := s.peek(ctx)
	s.peeked = nil
	return f, nil
}

// another reports whether there is a cache besides the present one that has the NAR. One that does not answer in time
// does not count.
func (s *sources) another(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.set.options.Policy.Timeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peek(ctx) != nil
}

// peek asks the caches that were not asked yet until one has the NAR.
func (s *sources) peek(ctx context.Context) *Found {
	for _, c := range s.set.ready() {
		if s.peeked != nil {
			break
		}
		if s.asked[c] {
			continue
		}
		other, err := s.set.ask(ctx, ctx, c, s.wanted.StorePath)
		if ctx.Err() != nil {
			break
		}
		s.asked[c] = true
		if err == nil && sameNAR(s.wanted.NarInfo, other.NarInfo) {
			s.peeked = other
		}
	}
	return s.peeked
}

// postpone puts a place last.
func (s *sources) postpone(f *Found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.postponed = append(s.postponed, f)
}

// sameNAR reports whether another cache's narinfo stands for the same bytes with the same references.
func sameNAR(a, b *narinfo.NarInfo) bool {
	return a.NarHash == b.NarHash && a.NarSize == b.NarSize && a.Fingerprint() == b.Fingerprint()
}
