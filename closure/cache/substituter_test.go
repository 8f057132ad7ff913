package cache_test

import (
	stdcontext "context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
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
			wrong := strings.HasSuffix(r.URL.Path, ".narinfo") && bad.file(r.URL.Path[1:]) == nil
			if wrong {
				answer(w)
			}
			return wrong
		})
	}

	answers := map[string]func(w http.ResponseWriter){
		"an HTML page": func(w http.ResponseWriter) { io.WriteString(w, "<html>log in</html>") },
		"nonsense":     func(w http.ResponseWriter) { io.WriteString(w, "x") },
		"401":          func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) },
	}
	for _, what := range sorted(answers) {
		it("that says "+what+" to everything is told of once, and in the end asked only where no other has a path", func() {
			badNarinfos(answers[what])
			fetchAll()
			Expect(bad.asked(".narinfo")).To(HaveLen(10))
			Expect(log.lines).To(HaveLen(2), log.String())
			Expect(log.lines[1]).To(ContainSubstring("only asked where no other has a path"))
			Expect(set.Report()[0].Failures).To(ConsistOf(ContainSubstring("(and 9 more like it)"), Not(BeEmpty())))
			only := bad.add(t, "only", "none", data, nil)
			Expect(fetch(set, only.StorePath)).To(Equal(data))
			_, err := set.Lookup(stdcontext.Background(), storePath("nowhere"))
			Expect(err).To(MatchError(And(ContainSubstring(bad.URL), ContainSubstring(good.URL))))
		})
	}

	it("whose NARs are not as promised is told of once, and in the end not asked for those that another has", func() {
		for i := range 30 {
			n := bad.add(t, fmt.Sprint("p", i), "none", data, nil)
			bad.put(n.URL, []byte("other"))
		}
		fetchAll()
		Expect(bad.asked(".nar.none")).To(HaveLen(fast.DownAfter))
		Expect(log.lines).To(HaveLen(2), log.String())
		Expect(set.Report()[0].Failures[0]).To(And(ContainSubstring("NarHash"), HaveSuffix("(and 2 more like it)")))
	})
}
