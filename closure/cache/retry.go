package cache

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"time"
)

// delay is the wait before attempt n (1 is the first repetition); a server's Retry-After wins, within its bound.
func (p RetryPolicy) delay(n int, err error) time.Duration {
	d := p.MaxDelay
	if shift := n - 1; shift < 20 {
		d = min(p.BaseDelay<<shift, p.MaxDelay)
	}
	d -= time.Duration(float64(d) * p.Jitter * rand.Float64())
	var status *statusFailure
	if errors.As(err, &status) && status.retryAfter > 0 {
		d = max(d, min(status.retryAfter, p.MaxRetryAfter))
	}
	return d
}

// wait sleeps, unless ctx or one of the given channels ends first.
func wait(ctx context.Context, d time.Duration, down, moot <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-down:
		return errGivenUp
	case <-moot:
		return errGivenUp
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var (
	errGivenUp = errors.New("given up: the cache is left alone for this run")
	errStalled = errors.New("no byte arrived in time")
	errSlow    = errors.New("no answer in time")
	errRate    = errors.New("too little arrives")
)

// worthRetrying reports whether the same request may succeed later.
func worthRetrying(err error) bool {
	var status *statusFailure
	if errors.As(err, &status) {
		return retryable(status.Code)
	}
	var dns *net.DNSError
	var unknownCA x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var certificate x509.CertificateInvalidError
	var noTLS tls.RecordHeaderError
	var alert tls.AlertError
	var path *os.PathError
	switch {
	case err == nil, errors.Is(err, errAbsent), errors.Is(err, errRedirect), errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &dns) && dns.IsNotFound:
		return false
	case errors.As(err, &unknownCA), errors.As(err, &hostname), errors.As(err, &certificate):
		return false
	case errors.As(err, &path), errors.As(err, &noTLS), errors.As(err, &alert):
		return false
	}
	return true
}

func retryable(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusTooEarly:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return code >= 500
}

// timedOut reports whether a connection or an answer did not come in time; that costs seconds, and is tried less.
func timedOut(err error) bool {
	var t net.Error
	return errors.Is(err, errSlow) || errors.Is(err, errStalled) || errors.As(err, &t) && t.Timeout()
}

// drain lets a connection be used again by reading the little that an error's answer holds.
func drain(body io.ReadCloser) {
	io.CopyN(io.Discard, body, 64<<10)
	body.Close()
}
