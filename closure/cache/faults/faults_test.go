package faults_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache/faults"
)

// In a bubble, where it is no question of time how much of an answer that trickles has come.
func TestASeedGivesTheSameFaultsAndEveryKind(t *testing.T) { synctest.Test(t, aSeedGivesTheSameFaults) }

func aSeedGivesTheSameFaults(t *testing.T) {
	g := NewWithT(t)
	ask := func(seed uint64) (map[faults.Fault]int, string) {
		p := &faults.Proxy{Seed: seed, Rate: 0.9, Cache: http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat(r.URL.Path, 20)) })}
		var seen strings.Builder
		for _, path := range strings.Fields(strings.Repeat("/a /b /c ", 40)) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			answer := httptest.NewRecorder()
			func() {
				defer func() { seen.WriteString(fmt.Sprint(recover(), " ")) }()
				p.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil))
			}()
			cancel()
			fmt.Fprintln(&seen, answer.Code, answer.Header(), answer.Body)
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
