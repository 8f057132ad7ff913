package cache

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/internal/proxies"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const (
	// maxRedirects is how many redirects are followed, as by Nix; more are taken for a loop.
	maxRedirects = 10
	// streamWindow bounds what one HTTP/2 stream may buffer while its NAR is decompressed more slowly than it comes.
	streamWindow = 1 << 20
	// acceptEncoding are the Content-Encodings worth having on a NAR that is not compressed.
	acceptEncoding = "zstd, br;q=0.8, gzip;q=0.6"
	// maxErrorBody is what is read of an answer that is not the file, to find out why.
	maxErrorBody = 16 << 10
)

// maxHeader bounds the header of an answer, in bytes.
const maxHeader = 64 << 10

// newHTTPTransport is how all HTTP and S3 caches are reached.
func newHTTPTransport(o Options) (*http.Transport, error) {
	roots, err := rootCAs(o)
	if err != nil {
		return nil, err
	}
	proxy := proxies.Variables(o.Getenv, o.Log)
	dialer := &net.Dialer{Timeout: o.Policy.Timeout}
	return &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, res *http.Response) error {
			if res.StatusCode == http.StatusOK {
				return nil
			}
			return &ProxyError{Proxy: redact.URL(proxy), Code: res.StatusCode, Status: text.Short(res.Status)}
		},
		DialContext:         dialer.DialContext,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: o.Policy.Timeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 2 * LookupsAtOnce, // of narinfos, and of hardly as many NARs
		IdleConnTimeout:     90 * time.Second,  // as by http.DefaultTransport: a router forgets connections, and does not say so
		DisableCompression:  true,
		// Each of many requests at once may have as much.
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         4 << 10, // less than what a body is read by, which then is not copied
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream: streamWindow,
			SendPingTimeout:           o.Policy.Timeout,
			PingTimeout:               o.Policy.Timeout,
		},
	}, nil
}

// rootCAs are the system's authorities (which already follow $SSL_CERT_FILE), those of $NIX_SSL_CERT_FILE, and the
// given ones; nil means the system's alone.
func rootCAs(o Options) (*x509.CertPool, error) {
	extra := slices.Clone(o.RootCAs)
	for _, name := range []string{"NIX_SSL_CERT_FILE", "SSL_CERT_FILE"} {
		file := o.Getenv(name)
		if file == "" {
			continue
		}
		pem, err := readSetting(file)
		if err != nil {
			return nil, &AuthoritiesError{Source: name, Err: err}
		}
		extra = append(extra, Authorities{Source: name, PEM: pem})
	}
	if len(extra) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, each := range extra {
		if !pool.AppendCertsFromPEM(each.PEM) {
			return nil, &AuthoritiesError{Source: each.Source, Err: errors.New("there is no certificate in PEM form in it")}
		}
	}
	return pool, nil
}

var errRedirect = errors.New("following a redirect")

// followRedirects ends loops and keeps the URL that redirected from the next server.
func followRedirects(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: stopped after %d redirects, which seem to go in a circle", errRedirect, maxRedirects)
	}
	req.Header.Del("Referer")
	return nil
}

// checkLocation refuses a redirect that net/http cannot follow, since net/http would repeat it with all it holds, and has it
// follow those by other statuses, such as 300, as curl and with it Nix does.
func checkLocation(res *http.Response) error {
	to := res.Header.Get("Location")
	if res.StatusCode/100 != 3 || to == "" {
		return nil
	}
	if _, err := res.Request.URL.Parse(to); err != nil {
		return fmt.Errorf("%w: the answer's Location is not a URL", errRedirect)
	}
	res.StatusCode = http.StatusFound // which is the same to a GET
	return nil
}

// httpTransport gets files by HTTP.
type httpTransport struct {
	client    doer
	logins    *logins
	userAgent string
}

func (t *httpTransport) get(ctx context.Context, r request) (*response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url.String(), nil)
	if err != nil {
		return nil, redact.Error(err)
	}
	req.Header.Set("User-Agent", t.userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	if !r.packed {
		req.Header.Set("Accept-Encoding", acceptEncoding)
	}
	if r.from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", r.from))
		if r.validator != "" {
			req.Header.Set("If-Range", r.validator)
		}
	}
	res, err := t.client.Do(req)
	if err != nil {
		return nil, connectionError(r.url, err)
	}
	a, err := t.read(r, res)
	if err != nil {
		drain(res.Body)
	}
	return a, err
}

