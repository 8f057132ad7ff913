package cache

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// greet opens every cache. Once one can be used the others have a while to answer too; those that take longer, as
// one that says Retry-After, join when they have.
func (s *Set) greet(ctx context.Context, caches []*substituter) error {
	s.late = slices.Clone(caches)
	greeted := make(chan struct{}, len(caches))
	for _, c := range caches {
		go func() {
			s.welcome(c, c.open(s.background))
			greeted <- struct{}{}
		}()
	}
	var enough <-chan time.Time
	for range caches {
		select {
		case <-greeted:
		case <-enough:
			for _, c := range s.latecomers() {
				c.note("late", "no answer yet; it is used as soon as there is one")
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("opening binary caches: %w", context.Cause(ctx))
		}
		if enough == nil && len(s.usable()) > 0 {
			timer := time.NewTimer(s.options.Retry.Greeting)
			defer timer.Stop()
			enough = timer.C
		}
	}
	if len(s.usable()) == 0 {
		return &OpenError{Asked: s.refusals()}
	}
	return nil
}

// welcome takes a cache in, among the others by priority and those of equal priority in the user's order, or refuses
// it for err.
func (s *Set) welcome(c *substituter, err error) {
	defer close(c.greeted)
	if s.background.Err() != nil {
		return
	}
	if err != nil {
		c.leaveAlone(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = slices.DeleteFunc(slices.Clone(s.late), func(other *substituter) bool { return other == c })
	if err != nil {
		s.refused = append(s.refused, c)
		return
	}
	s.caches = append(slices.Clone(s.caches), c)
	slices.SortFunc(s.caches, func(a, b *substituter) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.index, b.index))
	})
}

// usable gives the caches that can be used, best first.
func (s *Set) usable() []*substituter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.caches
}

// latecomers gives the caches that have not answered yet.
func (s *Set) latecomers() []*substituter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late
}

// awaitAll waits for the caches that have not answered yet.
func (s *Set) awaitAll() {
	for _, c := range s.latecomers() {
		select {
		case <-c.greeted:
		case <-s.background.Done():
			return
		}
	}
}

// refusals says why caches cannot be used, in the user's order.
func (s *Set) refusals() []Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.refused, func(a, b *substituter) int { return cmp.Compare(a.index, b.index) })
	var answers []Answer
	for _, c := range s.refused {
		answers = append(answers, c.answerFor(c.down()))
	}
	return answers
}

// open reads nix-cache-info.
func (c *substituter) open(ctx context.Context) error {
	p, err := c.small(ctx, infoName, nil)
	if errors.Is(err, errAbsent) {
		return &invalidError{fmt.Errorf("it does not appear to be a binary cache: %s is %w", infoName, err)}
	}
	if err != nil {
		return err
	}
	info, err := ParseInfo(bytes.NewReader(p.data))
	if err != nil {
		return &invalidError{err}
	}
	if info.StoreDir != storepath.Dir {
		return &invalidError{fmt.Errorf("%s field StoreDir: its paths live in %q, these here in %q",
			infoName, clip(info.StoreDir), storepath.Dir)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.info, c.priority = info, info.Priority
	if c.address.priority != nil {
		c.priority = *c.address.priority
	}
	return nil
}
