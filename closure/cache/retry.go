package cache

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
)

// policy is how patient a Set is: a request that fails is made again a few times, each time after a longer pause; when that
// does not help, its cache is disabled for a while and the next one by priority is asked, as Nix does it (NixOS/nix
// src/libstore/http-binary-cache-store.cc and filetransfer.cc).
type policy struct {
	// backoff is the wait before the second attempt: see retry.Pause.
	backoff time.Duration
	// timeout is how long to wait for a connection (Nix: connect-timeout), for a whole narinfo, and for a NAR's first byte
	// where another cache has the NAR.
	timeout time.Duration
	// stall is Options.Stall.
	stall time.Duration
	// patience is how long a better cache may stay silent once another one can be used or has given a valid answer, and
	// how long a pause it may ask for before a NAR is fetched from another one.
	patience time.Duration
	// disable is how long a cache is disabled: asked only, and once, where no other one has a path. A server's Retry-After
	// counts up to as much.
	disable time.Duration
}

// buildPolicy is that of a build: a dead cache costs seconds, a flapping one is waited for.
func buildPolicy() policy {
	return policy{
		backoff: 250 * time.Millisecond, timeout: 15 * time.Second, stall: 30 * time.Second,
		patience: time.Second, disable: time.Minute,
	}
}

// Impatient are the options of a Set that waits next to nothing, or some times as long, for tests of what is done where
// something goes wrong.
func (o Options) Impatient(times time.Duration) Options {
	o.policy = policy{
		backoff: time.Millisecond, timeout: times * 200 * time.Millisecond, stall: times * 50 * time.Millisecond,
		patience: times * 50 * time.Millisecond, disable: 100 * time.Millisecond,
	}
	return o
}

const (
	// attempts is how often a request is made in all (Nix: download-attempts). Refusals (429 and 503) by a cache that
	// answers others meanwhile do not count, and in a NAR 256 KiB more of it, or a sixteenth, start the count anew.
	attempts = 5
	// minRate is what a NAR has to bring in bytes per second.
	minRate = 4 << 10
	// firstByte is how many times as long as for the next byte a NAR's first is waited for where no other cache has it.
	firstByte = 10
	// maxTimeouts is how often something is tried that costs whole seconds each time.
	maxTimeouts = 2
)

// pause is the wait after the n-th attempt, which failed with err: a server's Retry-After wins, within its bound.
func (p policy) pause(n int, err error) time.Duration {
	return max(retry.Pause(p.backoff, n), min(retryAfterOf(err), p.disable))
}

var (
	errUnwanted = errors.New("given up: no longer wanted")
	errStalled  = errors.New("no byte arrived in time")
	errSlow     = errors.New("no answer in time")
	errRate     = errors.New("too little arrives")
)

// retryAfterOf is the wait of a server's Retry-After, 0 for none.
func retryAfterOf(err error) time.Duration {
	var status *StatusError
	if errors.As(err, &status) {
		return status.retryAfter
	}
	return 0
}

// isRefusal reports whether a server wants fewer requests.
func isRefusal(err error) bool {
	var status *StatusError
	return errors.As(err, &status) &&
		(status.Code == http.StatusTooManyRequests || status.Code == http.StatusServiceUnavailable)
}

// isAnswer reports whether an error is a server's answer, and no failure of it.
func isAnswer(err error) bool {
	var status *StatusError
	return errors.Is(err, errAbsent) || errors.As(err, &status) && status.Code < 500 && !isRefusal(err)
}

// worthRetrying reports whether the same request may succeed later.
func worthRetrying(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return retryable(status.Code)
	}
	var dns *net.DNSError
	var proxy *ProxyError
	var unknownCA x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var certificate x509.CertificateInvalidError
	var noTLS tls.RecordHeaderError
	var alert tls.AlertError
	var scheme *SchemeError
	var path *os.PathError
	switch {
	case err == nil, errors.Is(err, errAbsent), errors.Is(err, errRedirect), errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &proxy):
		return retryable(proxy.Code)
	case errors.As(err, &dns) && dns.IsNotFound:
		return false
	case errors.As(err, &unknownCA), errors.As(err, &hostname), errors.As(err, &certificate):
		return false
	case errors.As(err, &path), errors.As(err, &noTLS), errors.As(err, &alert), errors.As(err, &scheme):
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

// timedOut reports whether something did not come in time; that costs seconds, and is tried less.
func timedOut(err error) bool {
	var t net.Error
	return errors.Is(err, errSlow) || errors.Is(err, errStalled) || errors.Is(err, errRate) ||
		errors.As(err, &t) && t.Timeout()
}

// drain lets a connection be used again by reading the little that an error's answer holds.
func drain(body io.ReadCloser) {
	io.CopyN(io.Discard, body, 64<<10)
	body.Close()
}
