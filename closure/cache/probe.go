package cache

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// probe opens every cache. Once one can be used the others have a while to answer too; those that take longer, as
// one that says Retry-After, join when they have.
func (s *Set) probe(ctx context.Context, caches []*substituter) error {
	s.probing = slices.Clone(caches)
	probed := make(chan struct{}, len(caches))
	for _, c := range caches {
		go func() {
			s.admit(c, c.open(s.background))
			probed <- struct{}{}
		}()
	}
	var enough <-chan time.Time
	for range caches {
		select {
		case <-probed:
		case <-enough:
			for _, c := range s.beingProbed() {
				c.note("probing", "no answer yet; it is used as soon as there is one")
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("opening binary caches: %w", context.Cause(ctx))
		}
		if enough == nil && len(s.ready()) > 0 {
			enough = time.After(s.options.Policy.Patience)
		}
	}
	if len(s.ready()) == 0 {
		return &OpenError{Asked: s.whyUnusable()}
	}
	return nil
}

// admit takes a cache in, among the others by priority and those of equal priority in the user's order, or leaves it out
// for err.
func (s *Set) admit(c *substituter, err error) {
	defer close(c.probed)
	if s.background.Err() != nil {
		return
	}
	if err != nil && len(s.reports) > 1 { // of the only one, Open's error says it
		c.note("unusable", "not used: "+err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probing = slices.DeleteFunc(slices.Clone(s.probing), func(other *substituter) bool { return other == c })
	if err != nil {
		c.setUnusable(err)
		s.unusable = append(s.unusable, c)
		return
	}
	s.caches = append(slices.Clone(s.caches), c)
	slices.SortFunc(s.caches, func(a, b *substituter) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.index, b.index))
	})
}

// ready gives the caches that can be used, best first.
func (s *Set) ready() []*substituter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.caches
}

// beingProbed gives the caches that have not answered yet.
func (s *Set) beingProbed() []*substituter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probing
}

// awaitProbes waits for the caches that have not answered yet.
func (s *Set) awaitProbes() {
	for _, c := range s.beingProbed() {
		select {
		case <-c.probed:
		case <-s.background.Done():
			return
		}
	}
}

// whyUnusable says why caches cannot be used, in the user's order.
func (s *Set) whyUnusable() []Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.unusable, func(a, b *substituter) int { return cmp.Compare(a.index, b.index) })
	var answers []Answer
	for _, c := range s.unusable {
		answers = append(answers, c.answerFor(c.unusable))
	}
	return answers
}

// open reads nix-cache-info.
func (c *substituter) open(ctx context.Context) error {
	p, err := c.getFile(ctx, ctx, infoName)
	var status *StatusError
	if errors.As(err, &status) && (status.Code == http.StatusNoContent || status.Code == http.StatusNotModified) {
		p, err = &page{}, nil // as good as an empty one
	}
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
			infoName, text.Short(info.StoreDir), storepath.Dir)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.priority = info.Priority
	if c.address.priority != nil {
		c.priority = *c.address.priority
	}
	return nil
}
