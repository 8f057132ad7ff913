package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// lookup asks all caches and settles on the best.
func (s *Set) lookup(p storepath.Path) (*Found, error) {
	settled := make(chan struct{})
	defer close(settled)
	replies := make(chan reply, len(s.caches))
	for i, c := range s.caches {
		go func() {
			found, err := s.ask(s.background, c, p, settled)
			replies <- reply{index: i, found: found, err: err}
		}()
	}
	round := &round{caches: s.caches, replies: make([]*reply, len(s.caches))}
	var patience <-chan time.Time
	for range s.caches {
		select {
		case r := <-replies:
			round.replies[r.index] = &r
			if r.found != nil && patience == nil {
				timer := time.NewTimer(s.options.Retry.Patience)
				defer timer.Stop()
				patience = timer.C
			}
		case <-patience:
			return round.impatient(), nil
		}
		if best := round.settled(); best != nil {
			return best, nil
		}
	}
	return nil, s.notFound(p, round)
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

func (s *Set) notFound(p storepath.Path, r *round) error {
	e := &NotFoundError{Path: p}
	for i, c := range r.caches {
		e.Asked = append(e.Asked, c.answerFor(r.replies[i].err))
		e.errs = append(e.errs, r.replies[i].err)
	}
	e.Asked = append(e.Asked, s.refused...)
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
	page, err := c.small(ctx, p.HashPart()+".narinfo", false, moot)
	if err != nil {
		return nil, err
	}
	found, err := s.judge(c, p, page)
	if err != nil {
		c.noteFor(p, err)
		return nil, err
	}
	c.narinfos.Add(1)
	return found, nil
}

// noteFor notes an unusable answer; what holds for all paths of a key alike is said once, not per path.
func (c *substituter) noteFor(p storepath.Path, err error) {
	if u := (*untrustedError)(nil); errors.As(err, &u) && !u.altered() {
		c.note(err.Error())
		return
	}
	c.note(fmt.Sprintf("%s: %v", p.Base(), err))
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
	if !s.options.RequireSigs {
		return nil
	}
	if ok, caErr := info.VerifyCA(); ok && caErr == nil {
		found.provesItself = true
		return nil
	}
	u := &untrustedError{cause: err}
	for _, sig := range info.Sigs {
		u.keys = append(u.keys, clip(sig.Name))
	}
	for _, key := range s.options.Keys {
		u.trusted = append(u.trusted, key.String())
		u.trustedNames = append(u.trustedNames, key.Name)
	}
	return u
}

// Has reports which paths exist in some cache, by name only: nothing is verified. Caches with WantMassQuery are asked
// first, the others only for what is left. A path that a cache could not say anything about counts as missing there.
func (s *Set) Has(ctx context.Context, paths []storepath.Path) (map[storepath.Path]bool, error) {
	has := make(map[storepath.Path]bool, len(paths))
	for _, p := range paths {
		has[p] = s.remembered(p)
	}
	for _, mass := range []bool{true, false} {
		for _, c := range s.caches {
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
				c.note(fmt.Sprintf("asking whether %s exists: %v", p.Base(), err))
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
