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
	transport transport
	policy    RetryPolicy
	pool      *decompress.Pool
	log       func(string, ...any)
	info      Info
	priority  int
	slots     chan struct{} // look-ups under way
	downed    chan struct{} // closed when the cache is left alone

	narinfos, paths, bytes atomic.Int64

	mu        sync.Mutex
	holdUntil time.Time // by a Retry-After, which holds for all requests
	failures  int       // requests that failed in a row
	late      int       // look-ups in a row in which another cache was quicker by the policy's patience
	downErr   error
	notes     []string
	noted     map[string]bool
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
		c.note("left alone for this run: " + cause.Error())
	}
}

// note records a failure and logs it, the first time that it happens.
func (c *substituter) note(text string) {
	c.mu.Lock()
	fresh := !c.noted[text] && len(c.notes) < maxNotes
	if fresh {
		if c.noted[text] = true; len(c.notes) == maxNotes-1 {
			text = "and more, which are not listed"
		}
		c.notes = append(c.notes, text)
	}
	c.mu.Unlock()
	if fresh {
		c.log("binary cache %s: %s", c, text)
	}
}

// maxNotes bounds a report when every path of a large closure fails in its own way.
const maxNotes = 100

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

// keptWaiting notes that another cache was quicker, or with false that it was not.
func (c *substituter) keptWaiting(was bool) {
	c.mu.Lock()
	if c.late++; !was {
		c.late = 0
	}
	slow := c.late == slowAfter
	c.mu.Unlock()
	if slow {
		c.note(fmt.Sprintf("slower than others by %v several times; only waited for where no other has a path",
			c.policy.Patience))
	}
}

func (c *substituter) slow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.late >= slowAfter
}

// small gets a small file whole, with retries. moot ends the work early: its answer is no longer needed.
func (c *substituter) small(ctx context.Context, name string, head bool, moot <-chan struct{}) (*page, error) {
	u, err := c.address.resolve(name)
	if err != nil {
		return nil, err
	}
	r := request{url: u, head: head, packed: true}
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

// held waits while requests are kept back.
func (c *substituter) held(ctx context.Context, moot <-chan struct{}) error {
	c.mu.Lock()
	left := time.Until(c.holdUntil)
	c.mu.Unlock()
	if left <= 0 {
		return nil
	}
	return wait(ctx, left, c.downed, moot)
}

// maxTimeouts is how often something that costs whole seconds is tried.
const maxTimeouts = 2

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
	if r.head {
		return &page{html: a.html}, nil
	}
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

// report is what the cache did for the run.
func (c *substituter) report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Report{
		URL: c.String(), Priority: c.priority, NarInfos: c.narinfos.Load(), Paths: c.paths.Load(),
		Bytes: c.bytes.Load(), Down: c.downErr != nil, Failures: append([]string(nil), c.notes...),
	}
}

// Report is what one cache did for a run.
type Report struct {
	// URL is the cache, redacted.
	URL string
	// Priority is the one in force, lowest first.
	Priority int
	// NarInfos and Paths count the narinfos and NARs that it served and that were used.
	NarInfos, Paths int64
	// Bytes counts what came from it for NARs, compressed.
	Bytes int64
	// Down says that it was left alone from some point on.
	Down bool
	// Failures holds each failure once, in the order they happened.
	Failures []string
}
