package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache/decompress"
)

// maxNarInfo bounds a narinfo's file: 1 MiB is some ten thousand references, far above any real path.
const maxNarInfo = 1 << 20

// slowAfter is how often in a row a cache may keep others waiting until it is not waited for any more.
const slowAfter = 3

// substituter is one cache of a Set, with what is known of its health.
type substituter struct {
	address   *address
	index     int // in the user's order
	transport transport
	policy    RetryPolicy
	pool      *decompress.Pool
	log       func(string, ...any)
	info      Info
	priority  int
	slots     chan struct{} // look-ups under way
	downed    chan struct{} // closed when the cache is left alone
	greeted   chan struct{} // closed when it is known whether the cache can be used

	narinfos, paths, bytes atomic.Int64

	notes notes

	mu        sync.Mutex
	holdUntil time.Time // by a Retry-After, which holds for all requests
	failures  int       // requests that failed in a row
	useless   int       // look-ups in a row whose answer said nothing of the path
	spoilt    int       // NARs in a row that did not come, or not as promised
	late      int       // look-ups in a row in which another cache was quicker by the policy's patience
	aside     bool      // only asked where no other cache has a path
	downErr   error
}

func (c *substituter) String() string { return c.address.String() }

// down is why the cache is left alone, nil while it is not.
func (c *substituter) down() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.downErr
}

// leaveAlone marks the cache as down for the run and says so once.
func (c *substituter) leaveAlone(cause error) {
	c.mu.Lock()
	first := c.downErr == nil
	if first {
		c.downErr = cause
		close(c.downed)
	}
	c.mu.Unlock()
	if first {
		c.note("down", "left alone for this run: "+cause.Error())
	}
}

// healthy and failed keep count of requests that failed in a row.
func (c *substituter) healthy() {
	c.mu.Lock()
	c.failures = 0
	c.mu.Unlock()
}

func (c *substituter) failed(err error) {
	c.mu.Lock()
	c.failures++
	enough := c.failures >= c.policy.DownAfter
	c.mu.Unlock()
	if enough {
		c.leaveAlone(err)
	}
}

// uselessAfter is how many look-ups in a row may get no proper answer until the cache is set aside.
const uselessAfter = 10

// answered counts look-ups whose answer is neither a narinfo nor that there is none, such as a login page.
func (c *substituter) answered(useless error) { c.count(&c.useless, useless, uselessAfter) }

// served counts NARs that did not come, or not as they were promised; nil is one that did.
func (c *substituter) served(spoilt error) { c.count(&c.spoilt, spoilt, c.policy.DownAfter) }

func (c *substituter) count(inRow *int, err error, most int) {
	c.mu.Lock()
	if *inRow++; err == nil {
		*inRow = 0
	}
	first := *inRow == most && !c.aside
	c.aside = c.aside || first
	c.mu.Unlock()
	if first {
		c.note("aside", fmt.Sprintf("failed %d times in a row; from now on only asked where no other has a path", most))
	}
}

// setAside reports whether the cache is only to be asked where no other one has a path.
func (c *substituter) setAside() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.aside
}

// keptWaiting notes that another cache was quicker, or with false that it was not.
func (c *substituter) keptWaiting(was bool) {
	c.mu.Lock()
	if c.late++; !was {
		c.late = 0
	}
	slow := c.late == slowAfter
	c.mu.Unlock()
	if slow {
		c.note("slow", fmt.Sprintf("slower than others by %v several times; only waited for where no other has a path",
			c.policy.Patience))
	}
}

func (c *substituter) slow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.late >= slowAfter
}

// small gets a small file whole, with retries. moot ends the work early: its answer is no longer needed.
func (c *substituter) small(ctx context.Context, name string, moot <-chan struct{}) (*page, error) {
	u, err := c.address.resolve(name)
	if err != nil {
		return nil, err
	}
	r := request{url: u, packed: true}
	for n := 1; ; n++ {
		if err := c.held(ctx, moot); err != nil {
			return nil, err
		}
		p, err := c.once(ctx, r)
		if !worthRetrying(err) || ctx.Err() != nil {
			return p, c.settle(ctx, err)
		}
		if n >= c.policy.Attempts || timedOut(err) && n >= maxTimeouts {
			c.failed(err)
			return nil, err
		}
		c.hold(err)
		if wait(ctx, c.policy.delay(n, err), c.downed, moot) != nil {
			return nil, err
		}
	}
}

// hold keeps all requests back for a while when the server asked for that.
func (c *substituter) hold(err error) {
	var status *statusFailure
	if !errors.As(err, &status) || status.retryAfter <= 0 {
		return
	}
	until := time.Now().Add(min(status.retryAfter, c.policy.MaxRetryAfter))
	c.mu.Lock()
	if until.After(c.holdUntil) {
		c.holdUntil = until
	}
	c.mu.Unlock()
}

// heldFor is how long requests are kept back.
func (c *substituter) heldFor() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Until(c.holdUntil)
}

// held waits while requests are kept back.
func (c *substituter) held(ctx context.Context, moot <-chan struct{}) error {
	left := c.heldFor()
	if left <= 0 {
		return nil
	}
	return wait(ctx, left, c.downed, moot)
}

// settle counts what is final: an answer, even "no", shows that the cache lives.
func (c *substituter) settle(ctx context.Context, err error) error {
	var status *StatusError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil, errors.Is(err, errAbsent), errors.As(err, &status):
		c.healthy()
	default:
		c.failed(err)
	}
	if status != nil && status.Code == 403 {
		return fmt.Errorf("%w (the answer is %q: a private cache would want a login)", errAbsent, status.Status)
	}
	if status != nil && status.missing() {
		return errAbsent
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
	ctx, cancel := context.WithTimeoutCause(ctx, c.policy.Answer, errSlow)
	defer cancel()
	p, err := c.read(ctx, r)
	if err != nil && errors.Is(context.Cause(ctx), errSlow) {
		return nil, fmt.Errorf("asking for %s: %w (%v)", redact(r.url), errSlow, time.Since(start).Round(time.Second/10))
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
		z, err := c.pool.Answer(a.encoding, a.body)
		if err != nil {
			return nil, fmt.Errorf("reading %s: Content-Encoding: %w", redact(r.url), err)
		}
		defer z.Close()
		body = z
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(io.LimitReader(body, maxNarInfo+1)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", redact(r.url), redactError(err))
	}
	return &page{data: buf.Bytes(), html: a.html}, nil
}
