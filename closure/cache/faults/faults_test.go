package faults_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache/faults"
)

func TestASeedGivesTheSameFaultsAndEveryKind(t *testing.T) {
	g := NewWithT(t)
	ask := func(seed uint64) (map[faults.Fault]int, string) {
		p := &faults.Proxy{Seed: seed, Rate: 0.9, Pause: time.Millisecond, Cache: http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat(r.URL.Path, 20)) })}
		server := httptest.NewUnstartedServer(p)
		server.Start()
		defer server.Close()
		client := &http.Client{Timeout: 100 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
		var seen strings.Builder
		for _, path := range strings.Fields(strings.Repeat("/a /b /c ", 40)) {
			res, err := client.Get(server.URL + path)
			if err != nil {
				seen.WriteString("error\n")
				continue
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil {
				seen.WriteString("cut\n")
				continue
			}
			seen.WriteString(res.Status + string(body) + "\n")
		}
		return p.Faults(), seen.String()
	}
	counts, one := ask(1)
	g.Expect(counts).To(HaveLen(13), "each of the twelve kinds and none: %v", counts)
	_, again := ask(1)
	_, other := ask(2)
	g.Expect(again).To(Equal(one))
	g.Expect(other).NotTo(Equal(one))
}
