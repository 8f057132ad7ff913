package cache

import (
	"context"
	"errors"
	"fmt"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Has reports which paths exist in some cache, by name only: nothing is verified. Caches with WantMassQuery are asked
// first, the others only for what is left. A path that a cache could not say anything about counts as missing there.
func (s *Set) Has(ctx context.Context, paths []storepath.Path) (map[storepath.Path]bool, error) {
	has := make(map[storepath.Path]bool, len(paths))
	for _, p := range paths {
		has[p] = s.remembered(p)
	}
	for _, mass := range []bool{true, false} {
		for _, c := range s.usable() {
			if c.info.WantMassQuery == mass && c.down() == nil {
				c.hasAny(ctx, has)
			}
		}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("asking caches for %d paths: %w", len(paths), err)
	}
	return has, nil
}

// remembered reports whether a look-up of this run has found p.
func (s *Set) remembered(p storepath.Path) bool {
	s.mu.Lock()
	c := s.calls[p]
	s.mu.Unlock()
	if c == nil {
		return false
	}
	select {
	case <-c.done:
		return c.found != nil
	default:
		return false
	}
}

// hasAny asks one cache for all paths that are still missing, and marks those that it has.
func (c *substituter) hasAny(ctx context.Context, has map[storepath.Path]bool) {
	type result struct {
		path storepath.Path
		ok   bool
	}
	results, asked := make(chan result), 0
	for p, ok := range has {
		if ok {
			continue
		}
		asked++
		go func() {
			select {
			case c.slots <- struct{}{}:
				defer func() { <-c.slots }()
			case <-ctx.Done():
				results <- result{path: p}
				return
			}
			_, err := c.small(ctx, p.HashPart()+".narinfo", true, nil)
			if err != nil && !errors.Is(err, errAbsent) && ctx.Err() == nil {
				c.note("exists", fmt.Sprintf("asking whether %s exists: %v", p.Base(), err))
			}
			results <- result{path: p, ok: err == nil}
		}()
	}
	for range asked {
		if r := <-results; r.ok {
			has[r.path] = true
		}
	}
}
