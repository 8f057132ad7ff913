package nixinstall

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/internal/proxies"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
)

// loopback is where Nix finds the substituters that it cannot use by itself, for as long as one command runs: those
// that want a header or a session, which it cannot send, those at a link-local address, whose zone it does not pass on, and
// directories that it may not write to, as it makes directories of its own in a file:// cache before it reads it.
type loopback struct {
	// urls are all substituters as Nix is to ask them.
	urls []string
	// names has the addresses here and whom they stand for, alternately, without settings.
	names   []string
	servers []*http.Server
}

// serve starts what the settings need.
func (s Settings) serve(bundle []byte) (*loopback, error) {
	l := &loopback{}
	for _, given := range s.Substituters {
		plain, query, found := strings.Cut(given, "?")
		if found {
			query = "?" + query
		}
		handler, err := s.handler(plain, given, bundle)
		if err != nil {
			l.stop()
			return nil, err
		}
		if handler == nil {
			l.urls = append(l.urls, given)
			continue
		}
		address, err := l.listen(handler)
		if err != nil {
			l.stop()
			return nil, err
		}
		l.urls = append(l.urls, address+query)
		l.names = append(l.names, address, plain)
	}
	return l, nil
}

// handler answers for a substituter, as it is given and without its settings; nil is one that Nix can use.
func (s Settings) handler(plain, given string, bundle []byte) (http.Handler, error) {
	authorization, wrap := s.Authorization[given], s.Wrap[given]
	if rest, ok := strings.CutPrefix(plain, "file://"); ok {
		dir, err := url.PathUnescape(rest)
		if err != nil || unix.Access(dir, unix.W_OK) == nil {
			return nil, nil
		}
		return http.FileServer(http.Dir(dir)), nil
	}
	base, err := url.Parse(plain)
	if err != nil {
		return nil, fmt.Errorf("%s is no URL", redact.Text(plain))
	}
	if authorization == "" && wrap == nil && !strings.Contains(base.Hostname(), "%") {
		return nil, nil
	}
	var transport http.RoundTripper = s.transport(bundle)
	if wrap != nil {
		transport = wrap(transport)
	}
	if authorization != "" {
		transport = &authorizer{origin: base, header: authorization, next: transport}
	}
	return proxy(base, transport), nil
}

// listen serves under an address that nobody else on this machine can guess.
func (l *loopback) listen(handler http.Handler) (address string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		listener, err = net.Listen("tcp", "[::1]:0") // a machine may have IPv6 alone
	}
	if err != nil {
		return "", err
	}
	prefix := "/" + rand.Text()
	server := &http.Server{Handler: http.StripPrefix(prefix, handler), ReadHeaderTimeout: time.Minute}
	l.servers = append(l.servers, server)
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String() + prefix, nil
}

func (l *loopback) stop() {
	for _, server := range l.servers {
		_ = server.Close()
	}
}

// proxy asks a substituter with its login. Redirects are followed here: the login goes to the substituter's own origin
// and to nobody else.
func proxy(base *url.URL, transport http.RoundTripper) http.Handler {
	client := &http.Client{Transport: transport}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(base)
			r.Out.RequestURI = "" // which only a server's request has
		},
		Transport: roundTripper(client.Do),
		ErrorLog:  log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, redact.Text(err.Error()), http.StatusBadGateway) // Nix repeats it
		},
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// authorizer adds the header to what goes to its origin.
type authorizer struct {
	origin *url.URL
	header string
	next   http.RoundTripper
}

func (b *authorizer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == b.origin.Scheme && r.URL.Host == b.origin.Host {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", b.header)
	}
	return b.next.RoundTrip(r)
}

// transport connects as Nix would: with the same proxies, certificate authorities and patience.
func (s Settings) transport(bundle []byte) *http.Transport {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	choose := proxies.Variables(s.getenv, func(string, ...any) {}) // package cache names what is no proxy, where it reads them
	return &http.Transport{
		Proxy:              func(r *http.Request) (*url.URL, error) { return choose(r.URL) },
		DialContext:        (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSClientConfig:    &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:  true,
		DisableCompression: true, // what Nix did not ask for it cannot undo
		IdleConnTimeout:    time.Minute,
		// Go's own bound is 10 MiB, and Nix has 25 requests under way.
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// unproxied is the environment in which Nix asks this machine without a proxy.
func (s Settings) unproxied() []string {
	hosts := "127.0.0.1,::1"
	if others := proxies.Exceptions(s.getenv); others == "*" {
		hosts = others
	} else if others != "" {
		hosts = others + "," + hosts
	}
	return append(slices.Clone(s.Environment), "no_proxy="+hosts) // the one that curl reads first; the last one counts
}
