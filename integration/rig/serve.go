package rig

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Fault is a way for a Server to misbehave.
type Fault int

// The faults a Server knows.
const (
	NoFault   Fault = iota
	Drop            // the connection ends without an answer
	Truncated       // the full length is promised, half of it sent
	Altered         // one byte in the middle is another
	Login           // an HTML page of status 200
)

// ServeOptions say how a Server behaves.
type ServeOptions struct {
	// Latency is waited before each answer.
	Latency time.Duration
	// Bandwidth limits the bodies of all answers together, in bytes a second. 0 is no limit.
	Bandwidth int64
	// Fault is asked before each answer; attempt counts the requests for this path from 1. Nil is no fault.
	Fault func(path string, attempt int) Fault
	// User and Password are demanded by Basic authentication, when User is not empty.
	User, Password string
	// Wrap, when not nil, stands between the server's log and the files.
	Wrap func(http.Handler) http.Handler
	// Address is where to listen; empty means a free port of loopback: of 127.0.0.1, or of ::1
	// where there is no IPv4.
	Address string
}

// Request is one that a Server answered.
type Request struct {
	Method, Path string
	Status       int   // 0 when the connection was dropped
	Bytes        int64 // of the answer's body
}

// Server serves a directory's files as plain HTTP on loopback, with ranges, and counts what it sends.
type Server struct {
	// URL has no slash at the end.
	URL string

	options  ServeOptions
	dir      string
	http     *http.Server
	closed   chan struct{}
	mu       sync.Mutex
	requests []Request
	attempts map[string]int
	busy     time.Time // until when what was sent fills the line
}

// Serve serves a directory, typically a binary cache, until Close.
func Serve(dir string, options ServeOptions) (*Server, error) {
	listener, err := listen(options.Address)
	if err != nil {
		return nil, fmt.Errorf("serving %s: %w", dir, err)
	}
	s := &Server{
		URL: "http://" + listener.Addr().String(), options: options, dir: dir,
		closed: make(chan struct{}), attempts: map[string]int{},
	}
	var handler http.Handler = http.HandlerFunc(s.file)
	if options.Wrap != nil {
		handler = options.Wrap(handler)
	}
	s.http = &http.Server{Handler: s.logged(handler), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.http.Serve(listener) }()
	return s, nil
}

func listen(address string) (net.Listener, error) {
	if address != "" {
		return net.Listen("tcp", address)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return net.Listen("tcp", "[::1]:0")
	}
	return listener, nil
}

// Close ends the server and its connections at once.
func (s *Server) Close() error {
	close(s.closed)
	return s.http.Close()
}

// Requests gives the answered requests so far, in the order of their ends.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Traffic sums up the requests so far whose path ends in suffix ("" is all): how many, and bytes of bodies.
func (s *Server) Traffic(suffix string) (requests int, bytes int64) {
	for _, request := range s.Requests() {
		if strings.HasSuffix(request.Path, suffix) {
			requests++
			bytes += request.Bytes
		}
	}
	return requests, bytes
}

// Reset forgets the requests so far.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.attempts = nil, map[string]int{}
}

// SetFault changes ServeOptions.Fault while running.
func (s *Server) SetFault(fault func(path string, attempt int) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options.Fault = fault
}

func (s *Server) fault(path string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts[path]++
	if s.options.Fault == nil {
		return NoFault
	}
	return s.options.Fault(path, s.attempts[path])
}

func (s *Server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		counted := &counter{ResponseWriter: w, server: s}
		defer func() {
			request := Request{Method: r.Method, Path: r.URL.Path, Status: counted.status, Bytes: counted.bytes}
			s.mu.Lock()
			s.requests = append(s.requests, request)
			s.mu.Unlock()
		}()
		if s.options.Latency > 0 {
			select {
			case <-time.After(s.options.Latency):
			case <-r.Context().Done():
			}
		}
		next.ServeHTTP(counted, r)
	})
}

// file answers one request.
func (s *Server) file(w http.ResponseWriter, r *http.Request) {
	fault := s.fault(r.URL.Path)
	if s.options.User != "" {
		user, password, _ := r.BasicAuth()
		if user != s.options.User || password != s.options.Password {
			w.Header().Set("WWW-Authenticate", `Basic realm="cache"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
	}
	switch fault {
	case Drop:
		panic(http.ErrAbortHandler)
	case Login:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!DOCTYPE html><html><body><form>Please log in</form></body></html>\n")
		return
	}
	s.send(w, r, fault)
}

func (s *Server) send(w http.ResponseWriter, r *http.Request, fault Fault) {
	local := strings.TrimPrefix(r.URL.Path, "/")
	name := filepath.Join(s.dir, filepath.FromSlash(local))
	if info, err := os.Stat(name); err != nil || info.IsDir() || !filepath.IsLocal(local) {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if strings.HasSuffix(name, ".narinfo") {
		w.Header().Set("Content-Type", "text/x-nix-narinfo")
	}
	if fault == NoFault {
		http.ServeFile(w, r, name)
		return
	}
	contents, err := os.ReadFile(name)
	if err != nil || len(contents) == 0 {
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(contents)))
	half := len(contents) / 2
	if fault == Altered {
		contents[half] ^= 0x55
		_, _ = w.Write(contents)
		return
	}
	_, _ = w.Write(contents[:half])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// counter counts and slows an answer.
type counter struct {
	http.ResponseWriter
	server *Server
	status int
	bytes  int64
}

// WriteHeader notes the status.
func (c *counter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

// Write counts, in pieces of a packet or so where answers share a line.
func (c *counter) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	largest := len(p)
	if c.server.options.Bandwidth > 0 {
		largest = min(largest, linePiece)
	}
	written := 0
	for written < len(p) {
		n, err := c.ResponseWriter.Write(p[written:min(len(p), written+largest)])
		written += n
		c.bytes += int64(n)
		if err != nil {
			return written, err
		}
		c.server.slow(n)
	}
	return written, nil
}

// linePiece is what one answer sends at a time over a line that others share: two of the largest packets.
const linePiece = 128 << 10

// slow waits for as long as n bytes take.
func (s *Server) slow(n int) {
	if s.options.Bandwidth <= 0 {
		return
	}
	s.mu.Lock()
	now := time.Now()
	if s.busy.Before(now) {
		s.busy = now
	}
	s.busy = s.busy.Add(time.Duration(int64(n) * int64(time.Second) / s.options.Bandwidth))
	wait := s.busy.Sub(now)
	s.mu.Unlock()
	time.Sleep(wait)
}

// ReadFrom keeps the fast path of large files where nothing is slowed.
func (c *counter) ReadFrom(r io.Reader) (int64, error) {
	if c.server.options.Bandwidth > 0 {
		buf := make([]byte, linePiece)
		return io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{r}, buf)
	}
	if c.status == 0 {
		c.status = http.StatusOK
	}
	n, err := io.Copy(c.ResponseWriter, r)
	c.bytes += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
