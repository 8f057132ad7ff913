package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache/decompress"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// call is one look-up, shared by everybody who wants the same path.
type call struct {
	done  chan struct{}
	found *Found
	err   error
}

// Lookup gives the narinfo of p from the best cache that has a valid and trusted one. All caches are asked at the
// same time; a better one is only waited for within the policy's patience. Answers are remembered for the run. When
// no cache has it the error is a *NotFoundError.
func (s *Set) Lookup(ctx context.Context, p storepath.Path) (*Found, error) {
	c := s.call(p)
	select {
	case <-c.done:
		return c.found, c.err
	case <-ctx.Done():
		return nil, fmt.Errorf("looking up %s: %w", p, context.Cause(ctx))
	}
}

func (s *Set) call(p storepath.Path) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[p]; c != nil {
		return c
	}
	c := &call{done: make(chan struct{})}
	s.calls[p] = c
	go func() {
		c.found, c.err = s.lookup(p)
		if c.err != nil {
			s.mu.Lock()
			delete(s.calls, p)
			s.mu.Unlock()
		}
		close(c.done)
	}()
	return c
}

// reply is what one cache said.
type reply struct {
	index int
	found *Found
	err   error
}

// lookup asks all caches and settles on the best. Those that are set aside, those that could not serve the path's NAR
// and those that had not answered when the set was opened count only where no other has the path.
func (s *Set) lookup(p storepath.Path) (*Found, error) {
	refusals := map[*substituter]error{}
	prompt := slices.DeleteFunc(slices.Clone(s.usable()), func(c *substituter) bool {
		return c.setAside() || s.isSpoilt(offer{c, p})
	})
	if found := s.consult(p, prompt, refusals); found != nil {
		return found, nil
	}
	s.awaitAll()
	rest := slices.DeleteFunc(slices.Clone(s.usable()), func(c *substituter) bool { return slices.Contains(prompt, c) })
	if found := s.consult(p, rest, refusals); found != nil {
		return found, nil
	}
	return nil, s.notFound(p, refusals)
}

// consult asks some of the caches; refusals gets what each one said where none has the path.
func (s *Set) consult(p storepath.Path, caches []*substituter, refusals map[*substituter]error) *Found {
	settled := make(chan struct{})
	defer close(settled)
	replies := make(chan reply, len(caches))
	for i, c := range caches {
		go func() {
			found, err := s.ask(s.background, c, p, settled)
			replies <- reply{index: i, found: found, err: err}
		}()
	}
	round := &round{caches: caches, replies: make([]*reply, len(caches))}
	var patience <-chan time.Time
	for range caches {
		select {
		case r := <-replies:
			round.replies[r.index] = &r
			refusals[caches[r.index]] = r.err
			if r.found != nil && patience == nil {
				timer := time.NewTimer(s.options.Retry.Patience)
				defer timer.Stop()
				patience = timer.C
			}
		case <-patience:
			return round.impatient()
		}
		if best := round.settled(); best != nil {
			return best
		}
	}
	return nil
}

// round is the state of one look-up.
type round struct {
	caches  []*substituter
	replies []*reply
}

// settled is the best answer, once no better one can come from a cache worth waiting for.
func (r *round) settled() *Found {
	var best *Found
	waiting := false
	for i, c := range r.caches {
		if r.replies[i] == nil {
			waiting = waiting || !c.slow()
			continue
		}
		if found := r.replies[i].found; found != nil {
			best = found
			break
		}
	}
	if best == nil || waiting {
		return nil
	}
	r.countLate()
	return best
}

// impatient is the best answer so far; the better caches that are still silent are counted as late.
func (r *round) impatient() *Found {
	r.countLate()
	for _, reply := range r.replies {
		if reply != nil && reply.found != nil {
			return reply.found
		}
	}
	return nil
}

