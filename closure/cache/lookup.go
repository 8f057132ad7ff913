package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// pending is one look-up, shared by everybody who wants the same path.
type pending struct {
	done  chan struct{}
	found *Found
	err   error
}

// Lookup gives the narinfo of p from the best cache that has a valid and trusted one. All caches are asked at the
// same time; a better one is only waited for within the policy's patience. Answers are remembered for the run. When
// no cache has it the error is a *NotFoundError.
func (s *Set) Lookup(ctx context.Context, p storepath.Path) (*Found, error) {
	l := s.pending(p)
	select {
	case <-l.done:
		return l.found, l.err
	case <-ctx.Done():
		return nil, fmt.Errorf("looking up %s: %w", p, context.Cause(ctx))
	}
}

// pending is the look-up of a path, begun where nobody has. One that failed is forgotten.
func (s *Set) pending(p storepath.Path) *pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lookups[p]; l != nil {
		return l
	}
	l := &pending{done: make(chan struct{})}
	s.lookups[p] = l
	go func() {
		l.found, l.err = s.lookup(p)
		if l.err != nil {
			s.mu.Lock()
			delete(s.lookups, p)
			s.mu.Unlock()
		}
		close(l.done)
	}()
	return l
}

// reply is what one cache said.
type reply struct {
	index int
	found *Found
	err   error
}

// lookup asks all caches and takes the best. Those that are disabled, those that could not serve the path's NAR
// and those that had not answered when the set was opened count only where no other has the path.
func (s *Set) lookup(p storepath.Path) (*Found, error) {
	failures := map[*substituter]error{}
	first := slices.DeleteFunc(slices.Clone(s.ready()), func(c *substituter) bool {
		return c.disabled() != nil || s.hasFailed(offer{c, p})
	})
	if found := s.askAll(p, first, failures); found != nil {
		return found, nil
	}
	s.awaitProbes()
	rest := slices.DeleteFunc(slices.Clone(s.ready()), func(c *substituter) bool {
		var unasked *disabledError
		return slices.Contains(first, c) && !errors.As(failures[c], &unasked)
	})
	if found := s.askAll(p, rest, failures); found != nil {
		return found, nil
	}
	return nil, s.notFound(p, failures)
}

// askAll asks some of the caches at the same time; failures gets what each one said where none has the path.
func (s *Set) askAll(p storepath.Path, caches []*substituter, failures map[*substituter]error) *Found {
	wanted, decided := context.WithCancelCause(s.background)
	defer decided(errUnwanted)
	came := make(chan reply, len(caches))
	for i, c := range caches {
		go func() {
			found, err := s.ask(s.background, wanted, c, p)
			came <- reply{index: i, found: found, err: err}
		}()
	}
	replies := &replies{caches: caches, of: make([]*reply, len(caches))}
	var patience <-chan time.Time
	for range caches {
		select {
		case r := <-came:
			replies.of[r.index] = &r
			failures[caches[r.index]] = r.err
			if r.found != nil && patience == nil {
				patience = time.After(s.options.Policy.Patience)
			}
		case <-patience:
			found, silent := replies.bestSoFar()
			for _, c := range silent { // so that the next look-ups do not wait for them
				c.disable(fmt.Errorf("%w by %v", errLate, s.options.Policy.Patience))
			}
			return found
		}
		if best := replies.best(); best != nil {
			return best
		}
	}
	return nil
}

// replies are those of some caches to one look-up, nil of one that is silent yet.
type replies struct {
	caches []*substituter
	of     []*reply
}

// best is the answer of the best cache that has the path, once those before it have said that they do not.
func (r *replies) best() *Found {
	for _, reply := range r.of {
		if reply == nil {
			return nil
		}
		if reply.found != nil {
			return reply.found
		}
	}
	return nil
}

