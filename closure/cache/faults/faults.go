// Package faults puts a server before a binary cache that does what networks and servers do: by a seed, it answers late,
// not at all, in part, altered, twice, with another file, with a status or a page of HTML, and stops in the midst. Tests
// have a client face it; the same seed gives the same faults for the same requests, in whatever order they come.
package faults

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

// Fault is something that goes wrong with one answer.
type Fault string

// The faults.
const (
	None      Fault = "none"
	Delay     Fault = "delay"     // an answer that comes late
	Drop      Fault = "drop"      // a connection that ends without an answer
	Truncate  Fault = "truncate"  // a shorter body, with a Content-Length that fits it
	Cut       Fault = "cut"       // a connection that ends in the midst of a body
	Reset     Fault = "reset"     // the same, by a reset
	Corrupt   Fault = "corrupt"   // a byte that is another one
	Duplicate Fault = "duplicate" // a part of the body that comes twice
	Status    Fault = "status"    // 403, 404, 429, 500, 502 or 503
	HTML      Fault = "HTML"      // a page of a portal, with status 200
	Stall     Fault = "stall"     // a body that does not go on
	Trickle   Fault = "trickle"   // a body a byte at a time
	Another   Fault = "another"   // another file
)

// all are the faults to choose from.
var all = []Fault{Delay, Drop, Truncate, Cut, Reset, Corrupt, Duplicate, Status, HTML, Stall, Trickle, Another}

// maxStall ends a Stall whose client does not go away.
const maxStall = 10 * time.Second

// statuses are those that a Status has.
var statuses = []int{403, 404, 429, 500, 502, 503}

// Proxy stands before a cache. Its fields are set before it serves.
type Proxy struct {
	// Cache serves the files as they are.
	Cache http.Handler
	// Seed decides which faults there are: about Rate of all answers, from 0 to 1.
	Seed uint64
	Rate float64
	// Pause is what Delay waits, and Trickle for each byte.
	Pause time.Duration

	mu     sync.Mutex
	counts map[string]uint64
	seen   []string // paths that were asked for
	faults map[Fault]int
}

// Faults counts what went wrong so far.
func (p *Proxy) Faults() map[Fault]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := map[Fault]int{}
	for fault, n := range p.faults {
		counts[fault] = n
	}
	return counts
}

// draw decides about the next request for a path.
func (p *Proxy) draw(path string) (Fault, *rand.Rand, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counts == nil {
		p.counts, p.faults = map[string]uint64{}, map[Fault]int{}
	}
	p.counts[path]++
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%d %s", p.counts[path], path)
	random := rand.New(rand.NewPCG(p.Seed, binary.BigEndian.Uint64(sum.Sum(nil))))
	fault := None
	if random.Float64() < p.Rate {
		fault = all[random.IntN(len(all))]
	}
	other := path
	if len(p.seen) > 0 {
		other = p.seen[random.IntN(len(p.seen))]
	}
	if p.counts[path] == 1 {
		p.seen = append(p.seen, path)
	}
	p.faults[fault]++
	return fault, random, other
}

// ServeHTTP answers a request, perhaps wrongly.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault, random, other := p.draw(r.URL.Path)
	switch fault {
	case None:
		p.Cache.ServeHTTP(w, r)
		return
	case Delay:
		p.sleep(r, 1)
		p.Cache.ServeHTTP(w, r)
		return
	case Drop:
		panic(http.ErrAbortHandler)
	case Status:
		code := statuses[random.IntN(len(statuses))]
		if code == http.StatusTooManyRequests && random.IntN(2) == 0 {
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(code)
		return
	case HTML:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!DOCTYPE html><html><body>Please log in</body></html>")
		return
	case Another:
		r = r.Clone(r.Context())
		r.URL.Path, r.URL.RawPath = other, ""
	}
	answer := httptest.NewRecorder()
	p.Cache.ServeHTTP(answer, r)
	p.spoil(w, r, fault, random, answer)
}

// spoil sends an answer whose body is not what it should be.
func (p *Proxy) spoil(w http.ResponseWriter, r *http.Request, fault Fault, random *rand.Rand, answer *httptest.ResponseRecorder) {
	body := answer.Body.Bytes()
	at := 0
	if len(body) > 0 {
		at = random.IntN(len(body))
	}
	promised := len(body)
	switch fault {
	case Truncate:
		body = body[:at]
		promised = at
	case Corrupt:
		if len(body) > 0 {
			body = bytes.Clone(body)
			body[at] ^= 1 << random.IntN(8)
		}
	case Duplicate:
		body = append(body[:at:at], append(body[at/2:at:at], body[at:]...)...)
		promised = len(body)
	case Cut, Reset, Stall:
		body = body[:at]
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", fmt.Sprint(promised))
	w.WriteHeader(answer.Code)
	if fault == Trickle {
		p.trickle(w, r, body)
		return
	}
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).Flush()
	switch fault {
	case Stall:
		select {
		case <-r.Context().Done():
		case <-time.After(maxStall):
		}
	case Reset:
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			c.Close()
			return
		}
		panic(http.ErrAbortHandler)
	case Cut:
		panic(http.ErrAbortHandler)
	}
}

func (p *Proxy) trickle(w http.ResponseWriter, r *http.Request, body []byte) {
	for i := range body {
		if r.Context().Err() != nil {
			return
		}
		if _, err := w.Write(body[i : i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		p.sleep(r, 1)
	}
}

func (p *Proxy) sleep(r *http.Request, times int) {
	select {
	case <-time.After(time.Duration(times) * p.Pause):
	case <-r.Context().Done():
	}
}
