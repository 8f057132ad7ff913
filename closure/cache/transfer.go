package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
)

// transfer reads one file's body and continues it after a break, so that what is behind it sees one stream.
type transfer struct {
	cache    *substituter
	fallback fallback
	request  request
	size     int64 // of the whole file, -1 while unknown

	ctx      context.Context
	abort    context.CancelFunc // ends the transfer from any goroutine
	live     context.Context    // of the present connection
	cancel   context.CancelCauseFunc
	stall    *time.Timer
	response *response
	encoding string
	html     bool
	openEnd  bool
	offset   int64 // bytes given out
	failures int   // attempts that failed, since the pace was last kept
	whole    bool  // ranges do not work here
	pace     pace
	err      error
}

// begin makes the first request, with retries.
func (t *transfer) begin(ctx context.Context) error {
	t.ctx, t.abort = context.WithCancel(ctx)
	for {
		err := t.connect()
		if err == nil {
			t.encoding, t.html, t.openEnd = t.response.encoding, t.response.html, t.response.openEnd
			switch {
			case t.encoding != "":
				t.size = -1
			case t.response.size >= 0:
				t.size = t.response.size
			case !t.openEnd: // which says itself where it ends; what a narinfo says of that may be wrong
				t.size = -1
			}
			return nil
		}
		if err = t.retry(err); err != nil {
			return err
		}
	}
}

// connect asks for the file from offset on and skips what a server sends that starts over.
func (t *transfer) connect() error {
	t.hangUp()
	if pause := t.cache.limiter.pause(); pause > t.cache.policy.Patience && t.fallback.available(t.ctx) {
		return &fallbackError{fmt.Errorf("%w (%v)", errPaused, pause.Round(time.Second/10))}
	}
	asked, err := t.cache.limiter.start(t.ctx)
	if err != nil {
		return err
	}
	t.live, t.cancel = context.WithCancelCause(t.ctx)
	live, cancel := t.live, t.cancel
	r := t.request
	if !t.whole {
		r.from = t.offset
	}
	answered := t.expectAnswer()
	a, err := t.cache.transport.get(live, r)
	answered()
	t.cache.limiter.finish(asked, err)
	if err != nil {
		t.whole = t.whole || errors.Is(err, errWrongRange)
		if cause := context.Cause(live); cause != nil {
			err = cause
		}
		return t.meaning(err)
	}
	t.response = a
	t.stall = time.AfterFunc(t.cache.stall, func() { cancel(errStalled) })
	t.stall.Stop()
	if was := t.request.validator; was != "" && a.validator != "" && a.validator != was {
		return &restartError{errors.New("the file changed while it was on its way")}
	}
	if a.validator != "" {
		t.request.validator = a.validator
	}
	return t.skip(t.offset - a.from)
}

// expectAnswer gives the connection up when there is no answer in time: soon where another cache has the file. What
// it returns ends that.
func (t *transfer) expectAnswer() (answered func()) {
	live, cancel := t.live, t.cancel
	var over atomic.Bool
	soon := time.AfterFunc(t.cache.policy.Timeout, func() {
		switch there := t.fallback.available(live); {
		case over.Load():
		case there:
			cancel(&fallbackError{errSlow})
		default:
			t.cache.note("waiting", fmt.Sprintf("waiting for the first byte of %s", redact.URL(t.request.url)))
		}
	})
	first := time.AfterFunc(firstByteTime(t.cache.policy, t.cache.stall), func() { cancel(errSlow) })
	return func() {
		over.Store(true)
		soon.Stop()
		first.Stop()
	}
}

// meaning turns statuses that have a meaning for a transfer into that.
func (t *transfer) meaning(err error) error {
	var status *StatusError
	switch {
	case !errors.As(err, &status):
		return err
	case status.missing() && t.offset == 0:
		return errAbsent
	case status.Code == http.StatusRequestedRangeNotSatisfiable && t.offset > 0:
		return io.EOF // there is nothing after what came
	}
	return err
}

// skip reads over bytes that were given out already.
func (t *transfer) skip(n int64) error {
	if n <= 0 {
		return nil
	}
	buf := make([]byte, min(n, 64<<10))
	for n > 0 {
		got, _, err := t.read(buf[:min(n, int64(len(buf)))])
		n -= int64(got)
		if err == io.EOF && n > 0 {
			return io.ErrUnexpectedEOF
		}
		if err != nil && n > 0 {
			return err
		}
	}
	t.pace = pace{} // what came a second time makes no attempt count anew
	return nil
}

