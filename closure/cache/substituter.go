package cache

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
)

// maxNarInfo bounds a small file. One byte more is read, so that narinfo.Parse, whose bound it is, refuses a longer one.
const maxNarInfo = 1 << 20

// substituter is one cache of a Set, with what is known of its health.
type substituter struct {
	address   *address
	index     int // in the user's order
	transport transport
	policy    Policy
	stall     time.Duration
	pool      *decompress.Pool
	log       func(string, ...any)
	priority  int
	slots     chan struct{} // look-ups under way, also while they wait for another attempt
	limiter   *limiter
	probed    chan struct{} // closed when it is known whether the cache can be used

	narinfos, paths, bytes atomic.Int64

	notes notes

	mu         sync.Mutex
	unusable   error     // why the cache cannot be used at all
	disabledAt time.Time // zero for never
	cause      error     // why it was disabled
}

func (c *substituter) String() string { return c.address.String() }

// setUnusable notes why the cache cannot be used at all.
func (c *substituter) setUnusable(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unusable = cause
}

// disable has the cache asked only where no other one has a path, for the policy's time.
func (c *substituter) disable(cause error) {
	select {
	case <-c.probed:
	default:
		return // it is not used yet
	}
	c.setDisabled(cause)
	c.note("disabled", c.disabledFor()+cause.Error())
}

// disableFor is disable for what was wrong with a path.
func (c *substituter) disableFor(p storepath.Path, cause error) {
	c.setDisabled(cause)
	kind, text := problem(p, cause)
	c.note(kind, c.disabledFor()+text)
}

func (c *substituter) setDisabled(cause error) {
	c.mu.Lock()
	c.disabledAt, c.cause = time.Now(), cause
	c.mu.Unlock()
}

// disabledFor is how Nix says it, for those who search for that.
func (c *substituter) disabledFor() string {
	return fmt.Sprintf("disabled for %v s: ", c.policy.Disable.Seconds())
}

// disabled is why the cache is disabled at present, nil where it is not.
func (c *substituter) disabled() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil && time.Since(c.disabledAt) < c.policy.Disable {
		return &disabledError{c.cause}
	}
	return nil
}

// failedSince is why the cache was disabled after a time, nil where it was not, or still answers.
func (c *substituter) failedSince(then time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.disabledAt.After(then) && isFailure(c.cause) {
		return &disabledError{c.cause}
	}
	return nil
}

// getFile gets a small file whole, with retries. wanted, which ends with ctx or before it, ends what waits: for its turn, or for
// another attempt. So does another request for which the cache is disabled meanwhile.
func (c *substituter) getFile(ctx, wanted context.Context, name string) (*page, error) {
	u, err := c.address.resolve(name)
	if err != nil {
		return nil, err
	}
	r := request{url: u, packed: true}
	began := time.Now()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-wanted.Done():
		return nil, context.Cause(wanted)
	}
	why := c.disabled()
	down := why != nil && isFailure(why)
	for n := 1; ; {
		asked, err := c.limiter.start(wanted)
		if err != nil {
			return nil, err
		}
		if err := c.failedSince(began); err != nil {
			return nil, err
		}
		p, err := c.once(ctx, r)
		c.limiter.finish(asked, err)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !worthRetrying(err):
			return p, c.final(name, err)
		case isRefusal(err) && !c.limiter.refusesAll():
			continue // after a pause
		case isRefusal(err), down, n == attempts:
			c.disable(err)
			return nil, err
		}
		if err := retry.Sleep(wanted, pause(c.policy, n, err)); err != nil {
			return nil, err
		}
		n++
	}
}

// final reads an answer about a file that no other attempt will change: a failure that is no answer disables the cache.
func (c *substituter) final(name string, err error) error {
	var status *StatusError
	switch isStatus := errors.As(err, &status); {
	case isStatus && status.Code == 403 && (status.S3Code == "" || name == infoName && status.missing()):
		// Or not for us: a private cache may say so of everything, and a bucket does. Of a narinfo a public bucket says it, too.
		return fmt.Errorf("%w: %w", errAbsent, err)
	case isStatus && status.missing():
		return errAbsent
	case err != nil && !isStatus && !errors.Is(err, errAbsent):
		c.disable(err)
	}
	return err
}

// page is a small file in memory.
type page struct {
	data []byte
	html bool
}

// once makes one request within the policy's time for an answer.
func (c *substituter) once(ctx context.Context, r request) (*page, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, c.policy.Timeout, errSlow)
	defer cancel()
	p, err := c.read(ctx, r)
	if err != nil && errors.Is(context.Cause(ctx), errSlow) {
		return nil, fmt.Errorf("downloading %s: %w (%v)", redact.URL(r.url), errSlow, time.Since(start).Round(time.Second/10))
	}
	return p, err
}

func (c *substituter) read(ctx context.Context, r request) (*page, error) {
	a, err := c.transport.get(ctx, r)
	if err != nil {
		return nil, err
	}
	defer a.body.Close()
	var body io.Reader = a.body
	if a.encoding != "" {
		encoded := bufio.NewReader(a.body)
		if _, err := encoded.Peek(1); err == io.EOF { // nothing, which some servers do not pack
			return &page{html: a.html}, nil
		}
		z, err := decodeContent(ctx, c.pool, a.encoding, encoded, packedLimit(maxNarInfo))
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", redact.URL(r.url), err)
		}
		defer z.Close()
		body = z
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(io.LimitReader(body, maxNarInfo+1)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", redact.URL(r.url), redact.Error(err))
	}
	return &page{data: buf.Bytes(), html: a.html}, nil
}