// bestSoFar is the best answer of those that came, and the better caches that are silent yet.
func (r *replies) bestSoFar() (found *Found, silent []*substituter) {
	for i, reply := range r.of {
		switch {
		case reply == nil:
			silent = append(silent, r.caches[i])
		case reply.found != nil:
			return reply.found, silent
		}
	}
	return nil, silent
}

func (s *Set) notFound(p storepath.Path, failures map[*substituter]error) error {
	e := &NotFoundError{Path: p}
	for _, c := range s.ready() {
		if err := failures[c]; err != nil {
			e.Asked = append(e.Asked, c.answerFor(err))
			e.errs = append(e.errs, err)
		}
	}
	e.Asked = append(e.Asked, s.whyUnusable()...)
	return e
}

// ask gets one cache's narinfo and decides whether it may be used. wanted is getFile's.
func (s *Set) ask(ctx, wanted context.Context, c *substituter, p storepath.Path) (*Found, error) {
	page, err := c.getFile(ctx, wanted, p.HashPart()+".narinfo")
	if err != nil {
		var status *StatusError
		if errors.As(err, &status) && status.login() {
			c.disableFor(p, err)
		}
		return nil, err
	}
	found, err := s.validate(c, p, page)
	var invalid *invalidError
	switch {
	case errors.As(err, &invalid):
		c.disableFor(p, err)
	case err != nil:
		c.noteFor(p, err)
	default:
		c.narinfos.Add(1)
		return found, nil
	}
	return nil, err
}

var errLate = errors.New("another one has a path and is quicker")

// validate turns a file into a Found, or says what is wrong with it.
func (s *Set) validate(c *substituter, p storepath.Path, page *page) (*Found, error) {
	info, err := narinfo.Parse(bytes.NewReader(page.data), storepath.Dir)
	if err != nil {
		if page.html && !strings.HasPrefix(strings.TrimSpace(string(page.data[:min(64, len(page.data))])), "<") { // else err says so
			err = fmt.Errorf("the answer is an HTML page, not a narinfo: %w", err)
		}
		return nil, &invalidError{err}
	}
	if info.StorePath != p {
		return nil, &invalidError{fmt.Errorf("narinfo field StorePath: it is for %s, not for %s", info.StorePath, p)}
	}
	if _, err := c.address.resolve(info.URL); err != nil {
		return nil, &invalidError{fmt.Errorf("narinfo field URL: %w", err)}
	}
	if !decompress.Known(info.Compression) {
		return nil, &CompressionError{Cache: c.String(), Path: p, Compression: text.Short(info.Compression),
			Err: &decompress.UnknownError{Name: text.Short(info.Compression)}}
	}
	found := &Found{NarInfo: info, CacheURL: c.String(), cache: c}
	err = s.checkSignature(found)
	return found, err
}

// maxUntrusted is how many signatures are kept that nobody asked for, to be named.
const maxUntrusted = 4

// checkSignature notes a trusted key's signature of the narinfo, or that the NAR has to prove the path by its content
// address: the address follows from the path, but only the contents follow from the address, so nothing proves their size
// until they have come.
func (s *Set) checkSignature(found *Found) error {
	info := found.NarInfo
	signature, err := s.options.Keys.Verify(info)
	if err == nil {
		found.Signature, info.Sigs = signature, []narinfo.Signature{signature}
		return nil
	}
	u := &untrustedError{trusted: s.options.Keys, cause: err}
	if ok, caErr := info.VerifyCA(); ok && caErr == nil || !s.options.RequireSigs {
		if found.provesItself = ok && caErr == nil; info.NarSize <= s.options.maxUnsignedSize {
			info.Sigs = slices.Clone(info.Sigs[:min(len(info.Sigs), maxUntrusted)])
			return nil
		}
		u.size, u.limit = info.NarSize, s.options.maxUnsignedSize
	}
	for _, sig := range info.Sigs {
		u.keys = append(u.keys, shownName(sig.Name))
	}
	return u
}
