package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxResumes bounds how often one file's transfer is continued, whatever progress it makes.
const maxResumes = 100

// transfer reads one file's body and continues it after a break, so that what is behind it sees one stream.
type transfer struct {
	cache   *substituter
	policy  RetryPolicy
	onBytes func(int64)
	request request
	size    int64 // of the whole file, -1 while unknown

	ctx      context.Context
	abort    context.CancelFunc // ends the transfer from any goroutine
	live     context.Context    // of the present connection
	cancel   context.CancelCauseFunc
	stall    *time.Timer
	answer   *answer
	encoding string
	html     bool
	offset   int64 // bytes given out
	tries    int   // attempts since the last progress
	resumes  int
	whole    bool // ranges do not work here
	err      error
}

// begin makes the first request, with retries.
func (t *transfer) begin(ctx context.Context) error {
	t.ctx, t.abort = context.WithCancel(ctx)
	for {
		err := t.connect()
		if err == nil {
			t.cache.healthy()
			t.encoding, t.html = t.answer.encoding, t.answer.html
			if t.encoding != "" {
				t.size = -1
			} else if t.answer.size >= 0 {
				t.size = t.answer.size
			}
			return nil
		}
		if err = t.again(err); err != nil {
			return err
		}
	}
}

// connect asks for the file from offset on and skips what a server sends that starts over.
func (t *transfer) connect() error {
	t.hangUp()
	if err := t.cache.held(t.ctx, nil); err != nil {
		return err
	}
	t.live, t.cancel = context.WithCancelCause(t.ctx)
	live, cancel := t.live, t.cancel
	r := t.request
	if !t.whole {
		r.from = t.offset
	}
	slow := time.AfterFunc(t.policy.Answer, func() { cancel(errSlow) })
	a, err := t.cache.transport.get(live, r)
	slow.Stop()
	if err != nil {
		t.whole = t.whole || errors.Is(err, errWrongRange)
		if cause := context.Cause(live); cause != nil {
			err = cause
		}
		return t.told(err)
	}
	t.answer = a
	t.stall = time.AfterFunc(t.policy.Stall, func() { cancel(errStalled) })
	t.stall.Stop()
	if was := t.request.validator; was != "" && a.validator != "" && a.validator != was {
		return &restartError{errors.New("the file changed while it was on its way")}
	}
	if a.validator != "" {
		t.request.validator = a.validator
	}
	return t.skip(t.offset - a.from)
}

// told turns statuses that have a meaning for a transfer into that.
func (t *transfer) told(err error) error {
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
	buf := make([]byte, min(max(n, 0), 64<<10))
	for n > 0 {
		got, err := t.read(buf[:min(n, int64(len(buf)))])
		n -= int64(got)
		if err != nil && n > 0 {
			return noEOF(err)
		}
	}
	return nil
}

// read is one read of the body, given up when no byte comes.
func (t *transfer) read(p []byte) (int, error) {
	t.stall.Reset(t.policy.Stall)
	n, err := t.answer.body.Read(p)
	t.stall.Stop()
	if err != nil && err != io.EOF && errors.Is(context.Cause(t.live), errStalled) {
		err = fmt.Errorf("%w (%v)", errStalled, t.policy.Stall)
	}
	return n, err
}

func (t *transfer) Read(p []byte) (int, error) {
	for t.err == nil {
		n, err := t.read(p)
		if n > 0 {
			t.offset += int64(n)
			t.tries = 0
			t.onBytes(int64(n))
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
	if t.resumes++; t.resumes > maxResumes {
		return redactError(err)
	}
	for {
		if final := t.again(err); final != nil {
			return final
		}
		if t.encoding != "" && t.offset > 0 {
			// The bytes of a Content-Encoding made on the fly need not be the same twice.
			return &restartError{redactError(err)}
		}
		var restart *restartError
		switch err = t.connect(); {
		case err == nil:
			t.cache.healthy()
			return nil
		case err == io.EOF, errors.As(err, &restart):
			return err
		}
	}
}

// again waits before another attempt, or returns the error that ends the transfer.
func (t *transfer) again(err error) error {
	err = redactError(err)
	if cause := context.Cause(t.ctx); cause != nil {
		return cause
	}
	t.tries++
	exhausted := t.tries >= t.policy.Attempts || timedOut(err) && t.tries >= maxTimeouts
	if !worthRetrying(err) {
		return err
	}
	t.cache.hold(err)
	if !exhausted && wait(t.ctx, t.policy.delay(t.tries, err), t.cache.downed, nil) == nil {
		return nil
	}
	if cause := context.Cause(t.ctx); cause != nil {
		return cause
	}
	t.cache.failed(err)
	return fmt.Errorf("%w (tried %d times)", err, t.tries)
}

func (t *transfer) hangUp() {
	if t.answer != nil {
		t.answer.body.Close()
		t.answer = nil
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

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
