package cache_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

func TestFallback(t *testing.T) {
	spec.Run(t, "a NAR that two caches have", testFallback, spec.Report(report.Terminal{}))
}

func testFallback(t *testing.T, context spec.G, it spec.S) {
	var (
		first, second *server
		n             *narinfo.NarInfo
		o             cache.Options
		data          = content("a", 100_000)
	)

	it.Before(func() {
		RegisterTestingT(t)
		first, second = newServer(t), newServer(t)
		n = first.add(t, "a", "xz", data, nil)
		second.add(t, "a", "zstd", data, nil)
		o = options(first.URL, second.URL)
	})

	// onNAR intercepts requests for NARs of the first cache. from is the byte that is asked for.
	onNAR := func(f func(w http.ResponseWriter, r *http.Request, file []byte, from int)) {
		first.on(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			if !strings.HasPrefix(r.URL.Path, "/nar/") {
				return false
			}
			var from int
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
			f(w, r, first.file(r.URL.Path[1:]), from)
			return true
		})
	}
	// begin answers with a part of a file and says that the rest will follow.
	begin := func(w http.ResponseWriter, file []byte, from, to int) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(file)-1, len(file)))
		w.Header().Set("Content-Length", fmt.Sprint(len(file)-from))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		w.Write(file[from:to])
		w.(http.Flusher).Flush()
	}
	// drip answers slowly.
	drip := func(w http.ResponseWriter, r *http.Request, file []byte, from int) {
		begin(w, file, from, from)
		for rest := file[from:]; len(rest) > 0 && r.Context().Err() == nil; {
			some := min(len(rest), 10)
			w.Write(rest[:some])
			w.(http.Flusher).Flush()
			rest = rest[some:]
			time.Sleep(10 * time.Millisecond)
		}
	}
	// dripped is what is said of that, the second where this machine was busy and the next bytes came later than they were written
	const dripped = `(too little arrives: \d+ bytes in .*|no byte arrived in time.*)`
	arrives := func(set *cache.Set, from string) {
		t.Helper()
		got, err := fetch(set, n.StorePath)
		Expect(err).NotTo(HaveOccurred())
		Expect(bytes.Equal(got, data)).To(BeTrue())
		for _, r := range set.Report() {
			Expect(r.Paths > 0).To(Equal(r.URL == from), "%+v", r)
		}
	}

	it("is fetched from the other when one falls silent after every byte", func() {
		onNAR(func(w http.ResponseWriter, r *http.Request, file []byte, from int) {
			begin(w, file, from, from+1)
			<-r.Context().Done()
		})
		arrives(open(t, o), second.URL)
		Expect(first.asked(n.URL)).To(HaveLen(1))
	})

	it("is fetched from the other when one is too slow", func() {
		onNAR(drip)
		log := &logged{}
		o.Log = log.log
		arrives(open(t, o), second.URL)
		last := len(log.lines) - 1
		Expect(log.lines[max(last, 0):]).To(ConsistOf(MatchRegexp(dripped + "; another cache has it")))
		for _, line := range log.lines[:last] { // where this machine was busy, and its download is gone on with
			Expect(line).To(MatchRegexp(`: waiting for .*: no byte arrived in time .*; \d+ bytes came so far$`))
		}
	})

	it("is taken up again where it was left when no other has it after all", func() {
		slow := true
		onNAR(func(w http.ResponseWriter, r *http.Request, file []byte, from int) {
			if slow {
				slow = false
				drip(w, r, file, from)
				return
			}
			begin(w, file, from, len(file))
		})
		second.put("nar/a.nar.zstd", []byte("broken"))
		arrives(open(t, o), first.URL)
	})

	it("is an error that says what was wrong with each when one is too slow and the other's is wrong", func() {
		onNAR(drip)
		second.put("nar/a.nar.zstd", []byte("broken"))
		_, err := fetch(open(t, o), n.StorePath)
		Expect(err).To(MatchError(And(MatchRegexp(dripped), ContainSubstring("magic number"))))
	})

	it("is fetched from the other at once when one asks for a pause, and so is the next", func() {
		onNAR(func(w http.ResponseWriter, r *http.Request, _ []byte, _ int) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		})
		log := &logged{}
		o.Policy.Patience = 150 * time.Millisecond
		o.Log = log.log
		set := open(t, o)
		next := first.add(t, "b", "xz", data, nil)
		second.add(t, "b", "xz", data, nil)
		found, err := set.Lookup(t.Context(), next.StorePath)
		Expect(err).NotTo(HaveOccurred())
		Expect(found.CacheURL).To(Equal(first.URL))
		arrives(set, second.URL)
		got, err := read(set, found)
		Expect(err).NotTo(HaveOccurred())
		Expect(bytes.Equal(got, data)).To(BeTrue())
		Expect(first.asked(next.URL)).To(BeEmpty())
		Expect(strings.Count(log.String(), "another cache has it")).To(Equal(1), log.String())
	})

	it("is fetched from the other when one does not begin, and waited for where there is no other", func() {
		o.Policy.Timeout = 50 * time.Millisecond
		onNAR(func(w http.ResponseWriter, r *http.Request, file []byte, _ int) {
			select {
			case <-time.After(500 * time.Millisecond):
				w.Write(file)
			case <-r.Context().Done():
			}
		})
		arrives(open(t, o), second.URL)
		o.URLs = o.URLs[:1]
		arrives(open(t, o), first.URL)
		Expect(first.asked(n.URL)).To(HaveLen(2))
	})

	it("is not even asked for where one has hung, as the cache is disabled", func() {
		onNAR(func(w http.ResponseWriter, r *http.Request, file []byte, from int) {
			begin(w, file, from, from)
			<-r.Context().Done()
		})
		set := open(t, o)
		for i := range 6 {
			p := first.add(t, fmt.Sprint("p", i), "none", data, nil).StorePath
			second.add(t, fmt.Sprint("p", i), "none", data, nil)
			_, err := fetch(set, p)
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(first.asked(".nar.none")).To(HaveLen(1))
	})
}
