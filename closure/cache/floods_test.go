package cache_test

import (
	stdcontext "context"
	"io"
	"log"
	"os"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache/faults"
)

// TestFloods opens caches that never say anything, but say that without end.
func TestFloods(t *testing.T) {
	log.SetOutput(io.Discard) // as the buildpack's program has it: Go's client logs frames that it does not know, each
	defer log.SetOutput(os.Stderr)
	for _, kind := range faults.Floods() {
		t.Run(kind, func(t *testing.T) {
			RegisterTestingT(t)
			server, err := faults.NewFlood(kind)
			Expect(err).NotTo(HaveOccurred())
			defer server.Close()
			o := options(server.URL)
			o.Policy.Timeout = 500 * time.Millisecond
			o.RootCAs = []cache.Authorities{{PEM: server.Certificate}}
			ctx, cancel := stdcontext.WithTimeout(stdcontext.Background(), time.Minute)
			defer cancel()
			most, err := faults.Peak(t, func() error { _, err := cache.Open(ctx, o); return err })
			Expect(err).To(HaveOccurred())
			Expect(ctx.Err()).NotTo(HaveOccurred(), "it goes on")
			Expect(most).To(BeNumerically("<", 64<<20))
			Eventually(server.Connected.Load).WithTimeout(10*time.Second).Should(BeZero(), "the flood goes on")
		})
	}
}

// TestFloodsBesideAnother opens a sound cache and one that floods: the flood ends when nothing is asked of that any more, and
// not only with the build.
func TestFloodsBesideAnother(t *testing.T) {
	log.SetOutput(io.Discard)
	defer log.SetOutput(os.Stderr)
	for _, kind := range faults.Floods() {
		if kind == "nothing at all" {
			continue // a connection that costs nothing
		}
		t.Run(kind, func(t *testing.T) {
			RegisterTestingT(t)
			flood, err := faults.NewFlood(kind)
			Expect(err).NotTo(HaveOccurred())
			defer flood.Close()
			sound := newServer(t)
			o := options(sound.URL, flood.URL)
			o.Policy.Timeout = 500 * time.Millisecond
			o.RootCAs = []cache.Authorities{{PEM: flood.Certificate}}
			set, err := cache.Open(t.Context(), o)
			Expect(err).NotTo(HaveOccurred())
			defer set.Close()
			Eventually(flood.Accepted.Load).WithTimeout(10*time.Second).ShouldNot(BeZero(), "it was not asked")
			Eventually(flood.Connected.Load).WithTimeout(time.Minute).Should(BeZero(), "the flood goes on")
		})
	}
}
