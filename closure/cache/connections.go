package cache

import (
	"context"
	"net"
	"net/http"
	"sync"
)

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
	pool *Transport
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
