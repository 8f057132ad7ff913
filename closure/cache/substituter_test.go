package cache_test

import (
	stdcontext "context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
)

func TestSubstituter(t *testing.T) {
	spec.Run(t, "a cache in trouble", testSubstituter, spec.Report(report.Terminal{}))
}

func testSubstituter(t *testing.T, context spec.G, it spec.S) {
	var (
		bad, good *server
		set       *cache.Set
		log       *logged
		data      = []byte("a NAR")
	)

	it.Before(func() {
		RegisterTestingT(t)
		bad, good, log = newServer(t), newServer(t), &logged{}
		o := options(bad.URL, good.URL)
		o.Log = log.log
		set = open(t, o)
	})

	// fetchAll fetches thirty paths that the good cache has.
	fetchAll := func() {
		t.Helper()
		for i := range 30 {
			Expect(fetch(set, good.add(t, fmt.Sprint("p", i), "none", data, nil).StorePath)).To(Equal(data))
		}
	}
	badNarinfos := func(answer func(w http.ResponseWriter)) {
		bad.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if bad.file(r.URL.Path[1:]) != nil {
				return false
			}
			answer(w)
			return true
		})
	}

	wrong := map[string]func(w http.ResponseWriter){
		"an HTML page": func(w http.ResponseWriter) { io.WriteString(w, "<html>log in</html>") },
		"nonsense":     func(w http.ResponseWriter) { io.WriteString(w, "x") },
		"401":          func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) },
	}
	for _, what := range sorted(wrong) {
		it("that says "+what+" to everything is told of once, and disabled: asked only where no other has a path", func() {
			badNarinfos(wrong[what])
			fetchAll()
			Expect(bad.asked(".narinfo")).To(HaveLen(1))
			Expect(log.lines).To(ConsistOf(ContainSubstring("disabled for 30 s")), log.String())
			only := bad.add(t, "only", "none", data, nil)
			Expect(fetch(set, only.StorePath)).To(Equal(data))
			_, err := set.Lookup(stdcontext.Background(), storePath("nowhere"))
			Expect(err).To(MatchError(And(ContainSubstring(bad.URL), ContainSubstring(good.URL))))
		})
	}

	it("is asked again when its time is over", func() {
		o := options(bad.URL, good.URL)
		const disabled = 50 * time.Millisecond
		o.Policy.Disable = disabled
		set = open(t, o)
		badNarinfos(wrong["nonsense"])
		fetchAll()
		n := bad.add(t, "both", "none", data, nil)
		good.add(t, "both", "none", data, nil)
		time.Sleep(disabled)
		Expect(set.Lookup(stdcontext.Background(), n.StorePath)).To(HaveField("CacheURL", bad.URL))
	})

	it("that fails is asked once more where no other has a path", func() {
		bad.on(func(w http.ResponseWriter, r *http.Request, _ int) bool { w.WriteHeader(500); return true })
		_, err := set.Lookup(stdcontext.Background(), storePath("a"))
		Expect(err).To(HaveOccurred())
		before := len(bad.asked(".narinfo"))
		_, err = set.Lookup(stdcontext.Background(), storePath("nowhere"))
		Expect(bad.asked(".narinfo")).To(HaveLen(before + 1))
		Expect(answers(err)[0].Reason).To(Equal(cache.Down))
	})

	it("that hangs costs those who wait for their turn no more than those who have it", func() {
		o := options(bad.URL, good.URL)
		o.Policy.Timeout = 300 * time.Millisecond
		set = open(t, o)
		bad.on(func(w http.ResponseWriter, r *http.Request, _ int) bool { <-r.Context().Done(); return true })
		began := time.Now()
		var group sync.WaitGroup
		for i := range 1000 {
			group.Go(func() {
				if _, err := set.Lookup(stdcontext.Background(), storePath(fmt.Sprint("nowhere", i))); err == nil {
					t.Error("found what is not there")
				}
			})
		}
		group.Wait()
		Expect(time.Since(began)).To(BeNumerically("<", busy.Limit(5*time.Second)), "16 turns of 600 ms")
	})

	it("whose NARs are not as promised is told of once, and disabled", func() {
		for i := range 30 {
			n := bad.add(t, fmt.Sprint("p", i), "none", data, nil)
			bad.put(n.URL, []byte("other"))
		}
		fetchAll()
		Expect(bad.asked(".nar.none")).To(HaveLen(1))
		Expect(log.lines).To(ConsistOf(And(ContainSubstring("disabled for 30 s"), ContainSubstring("NarHash"))), log.String())
	})
}