// connectionError is why there was no answer.
func connectionError(u *url.URL, err error) error {
	var noTLS tls.RecordHeaderError
	var inURL *url.Error
	switch {
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &noTLS):
		return &SchemeError{URL: redact.URL(u)}
	case errors.As(err, &inURL) && u.Scheme == "http" && strings.Contains(inURL.Err.Error(), `malformed HTTP response "\x15\x03`):
		return &SchemeError{TLS: true, URL: redact.URL(u)} // an alert of TLS
	}
	return fmt.Errorf("downloading %s: %w", redact.URL(u), redact.Error(err))
}

func (t *httpTransport) read(r request, res *http.Response) (*response, error) {
	a := &response{
		body:      res.Body,
		size:      res.ContentLength,
		validator: strongETag(res.Header.Get("ETag")),
		encoding:  contentEncoding(res.Header),
		openEnd:   res.ContentLength < 0 && res.ProtoMajor == 1 && len(res.TransferEncoding) == 0,
		html:      strings.HasPrefix(res.Header.Get("Content-Type"), "text/html"),
	}
	switch res.StatusCode {
	case http.StatusOK, http.StatusCreated: // which some servers say of what they have just made, and Nix takes
		return a, nil
	case http.StatusPartialContent:
		return a, a.readRange(res.Header.Get("Content-Range"), r.from)
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	if res.StatusCode == http.StatusBadRequest && res.TLS == nil && speaksTLS(body) {
		return nil, &SchemeError{TLS: true, URL: redact.URL(r.url)}
	}
	failure := &StatusError{
		URL: redact.URL(r.url), Code: res.StatusCode, Status: text.Short(res.Status), LoginSent: t.logins.find(r.url) != Credential{},
		retryAfter: retry.After(res.Header),
	}
	failure.readS3(res.Header, body)
	return nil, failure
}

// speaksTLS reports whether a server says so to somebody who does not: Go's, nginx and Apache do it in these words.
func speaksTLS(body []byte) bool {
	for _, words := range []string{
		"HTTP request to an HTTPS server", "plain HTTP request was sent to HTTPS port", "plain HTTP to an SSL-enabled server port",
	} {
		if bytes.Contains(body, []byte(words)) {
			return true
		}
	}
	return false
}

// readS3 reads S3's own words.
func (e *StatusError) readS3(header http.Header, body []byte) {
	var document struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
		Region  string
	}
	if xml.Unmarshal(body, &document) == nil {
		e.S3Code, e.S3Message = shownName(document.Code), text.Printable(text.Line(text.Short(redact.Text(document.Message))))
	}
	e.Region = shownName(cmp.Or(header.Get("X-Amz-Bucket-Region"), document.Region))
}

var errWrongRange = errors.New("continuing a transfer")

// readRange checks that "bytes <from>-<to>/<size>" starts where it was asked to. Some servers answer so, too, where the
// whole was asked for; then there need not be a range.
func (r *response) readRange(header string, from int64) error {
	if from == 0 && header == "" {
		return nil
	}
	span, whole, _ := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	first, _, _ := strings.Cut(span, "-")
	n, err := strconv.ParseInt(strings.TrimSpace(first), 10, 64)
	if err != nil && from == 0 {
		return nil // something that is no range of bytes; what it holds is checked like all
	}
	if err != nil || n != from {
		return fmt.Errorf("%w: asked to continue at byte %d, the answer is range %q", errWrongRange, from, text.Short(header))
	}
	r.from = from
	if size, err := strconv.ParseInt(whole, 10, 64); err == nil && from == 0 && r.encoding == "" {
		r.size = size // of all of it, the rest of which is asked for when this has come
	}
	return nil
}

// strongETag is an ETag that If-Range may use.
func strongETag(tag string) string {
	if strings.HasPrefix(tag, "W/") {
		return ""
	}
	return tag
}

// contentEncoding is what a body is encoded by, "" where it is not, and a list where it is more than once.
func contentEncoding(h http.Header) string {
	var encodings []string
	for e := range strings.SplitSeq(strings.ToLower(strings.Join(h.Values("Content-Encoding"), ",")), ",") {
		e = strings.TrimPrefix(strings.TrimSpace(e), "x-") // an older name of the same
		if e != "" && e != "identity" && e != "none" {
			encodings = append(encodings, e)
		}
	}
	return strings.Join(encodings, ", ")
}