// countLate tells caches better than the first answer whether they kept others waiting.
func (r *round) countLate() {
	for i, c := range r.caches {
		if r.replies[i] == nil {
			c.keptWaiting(true)
			continue
		}
		c.keptWaiting(false)
		if r.replies[i].found != nil {
			return
		}
	}
}

func (s *Set) notFound(p storepath.Path, refusals map[*substituter]error) error {
	e := &NotFoundError{Path: p}
	for _, c := range s.usable() {
		if err := refusals[c]; err != nil {
			e.Asked = append(e.Asked, c.answerFor(err))
			e.errs = append(e.errs, err)
		}
	}
	e.Asked = append(e.Asked, s.refusals()...)
	return e
}

// ask gets one cache's narinfo and decides whether it may be used. moot ends waiting for a turn or a retry.
func (s *Set) ask(ctx context.Context, c *substituter, p storepath.Path, moot <-chan struct{}) (*Found, error) {
	if err := c.down(); err != nil {
		return nil, &downError{err}
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-moot:
		return nil, errGivenUp
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	page, err := c.small(ctx, p.HashPart()+".narinfo", moot)
	var found *Found
	if err == nil {
		found, err = s.judge(c, p, page)
	}
	c.weigh(p, err)
	if err != nil {
		return nil, err
	}
	c.narinfos.Add(1)
	return found, nil
}

// weigh notes what is wrong with an answer. Failures of the connection are counted where they happen.
func (c *substituter) weigh(p storepath.Path, err error) {
	var (
		invalid     *invalidError
		status      *StatusError
		untrusted   *untrustedError
		compression *CompressionError
	)
	switch {
	case err == nil, errors.Is(err, errAbsent):
		c.answered(nil)
	case errors.As(err, &invalid), errors.As(err, &status) && status.login():
		c.noteFor(p, err)
		c.answered(err)
	case errors.As(err, &untrusted), errors.As(err, &compression):
		c.noteFor(p, err)
		c.answered(nil)
	}
}

// judge turns a file into a Found, or says what is wrong with it.
func (s *Set) judge(c *substituter, p storepath.Path, page *page) (*Found, error) {
	info, err := narinfo.Parse(bytes.NewReader(page.data), storepath.Dir)
	if err != nil {
		if page.html || strings.HasPrefix(strings.TrimSpace(string(page.data[:min(64, len(page.data))])), "<") {
			err = fmt.Errorf("the answer is an HTML page, not a narinfo (a login page?): %w", err)
		}
		return nil, &invalidError{fmt.Errorf("narinfo: %w", err)}
	}
	if info.StorePath != p {
		return nil, &invalidError{fmt.Errorf("narinfo field StorePath: it is for %s, asked for was %s", info.StorePath, p)}
	}
	if _, err := c.address.resolve(info.URL); err != nil {
		return nil, &invalidError{fmt.Errorf("narinfo field URL: %w", err)}
	}
	if !decompress.Known(info.Compression) {
		return nil, &CompressionError{Cache: c.String(), Path: p, Compression: clip(info.Compression),
			Err: &decompress.UnknownError{Name: clip(info.Compression)}}
	}
	found := &Found{NarInfo: info, CacheURL: c.String(), cache: c}
	err = s.vouch(found)
	return found, err
}

// vouch notes the trusted key that signed the narinfo, or that the NAR has to prove the path by its content address:
// the address follows from the path, but only the contents follow from the address.
func (s *Set) vouch(found *Found) error {
	info := found.NarInfo
	name, err := s.options.Keys.Verify(info)
	if err == nil {
		found.KeyName = name
		return nil
	}
	if ok, caErr := info.VerifyCA(); ok && caErr == nil {
		found.provesItself = true
		return nil
	}
	if !s.options.RequireSigs {
		return nil
	}
	u := &untrustedError{trusted: s.options.Keys, cause: err}
	for _, sig := range info.Sigs {
		u.keys = append(u.keys, shownName(sig.Name))
	}
	return u
}
