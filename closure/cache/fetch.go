package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
)

// Share gives a context under which all that is decoded of one path, by Fetch and by whoever unpacks what that gives, has one
// share of the memory that decoders have together.
func (s *Set) Share(ctx context.Context) context.Context { return s.pool.Share(ctx) }

// Fetch gives unpack the NAR of f: decompressed, verified while it streams, never beyond NarSize bytes. The reader
// returns io.EOF only after NarHash and NarSize were right, else a *VerifyError. (FileHash and FileSize, which nobody signs,
// say nothing more.)
//
// Broken transfers continue where they broke off. When that does not help, or what came was wrong, unpack is called
// again from the start, after it returned, with the stream of the next cache that has the same NAR; so unpack must
// discard what it wrote whenever it returns an error. An error of unpack's own on a NAR that is as signed is returned
// with the cache's name, one of the file system as it is. What unpack leaves unread is still verified.
// How many NARs are under way is the caller's business; what their decoders take is bounded here.
//
// When no cache could serve it, the error is a *FetchError. Looking the path up again then gives the narinfo of a
// cache that has another build of it, if there is one.
func (s *Set) Fetch(ctx context.Context, f *Found, unpack func(r io.Reader) error) error {
	if !memory.Has(ctx) {
		ctx = s.Share(ctx)
	}
	failure := &FetchError{Path: f.StorePath}
	sources := s.sources(f)
	for {
		found, fallback := sources.next(ctx)
		if found == nil {
			break
		}
		err := s.fetchFrom(ctx, found, fallback, unpack)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			break
		}
		if own := (*unpackError)(nil); errors.As(err, &own) {
			return own.from(found)
		}
		if left := (*fallbackError)(nil); errors.As(err, &left) {
			sources.postpone(found)
		} else {
			failure.add(found.cache, err)
		}
		if errors.Is(err, errPaused) {
			found.cache.noteFor(f.StorePath, err) // which is no fault
		} else {
			found.cache.disableFor(f.StorePath, err)
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("fetching %s: %w", f.StorePath, context.Cause(ctx))
	case len(failure.errs) == 0:
		return fmt.Errorf("fetching %s: no cache offers it any more", f.StorePath)
	}
	s.noteFailed(failure)
	return failure
}

// isFailure reports whether a cache was disabled because it failed, and not for what it answered, or for being slow.
func isFailure(err error) bool {
	var (
		status      *StatusError
		verify      *VerifyError
		invalid     *invalidError
		compression *CompressionError
	)
	switch {
	case errors.As(err, &verify), errors.As(err, &invalid), errors.As(err, &compression), errors.Is(err, errLate):
		return false
	case errors.As(err, &status):
		return status.Code >= 500 || isRefusal(err)
	}
	return true
}

// noteFailed makes look-ups prefer what others have to what could not be fetched.
func (s *Set) noteFailed(e *FetchError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lookups, e.Path)
	for _, c := range e.caches {
		s.failed[offer{c, e.Path}] = true
	}
}

func (s *Set) hasFailed(o offer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed[o]
}

func (e *FetchError) add(c *substituter, err error) {
	e.Tried = append(e.Tried, c.answerFor(err))
	e.errs = append(e.errs, err)
	e.caches = append(e.caches, c)
}

// unpackError marks an error as the unpacker's own.
type unpackError struct{ error }

func (e *unpackError) from(f *Found) error {
	if local(e.error) {
		return e.error
	}
	return fmt.Errorf("reading its NAR from %s: %w", f.CacheURL, e.error)
}

// fetchFrom streams from one cache. A transfer whose decoding cannot be continued is begun again a few times.
func (s *Set) fetchFrom(ctx context.Context, f *Found, other fallback, unpack func(r io.Reader) error) error {
	if f.provesItself {
		if err := s.unproven.Acquire(ctx, f.NarSize); err != nil {
			return fmt.Errorf("fetching %s: %w", f.StorePath, context.Cause(ctx))
		}
		defer s.unproven.Release(f.NarSize)
	}
	for n := 1; ; n++ {
		err := s.stream(ctx, f, other, unpack)
		var restart *restartError
		if !errors.As(err, &restart) || ctx.Err() != nil {
			return err
		}
		if final := other.decide(ctx, n, err); final != nil {
			return final
		}
		if retry.Sleep(ctx, pause(s.options.Policy, n, restart.error)) != nil {
			return err
		}
	}
}

// restartError is a broken transfer that only works from its first byte.
type restartError struct{ error }

func (e *restartError) Unwrap() error { return e.error }

// stream is one call of unpack.
func (s *Set) stream(ctx context.Context, f *Found, other fallback, unpack func(r io.Reader) error) error {
	n, err := s.openNAR(ctx, f, other)
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
		return rest // what made unpack fail was not what the narinfo says
	}
	if err != nil {
		return &unpackError{err}
	}
	f.cache.paths.Add(1)
	return nil
}

// local reports whether an error is surely of this machine's file system.
func local(err error) bool {
	var path *fs.PathError
	var link *os.LinkError
	var errno syscall.Errno // connections have them too, but their errors are not the unpacker's
	return errors.As(err, &path) || errors.As(err, &link) || errors.As(err, &errno)
}
