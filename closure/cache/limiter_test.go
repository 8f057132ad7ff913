package cache_test

import (
	stdcontext "context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestLimiter(t *testing.T) {
	spec.Run(t, "a cache that limits requests", testLimiter, spec.Report(report.Terminal{}))
}

// bucket is the leaky bucket of nginx's limit_req (ngx_http_limit_req_module.c).
type bucket struct {
	mu            sync.Mutex
	rate, burst   float64
	excess        float64
	last          time.Time
	refused, flow int
}

func (b *bucket) refuses() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	excess := max(0, b.excess-b.rate*now.Sub(b.last).Seconds()+1)
	if b.last.IsZero() {
		excess = 0
	}
	if excess > b.burst {
		b.refused++
		return true
	}
	b.excess, b.last = excess, now
	b.flow++
	return false
}

func testLimiter(t *testing.T, context spec.G, it spec.S) {
	var s *server
	data := []byte("a NAR")

	it.Before(func() {
		RegisterTestingT(t)
		s = newServer(t)
	})

	fetchAll := func(set *cache.Set, paths []storepath.Path) {
		t.Helper()
		var group sync.WaitGroup
		for _, p := range paths {
			group.Go(func() {
				if got, err := fetch(set, p); err != nil || string(got) != string(data) {
					t.Errorf("%s: %q, %v", p, got, err)
				}
			})
		}
		group.Wait()
	}
	publish := func(count int) (paths []storepath.Path) {
		for i := range count {
			paths = append(paths, s.add(t, fmt.Sprint("p", i), "none", data, nil).StorePath)
		}
		return paths
	}

	// Four times as fast as an nginx with rate=50r/s, so that the test is.
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		for _, c := range []struct {
			burst int
			after string
		}{{0, ""}, {5, "1"}, {20, ""}} {
			burst, after := c.burst, c.after
			it(fmt.Sprintf("by nginx's limit_req burst=%d, with status %d and Retry-After %q, serves all", burst, code, after), func() {
				limit := &bucket{rate: 200, burst: float64(burst)}
				s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
					time.Sleep(time.Millisecond)
					refused := limit.refuses()
					if refused {
						if after != "" {
							w.Header().Set("Retry-After", after)
						}
						w.WriteHeader(code)
					}
					return refused
				})
				o := options(s.URL)
				o.Policy.Backoff = 50 * time.Millisecond
				o.Policy.Disable = 100 * time.Millisecond // which bounds Retry-After
				log := &logged{}
				o.Log = log.log
				set := open(t, o)
				fetchAll(set, publish(60))
				Expect(log.lines).To(BeEmpty())
				Expect(limit.refused).To(BeNumerically("<", limit.flow), "more refusals than answers")
			})
		}
	}

	it("to so many connections serves all, however long those last", func() {
		var streams atomic.Int32
		s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if !strings.HasPrefix(r.URL.Path, "/nar/") {
				return false
			}
			defer streams.Add(-1)
			if streams.Add(1) > 4 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
			for _, b := range data {
				w.Write([]byte{b})
				w.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
			return true
		})
		o := options(s.URL)
		o.Policy.Backoff = 50 * time.Millisecond // five pauses are longer than a busy machine lets the four stand still
		fetchAll(open(t, o), publish(40))
	})

	it("has fewer requests unanswered while it refuses some", func() {
		var now, most atomic.Int32
		var refusing atomic.Bool
		s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(2 * time.Millisecond)
			if refuse := refusing.Load() && n > 2; refuse {
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			}
			return false
		})
		set := open(t, options(s.URL))
		paths := publish(200)
		fetchAll(set, paths[:100])
		refusing.Store(true)
		fetchAll(set, paths[100:150])
		most.Store(0)
		fetchAll(set, paths[150:])
		Expect(most.Load()).To(BeNumerically("<", cache.LookupsAtOnce/2))
	})

	it("is given up after five pauses, however many paths were asked for", func() {
		o := options(s.URL)
		o.Policy.Backoff = 50 * time.Millisecond
		set := open(t, o)
		s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool { w.WriteHeader(503); return true })
		errs := make(chan error, 200)
		for i := range cap(errs) {
			go func() {
				_, err := set.Lookup(stdcontext.Background(), storePath(fmt.Sprint("nowhere", i)))
				errs <- err
			}()
		}
		Expect(<-errs).To(MatchError(ContainSubstring("503 Service Unavailable")))
		Expect(len(s.asked(".narinfo"))).To(BeNumerically("<", cap(errs)), "64 before the first pause, and few after it")
	})

	it("is given up where it refuses everything", func() {
		set := open(t, options(s.URL))
		s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool { w.WriteHeader(429); return true })
		_, err := set.Lookup(stdcontext.Background(), storePath("a"))
		Expect(answers(err)).To(ConsistOf(HaveField("Reason", cache.Down)))
		Expect(s.asked(".narinfo")).To(HaveLen(5))
	})
}
