package hydra_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// hostileMemory is what a hostile answer may make of this process's heap, garbage included.
const hostileMemory = 224 << 20

// repeat writes a text until the client hangs up, or so much that any limit is passed.
func repeat(w io.Writer, text string) {
	chunk := []byte(strings.Repeat(text, max(1, (64<<10)/len(text))))
	for written := 0; written < 200<<20; written += len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// TestHostileAnswersTakeLittleMemory has answers without end, and such whose parsed form is many times as large.
func TestHostileAnswersTakeLittleMemory(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	evals := fmt.Sprintf(`{"evals":[{"id":7,"builds":[1],"timestamp":1,"jobsetevalinputs":{"src":{"revision":%q}}}]}`, shopRev(0))
	failed := `[{"id":1,"job":"app","finished":1,"buildstatus":1,"system":"x86_64-linux"}]`
	pages := func(where, begin, text, end string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			answer := map[string]string{"evals": evals, "builds": failed, "constituents": "[]"}[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]
			if r.Header.Get("Accept") == "text/html" {
				answer = "<html>"
			}
			if strings.HasSuffix(r.URL.Path, where) && (answer == "<html>") == (where == "/build/1" || where == "/errors") {
				fmt.Fprint(w, begin)
				repeat(w, text)
				fmt.Fprint(w, end)
				return
			}
			fmt.Fprint(w, answer)
		}
	}
	formats := "<table><tr><td>1</td>"
	for i := range 3000 {
		formats += fmt.Sprintf("<b id=%d>", i)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"evaluations without end":            pages("/evals", `{"evals":[`, `{"id":1},`, `{"id":2}]}`),
		"an evaluation of inputs":            pages("/evals", `{"evals":[{"id":7,"jobsetevalinputs":{`, `"a":{},`, `"b":{}}}]}`),
		"an evaluation of builds":            pages("/evals", `{"evals":[{"id":7,"builds":[`, `1,`, `1]}]}`),
		"a page of pages":                    pages("/evals", `[`, `{"evals":[]},`, `{"evals":[]}]`),
		"a text without end":                 pages("/evals", `{"next":"`, `aaaaaaaaaaaaaaaa`, `"}`),
		"a name without end":                 pages("/evals", `{"`, `aaaaaaaaaaaaaaaa`, `":1}`),
		"fields without end":                 pages("/evals", `{`, `"a":1,`, `"evals":[]}`),
		"lists in lists":                     pages("/evals", ``, `[`, ``),
		"blanks":                             pages("/evals", `{"evals":`, `                `, `[]}`),
		"a number without end":               pages("/evals", `{"evals":[{"id":`, `1111111111111111`, `}]}`),
		"builds without end":                 pages("/builds", `[`, `{"id":1,"job":"app","finished":1,"buildstatus":0},`, `{}]`),
		"a build in evaluations without end": pages("/builds", `[{"id":1,"job":"app","finished":0,"jobsetevals":[`, `1,`, `7]}]`),
		"a build of outputs":                 pages("/builds", `[{"id":1,"job":"app","finished":0,"buildoutputs":{`, `"a":{},`, `"b":{}}}]`),
		"parts without end":                  pages("/constituents", `[`, `{"id":1,"job":"app","finished":1,"buildstatus":1},`, `{}]`),
		"tags without end":                   pages("/build/1", `<table>`, `<tr><td>1<td class=error>failed`, ``),
		"formats to be opened again":         pages("/build/1", formats, `<p>`, ``),
		"an attribute without end":           pages("/build/1", `<table><tr><td class="`, `aaaaaaaa`, ``),
		"attributes without end":             pages("/build/1", `<table><tr><td `, `a=b `, ``),
		"a comment without end":              pages("/build/1", `<!--`, `--`, ``),
		"a failed step of words":             pages("/build/1", `<tr><td>1</td><td class=error>`, `failed `, ``),
		"errors without end":                 pages("/errors", `<pre>`, `in job ‘other’: no `, ``),
		"a log-in page without end":          pages("/evals", `<html><form>`, `<input type=text>`, ``),
	} {
		t.Run(name, func(t *testing.T) {
			RegisterTestingT(t)
			var server *httptest.Server
			server = httptest.NewServer(answer)
			defer func() { server.CloseClientConnections(); server.Close() }()
			o := hydra.Options{URL: server.URL}.Fast()
			o.SetMaxPages(2)
			c, err := hydra.New(o)
			Expect(err).NotTo(HaveOccurred())
			job := "app"
			if name == "errors without end" {
				job = "other"
			}
			debug.FreeOSMemory()
			peak, done := peakHeap()
			_, err = c.Resolve(context.Background(), query(shopRev(0), job))
			done()
			Expect(err).To(MatchError(ContainSubstring(server.URL)))
			Expect(len(err.Error())).To(BeNumerically("<", 8<<10))
			t.Logf("%d MiB: %.160v", peak.Load()>>20, err)
			Expect(peak.Load()).To(BeNumerically("<", hostileMemory))
		})
	}
}

// peakHeap watches how large the heap becomes, garbage included, until done is called.
func peakHeap() (peak *atomic.Uint64, done func()) {
	peak = new(atomic.Uint64)
	stop, stopped := make(chan struct{}), make(chan struct{})
	look := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak.Store(max(peak.Load(), m.HeapInuse))
	}
	go func() {
		defer close(stopped)
		for {
			look()
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return peak, func() { close(stop); <-stopped }
}
