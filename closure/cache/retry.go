package cache

import (
	"cmp"
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

// Policy is how patient a Set is: a request that fails is made again a few times, each time after a longer pause; when that
// does not help, its cache is disabled for a while and the next one by priority is asked, as Nix does it (NixOS/nix
// src/libstore/http-binary-cache-store.cc and filetransfer.cc). What is 0 is as a build wants it: a dead cache costs
// seconds, a flapping one is waited for.
type Policy struct {
	// Backoff is the wait before the second attempt; 0 means 250 ms. Each further one is up to twice as long, with a
	// bound, and partly left to chance.
	Backoff time.Duration
	// Timeout is how long to wait for a connection (Nix: connect-timeout), for a whole narinfo, and for a NAR's first byte
	// where another cache has the NAR; 0 means 15 s.
	Timeout time.Duration
	// Stall is how long a NAR may bring less than 4 KiB a second (Nix: stalled-download-timeout); 0 means 30 s. Where no
	// other cache has it, its first byte is waited for ten times as long, as a cache may have to fetch it from elsewhere.
	Stall time.Duration
	// Patience is how long a better cache may stay silent once another one can be used or has given a valid answer, and
	// how long a pause it may ask for before a NAR is fetched from another one; 0 means 1 s.
	Patience time.Duration
	// Disable is how long a cache is disabled: asked only where no other one has a path, and once where it had failed. A
	// server's Retry-After counts up to as much. 0 means 60 s.
	Disable time.Duration
}

func (p Policy) withDefaults() Policy {
	return Policy{
		Backoff: cmp.Or(p.Backoff, 250*time.Millisecond), Timeout: cmp.Or(p.Timeout, 15*time.Second),
		Stall: cmp.Or(p.Stall, 30*time.Second), Patience: cmp.Or(p.Patience, time.Second), Disable: cmp.Or(p.Disable, time.Minute),
	}
}

const (
	// attempts is how often a request is made in all (Nix: download-attempts). In a NAR they count anew whenever enough of it has
	// come, and refusals (429 and 503) count only while nothing else comes from the cache.
	attempts = 5
	// minRate is what a NAR has to bring in bytes per second.
	minRate = 4 << 10
	// firstByte is how many times as long as for the next byte a NAR's first is waited for where no other cache has it.
	firstByte = 10
	// gapPart is the part of the gap between two requests that an answer takes from it, and the part of the first back-off that
	// is the gap after the first refusal.
	gapPart = 32
)

// pause is the wait after the n-th attempt, which failed with err: a server's Retry-After wins, within its bound.
func (p Policy) pause(n int, err error) time.Duration {
	return max(retry.Pause(p.Backoff, n), min(retryAfterOf(err), p.Disable))
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

// timedOut reports whether something did not come in time.
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