// read is one read of the body, given up when no byte comes, or too few. kept says that enough have come.
func (t *transfer) read(p []byte) (n int, kept bool, err error) {
	began := time.Now()
	t.stall.Reset(t.cache.stall)
	n, err = t.response.body.Read(p)
	t.stall.Stop()
	if err != nil && err != io.EOF && errors.Is(context.Cause(t.live), errStalled) {
		err = fmt.Errorf("%w (%v)", errStalled, t.cache.stall)
	}
	kept, slow := t.pace.add(n, time.Since(began), t.cache.stall)
	if err == nil {
		err = slow
	}
	return n, kept, err
}

// pace measures how much comes in the time that is spent waiting for it: what minRate makes of Options.Stall has to come in
// that, again and again.
type pace struct {
	waited time.Duration
	bytes  int64
}

// add counts one read, and says that enough has come, or that the time for it is over. Then it counts anew.
func (p *pace) add(n int, took, stall time.Duration) (kept bool, slow error) {
	p.waited, p.bytes = p.waited+took, p.bytes+int64(n)
	was := *p
	switch {
	case float64(was.bytes) >= minRate*stall.Seconds():
		*p = pace{}
		return true, nil
	case was.waited >= stall:
		*p = pace{}
		return false, fmt.Errorf("%w: %d bytes in %v", errRate, was.bytes, was.waited.Round(time.Second/10))
	}
	return false, nil
}

func (t *transfer) Read(p []byte) (int, error) {
	for t.err == nil {
		n, kept, err := t.read(p)
		if n > 0 {
			t.offset += int64(n)
			t.cache.bytes.Add(int64(n))
			t.cache.limiter.alive()
		}
		if kept {
			t.failures = 0
		}
		if err == io.EOF && t.size >= 0 && t.offset < t.size {
			err = fmt.Errorf("%w: %d of %d bytes came", io.ErrUnexpectedEOF, t.offset, t.size)
		}
		if err != nil && err != io.EOF {
			err = t.resume(err)
		}
		t.err = err
		if n > 0 {
			return n, nil
		}
	}
	return 0, t.err
}

// resume makes the stream continue after an error, or returns the error that ends it.
func (t *transfer) resume(err error) error {
	for {
		if final := t.retry(err); final != nil {
			return final
		}
		if t.encoding != "" && t.offset > 0 {
			// The bytes of a Content-Encoding made on the fly need not be the same twice.
			return &restartError{redact.Error(err)}
		}
		var restart *restartError
		switch err = t.connect(); {
		case err == nil, err == io.EOF, errors.As(err, &restart):
			return err
		}
	}
}

// retry waits before another attempt, or returns the error that ends the transfer.
func (t *transfer) retry(err error) error {
	err = redact.Error(err)
	if cause := context.Cause(t.ctx); cause != nil {
		return cause
	}
	var left *fallbackError
	if errors.As(err, &left) || !worthRetrying(err) {
		return err
	}
	switch {
	case !isRefusal(err):
		t.failures++
	case t.cache.limiter.refusesAll():
		t.failures = attempts
	default:
		return nil // after a pause
	}
	if final := t.fallback.decide(t.ctx, t.failures, err); final != nil {
		return t.ended(final)
	}
	if timedOut(err) {
		t.cache.note("waiting", fmt.Sprintf("waiting for %s: %v; %d bytes came so far", redact.URL(t.request.url), err, t.offset))
	}
	if retry.Sleep(t.ctx, pause(t.cache.policy, t.failures, err)) != nil {
		return t.ended(err)
	}
	return nil
}

// ended is the error of a transfer that failed: that of whoever stopped it, if somebody did.
func (t *transfer) ended(err error) error {
	if cause := context.Cause(t.ctx); cause != nil {
		return cause
	}
	return err
}

func (t *transfer) hangUp() {
	if t.response != nil {
		t.response.body.Close()
		t.response = nil
	}
	if t.cancel != nil {
		t.cancel(context.Canceled)
	}
}

func (t *transfer) close() {
	t.abort()
	t.hangUp()
	if t.err == nil {
		t.err = errors.New("transfer is closed")
	}
}

var errPaused = errors.New("it asks for a pause (Retry-After)")
