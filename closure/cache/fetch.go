package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

// Fetch gives unpack the NAR of f: decompressed, verified while it streams, never beyond NarSize bytes. The reader
// returns io.EOF only after FileHash, FileSize, NarHash and NarSize were right, else a *VerifyError.
//
// Broken transfers continue where they broke off. When that does not help, or what came was wrong, unpack is called
// again from the start, after it returned, with the stream of the next cache that has the same NAR; so unpack must
// discard what it wrote whenever it returns an error. An error of unpack's own, on a NAR that is as signed, is
// returned as it is. What unpack leaves unread is still verified.
func (s *Set) Fetch(ctx context.Context, f *Found, unpack func(r io.Reader) error) error {
	select {
	case s.fetches <- struct{}{}:
		defer func() { <-s.fetches }()
	case <-ctx.Done():
		return fmt.Errorf("fetching %s: %w", f.StorePath, context.Cause(ctx))
	}
	failure := &FetchError{Path: f.StorePath}
	for _, source := range s.sources(ctx, f) {
		found, err := source()
		if err == nil && found != nil {
			err = s.fetchFrom(ctx, found, unpack)
			if err == nil {
				return nil
			}
			if own := (*unpackError)(nil); errors.As(err, &own) {
				return own.error
			}
			if ctx.Err() != nil {
				return fmt.Errorf("fetching %s: %w", f.StorePath, context.Cause(ctx))
			}
			found.cache.noteFor(f.StorePath, err)
			found.cache.served(err)
			failure.add(found.cache, err)
		}
	}
	if len(failure.errs) == 0 {
		return fmt.Errorf("fetching %s: no cache offers it any more", f.StorePath)
	}
	return failure
}

func (e *FetchError) add(c *substituter, err error) {
	e.Tried = append(e.Tried, c.answerFor(err))
	e.errs = append(e.errs, err)
}

// sources are the places to try in turn: where f was found, then every other cache that has the very same NAR.
func (s *Set) sources(ctx context.Context, f *Found) []func() (*Found, error) {
	var list, last []func() (*Found, error)
	here := func() (*Found, error) { return f, nil }
	switch {
	case f.cache == nil: // a Found that no look-up made
	case f.cache.down() == nil && !f.cache.setAside():
		list = append(list, here)
	default:
		last = append(last, here)
	}
	for _, c := range s.usable() {
		if c == f.cache {
			continue
		}
		list = append(list, func() (*Found, error) {
			other, err := s.ask(ctx, c, f.StorePath, nil)
			if err != nil || !sameNAR(f.NarInfo, other.NarInfo) {
				return nil, err
			}
			return other, nil
		})
	}
	return append(list, last...)
}

// sameNAR reports whether another cache's narinfo stands for the same bytes with the same references.
func sameNAR(a, b *narinfo.NarInfo) bool {
	return a.NarHash == b.NarHash && a.NarSize == b.NarSize && a.Fingerprint() == b.Fingerprint()
}

// unpackError marks an error as the unpacker's own.
type unpackError struct{ error }

// fetchFrom streams from one cache. A transfer whose decoding cannot be continued is begun again a few times.
func (s *Set) fetchFrom(ctx context.Context, f *Found, unpack func(r io.Reader) error) error {
	policy := s.options.Retry
	for n := 1; ; n++ {
		err := s.stream(ctx, f, unpack)
		var again *restartError
		if !errors.As(err, &again) || n >= policy.Attempts || ctx.Err() != nil {
			return err
		}
		if wait(ctx, policy.delay(n, again.error), f.cache.downed, nil) != nil {
			return err
		}
	}
}

// restartError is a broken transfer that only works from its first byte.
type restartError struct{ error }

func (e *restartError) Unwrap() error { return e.error }

// stream is one call of unpack.
func (s *Set) stream(ctx context.Context, f *Found, unpack func(r io.Reader) error) error {
	n, err := s.openNAR(ctx, f)
	if err != nil {
		return err
	}
	defer n.close()
	err = unpack(n)
	if n.err != nil && n.err != io.EOF {
		return n.err // the stream's fault, whatever unpack made of it
	}
	if err != nil && (local(err) || ctx.Err() != nil) {
		return &unpackError{err}
	}
	if _, rest := io.Copy(io.Discard, n); rest != nil {
		return rest // what made unpack fail was not what the cache promised
	}
	if err != nil {
		return &unpackError{err}
	}
	f.cache.served(nil)
	f.cache.paths.Add(1)
	return nil
}

// local reports whether an error is surely of this machine's file system.
func local(err error) bool {
	var path *fs.PathError
	var link *os.LinkError
	var call *os.SyscallError
	return errors.As(err, &path) || errors.As(err, &link) || errors.As(err, &call)
}
