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

const (
	// attempts is how often a request is made in all (Nix: download-attempts). In a NAR they count anew whenever enough of it has
	// come, and refusals (429 and 503) count only while nothing else comes from the cache.
	attempts = 5
	// minRate is what a NAR has to bring in bytes per second.
	minRate = 4 << 10
	// firstByte is how many times as long as for the next byte a NAR's first is waited for: a cache may have to fetch it itself.
	firstByte = 10
	// gapPart is the part of the gap between two requests that an answer takes from it, and the part of the first back-off that
	// is the gap after the first refusal.
	gapPart = 32
)

// pause is the wait after the n-th attempt, which failed with err: a server's Retry-After wins, within its bound.
func pause(p Policy, n int, err error) time.Duration {
	return max(retry.Pause(p.Backoff, n), min(retryAfterOf(err), p.Disable))
}

// firstByteTime is how long a NAR's first byte is waited for where no other cache has it.
func firstByteTime(p Policy, stall time.Duration) time.Duration {
	return max(p.Timeout, firstByte*stall)
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
