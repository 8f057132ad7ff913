package cache_test

import (
	stdcontext "context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
)

func TestLookup(t *testing.T) {
	spec.Run(t, "lookup", testLookup, spec.Report(report.Terminal{}))
}

func testLookup(t *testing.T, context spec.G, it spec.S) {
	var first, second *server
	ctx := stdcontext.Background()
	data := []byte("a NAR")

	it.Before(func() {
		RegisterTestingT(t)
		first, second = newServer(t), newServer(t)
	})

	info := func(priority int) []byte {
		return fmt.Appendf(nil, "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: %d\n", priority)
	}
	narinfos := func(delay time.Duration) func(http.ResponseWriter, *http.Request, int) bool {
		return func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, ".narinfo") {
				select {
				case <-time.After(delay):
				case <-r.Context().Done():
				}
			}
			return false
		}
	}

	context("several caches", func() {
		var n *narinfo.NarInfo

		it.Before(func() {
			n = first.add(t, "a", "none", data, nil)
			second.add(t, "a", "none", data, nil)
		})

		it("prefers the lowest Priority, and the user's order among equals", func() {
			set := open(t, options(first.URL, second.URL))
			Expect(set.Lookup(ctx, n.StorePath)).To(HaveField("CacheURL", first.URL))
			second.put("nix-cache-info", info(30))
			set = open(t, options(first.URL, second.URL))
			Expect(set.Lookup(ctx, n.StorePath)).To(HaveField("CacheURL", second.URL))
			set = open(t, options(first.URL+"?priority=10", second.URL))
			Expect(set.Lookup(ctx, n.StorePath)).To(HaveField("CacheURL", first.URL))
		})

		it("does not wait for a slow one once the best has answered", func() {
			second.on(narinfos(time.Minute))
			set := open(t, options(first.URL, second.URL))
			began := time.Now()
			Expect(set.Lookup(ctx, n.StorePath)).To(HaveField("CacheURL", first.URL))
			Expect(time.Since(began)).To(BeNumerically("<", busy.Limit(20*time.Second)))
		})

		it("waits for the better of two that both answer", func() {
			first.on(narinfos(50 * time.Millisecond))
			Expect(open(t, options(first.URL, second.URL)).Lookup(ctx, n.StorePath)).To(HaveField("CacheURL", first.URL))
		})

		it("loses patience with a better one that stays silent, and then does not wait for it at all", func() {
			var names []storepath.Path
			for i := range slowCount {
				name := fmt.Sprint("p", i)
				first.add(t, name, "none", data, nil)
				names = append(names, second.add(t, name, "none", data, nil).StorePath)
			}
			first.on(narinfos(1500 * time.Millisecond))
			log := &logged{}
			o := options(first.URL, second.URL)
			const patience = 500 * time.Millisecond
			o.Log = log.log
			o.Policy.Patience = patience
			set := open(t, o)
			began := time.Now()
			for _, p := range names {
				Expect(set.Lookup(ctx, p)).To(HaveField("CacheURL", second.URL))
			}
			Expect(time.Since(began)).To(BeNumerically("<", busy.Limit(slowCount*patience/2)))
			Expect(strings.Count(log.String(), "is quicker by")).To(Equal(1))
		})

		it("waits for a slow one where another says at once that it does not have the path", func() {
			only := first.add(t, "only", "none", data, nil)
			first.on(narinfos(450 * time.Millisecond))
			o := options(first.URL, second.URL)
			o.Policy.Patience = 150 * time.Millisecond
			Expect(open(t, o).Lookup(ctx, only.StorePath)).To(HaveField("CacheURL", first.URL))
		})

		it("asks a slow one all the same where no other has the path", func() {
			only := first.add(t, "only", "none", data, nil)
			first.on(narinfos(400 * time.Millisecond))
			o := options(first.URL, second.URL)
			o.Policy.Patience = 150 * time.Millisecond
			set := open(t, o)
			for range 3 {
				_, err := set.Lookup(ctx, n.StorePath)
				Expect(err).NotTo(HaveOccurred())
			}
			Expect(set.Lookup(ctx, only.StorePath)).To(HaveField("CacheURL", first.URL))
		})

		it("never fails for one that dies when another can serve, and tells of it once", func() {
			log := &logged{}
			o := options(first.URL, second.URL)
			o.Log = log.log
			set := open(t, o)
			first.Close()
			for i := range 10 {
				p := second.add(t, fmt.Sprint("p", i), "none", data, nil).StorePath
				Expect(fetch(set, p)).To(Equal(data))
			}
			Expect(log.lines).To(ConsistOf(ContainSubstring("disabled for 30 s")))
			Expect(strings.Count(log.String(), first.URL)).To(Equal(2), "the cache, and the request's URL: %s", log)
			_, err := set.Lookup(ctx, storePath("nowhere"))
			asked := answers(err)
			Expect(asked[0].Reason).To(Equal(cache.Down))
			Expect(asked[1].Reason).To(Equal(cache.Absent))
		})

		it("does not give a flapping one up", func() {
			first.on(func(w http.ResponseWriter, r *http.Request, n int) bool {
				if n%2 == 1 {
					panic(http.ErrAbortHandler)
				}
				return false
			})
			log, o := &logged{}, options(first.URL)
			o.Log = log.log
			set := open(t, o)
			for i := range 20 {
				p := first.add(t, fmt.Sprint("p", i), "none", data, nil).StorePath
				Expect(fetch(set, p)).To(Equal(data))
			}
			Expect(log.lines).To(BeEmpty())
		})

		it("uses the other one's when a narinfo was altered", func() {
			altered := strings.Replace(n.String(), "NarSize: 5", "NarSize: 6", 1)
			first.put(n.StorePath.HashPart()+".narinfo", []byte(altered))
			log, o := &logged{}, options(first.URL, second.URL)
			o.Log = log.log
			Expect(open(t, o).Lookup(ctx, n.StorePath)).To(HaveField("CacheURL", second.URL))
			Expect(log.lines).To(ConsistOf(ContainSubstring("altered")))
		})
	})

	context("answers that are no narinfo of the path", func() {
		put := func(text string) error {
			p := storePath("a")
			first.put(p.HashPart()+".narinfo", []byte(text))
			_, err := open(t, options(first.URL)).Lookup(ctx, p)
			Expect(answers(err)).To(ConsistOf(HaveField("Reason", cache.Invalid)))
			Expect(err).To(MatchError(And(ContainSubstring(first.URL), ContainSubstring(p.String()))))
			return err
		}

		it("are refused with the field's name", func() {
			other := first.add(t, "b", "none", data, nil)
			Expect(put(other.String())).To(MatchError(ContainSubstring("field StorePath: it is for " +
				other.StorePath.String())))
			Expect(put("<!DOCTYPE html>\n<html>log in</html>")).To(MatchError(ContainSubstring("HTML page")))
			Expect(put(strings.Replace(other.String(), "NarHash: sha256:", "NarHash: md5:", 1))).
				To(MatchError(ContainSubstring("NarHash")))
			put("")
			put(strings.Repeat("x", 2<<20))
		})
	})

	context("no", func() {
		reasons := map[int]cache.Reason{
			404: cache.Absent, 403: cache.Absent, 410: cache.Absent, 401: cache.Login, 500: cache.Down, 501: cache.Down,
		}
		for _, code := range sorted(reasons) {
			it(fmt.Sprintf("is understood from status %d", code), func() {
				first.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
					if strings.HasSuffix(r.URL.Path, ".narinfo") {
						w.WriteHeader(code)
						return true
					}
					return false
				})
				_, err := open(t, options(first.URL)).Lookup(ctx, storePath("a"))
				Expect(answers(err)[0].Reason).To(Equal(reasons[code]), "%v", err)
				if code == 403 {
					Expect(answers(err)[0].Err).To(MatchError(ContainSubstring("HTTP error 403 Forbidden")))
					var status *cache.StatusError
					Expect(errors.As(answers(err)[0].Err, &status)).To(BeTrue(), "for whoever says that the cache may be private")
				}
				if code == 401 {
					Expect(err).To(MatchError(ContainSubstring("wants a login")))
				}
			})
		}

		it("names every cache, also one that was never usable", func() {
			second.put("nix-cache-info", []byte("StoreDir: /gnu/store\n"))
			_, err := open(t, options(first.URL, second.URL)).Lookup(ctx, storePath("a"))
			asked := answers(err)
			Expect(asked).To(HaveLen(2))
			Expect(asked[0].Reason).To(Equal(cache.Absent))
			Expect(asked[1].Why).To(ContainSubstring(`StoreDir: its paths live in "/gnu/store"`))
		})
	})

	it("asks once for a path, whoever wants it", func() {
		n := first.add(t, "a", "none", data, nil)
		set := open(t, options(first.URL))
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				_, err := set.Lookup(ctx, n.StorePath)
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		Expect(first.asked(".narinfo")).To(HaveLen(1))
		Expect(set.Report()[0].NarInfos).To(BeEquivalentTo(1))
	})

	it("returns when its context ends", func() {
		first.on(narinfos(time.Second))
		set := open(t, options(first.URL))
		short, cancel := stdcontext.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		_, err := set.Lookup(short, storePath("a"))
		Expect(err).To(MatchError(stdcontext.DeadlineExceeded))
	})

	it("closes with look-ups under way", func() {
		first.on(narinfos(time.Minute))
		set, err := cache.Open(ctx, options(first.URL))
		Expect(err).NotTo(HaveOccurred())
		go func() {
			time.Sleep(20 * time.Millisecond)
			set.Close()
		}()
		_, err = set.Lookup(ctx, storePath("a"))
		Expect(err).To(HaveOccurred())
	})

	it("asks for 64 paths at the same time, which hides the latency of a distant cache, by connections that it uses again", func() {
		const together = 64
		var mu sync.Mutex
		now, most, full := 0, 0, make(chan struct{})
		finish := sync.OnceFunc(func() { close(full) })
		defer time.AfterFunc(busy.Limit(20*time.Second), finish).Stop() // where no more come
		first.on(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if !strings.HasSuffix(r.URL.Path, ".narinfo") {
				return false
			}
			mu.Lock()
			now++
			if most = max(most, now); now == together {
				finish()
			}
			mu.Unlock()
			select {
			case <-full:
				time.Sleep(100 * time.Millisecond) // in which more would come
			case <-r.Context().Done():
			}
			mu.Lock()
			now--
			mu.Unlock()
			return false
		})
		o := options(first.URL)
		o.Policy.Timeout = time.Minute
		set := open(t, o)
		var group sync.WaitGroup
		for i := range 4 * together {
			p := first.add(t, fmt.Sprint("p", i), "none", data, nil).StorePath
			group.Go(func() {
				if _, err := set.Lookup(ctx, p); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		Expect(most).To(Equal(together))
		connections := map[string]bool{}
		for _, r := range first.asked(".narinfo") {
			connections[r.RemoteAddr] = true
		}
		Expect(len(connections)).To(BeNumerically("<", 2*together))
	})
}

const slowCount = 12
