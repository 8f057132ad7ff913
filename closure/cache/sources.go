package cache

import (
	"context"
	"sync"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

// sources are the places that one NAR may come from: where it was found, then every other cache that has the same.
type sources struct {
	set    *Set
	wanted *Found
	first  *Found // nil once it was taken

	mu     sync.Mutex
	tried  map[*substituter]bool
	ahead  *Found   // the next one, where it was looked for already
	slower []*Found // left for a quicker one
}

func (s *Set) sources(f *Found) *sources {
	sources := &sources{set: s, wanted: f, tried: map[*substituter]bool{f.cache: true}}
	switch {
	case f.cache == nil: // a Found that no look-up made
	case f.cache.down() == nil && !f.cache.setAside():
		sources.first = f
	default:
		sources.slower = append(sources.slower, f)
	}
	return sources
}

// next gives the next place to try, nil when there is none left. What was left for a quicker cache comes last, and is
// then the only one: patient says to take from it what it gives, however slowly.
func (s *sources) next(ctx context.Context) (f *Found, patient bool) {
	if f, s.first = s.first, nil; f != nil {
		return f, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f = s.look(ctx); f != nil {
		s.ahead = nil
		return f, false
	}
	if len(s.slower) > 0 {
		f, s.slower = s.slower[0], s.slower[1:]
		return f, true
	}
	s.set.awaitAll()
	f = s.look(ctx)
	s.ahead = nil
	return f, true
}

// another reports whether there is a cache besides the present one that has the NAR. One that does not answer in time
// does not count.
func (s *sources) another(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.set.options.Retry.Answer)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.look(ctx) != nil
}

// look asks the caches that were not asked yet until one has the NAR.
func (s *sources) look(ctx context.Context) *Found {
	for _, c := range s.set.usable() {
		if s.ahead != nil {
			break
		}
		if s.tried[c] {
			continue
		}
		other, err := s.set.ask(ctx, c, s.wanted.StorePath, nil)
		if ctx.Err() != nil {
			break
		}
		s.tried[c] = true
		if err == nil && sameNAR(s.wanted.NarInfo, other.NarInfo) {
			s.ahead = other
		}
	}
	return s.ahead
}

// leave puts a place last.
func (s *sources) leave(f *Found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slower = append(s.slower, f)
}

// sameNAR reports whether another cache's narinfo stands for the same bytes with the same references.
func sameNAR(a, b *narinfo.NarInfo) bool {
	return a.NarHash == b.NarHash && a.NarSize == b.NarSize && a.Fingerprint() == b.Fingerprint()
}
