package cache

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
)

// maxUnasked is how many bytes a server may send while nothing is asked of it: what was on its way when requests were given up,
// as many as there may be, and a handshake.
const maxUnasked = 32 << 20

// errUnasked is the end of a connection on which a server goes on sending.
var errUnasked = errors.New("the server sends what nobody asks for")

// Transport is a pool of connections. Close ends them all, also those that a server goes on sending on though nothing is asked
// of it: an HTTP/2 connection whose last request was given up is none that http.Transport would close.
type Transport struct {
	*http.Transport

	mu     sync.Mutex
	open   map[*connection]struct{}
	closed bool
}

// connection is one that its pool can close.
type connection struct {
	net.Conn
	pool    *Transport
	asking  atomic.Int32 // requests that are under way
	unasked atomic.Int64 // bytes that came since there was none
}

// Read reads a piece, and closes the connection where that goes on though nobody asks: HTTP/2 has pings, settings and other
// frames that a server may send at any time, and each costs time to read.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.asking.Load() > 0 {
		c.unasked.Store(0)
	} else if c.unasked.Add(int64(n)) > maxUnasked {
		return n, errors.Join(errUnasked, c.Close())
	}
	return n, err
}

// RoundTrip makes a request. It is under way until the answer's body is closed.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	u := &asked{}
	res, err := t.Transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: u.begin})))
	if err != nil {
		u.end()
		return nil, err
	}
	res.Body = &askedBody{res.Body, u}
	return res, nil
}

// asked are the connections on which one request was made: another one where the first had been closed by the server.
type asked struct {
	mu    sync.Mutex
	on    []*connection
	ended bool
}

func (a *asked) begin(info httptrace.GotConnInfo) {
	conn := info.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := conn.(*connection); ok && !a.ended {
		c.asking.Add(1)
		a.on = append(a.on, c)
	}
}

func (a *asked) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	for _, c := range a.on {
		c.asking.Add(-1)
	}
	a.on = nil
}

// askedBody is an answer's body.
type askedBody struct {
	io.ReadCloser
	asked *asked
}

// Close ends the request.
func (b *askedBody) Close() error {
	defer b.asked.end()
	return b.ReadCloser.Close()
}

// NewTransport connects as a Set with these options does: by the same proxies, certificate authorities and time limits.
// It is for other servers of whoever runs the caches.
func NewTransport(o Options) (*Transport, error) {
	h, err := newHTTPTransport(o.withDefaults())
	if err != nil {
		return nil, err
	}
	t := &Transport{Transport: h, open: map[*connection]struct{}{}}
	dial := h.DialContext
	h.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return t.add(c)
	}
	return t, nil
}

// add takes a connection in; after Close there is none.
func (t *Transport) add(c net.Conn) (net.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	added := &connection{Conn: c, pool: t}
	t.open[added] = struct{}{}
	return added, nil
}

// Close closes every connection; the transport makes no other.
func (t *Transport) Close() {
	t.mu.Lock()
	t.closed = true
	open := t.open
	t.open = map[*connection]struct{}{}
	t.mu.Unlock()
	for c := range open {
		c.Conn.Close()
	}
	t.CloseIdleConnections()
}

func (c *connection) Close() error {
	c.pool.mu.Lock()
	delete(c.pool.open, c)
	c.pool.mu.Unlock()
	return c.Conn.Close()
}
