package closure_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache/faults"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
)

// faultTime bounds one build, and the next one where it fails: what the policy below makes of a dozen paths that all stall.
const faultTime = 30 * time.Second

// TestFaults builds a closure from caches behind servers that do all kinds of wrong: each build ends with exactly the right
// tree or an error that names a cache, and the next one, without faults, in the same place, with the right tree.
func TestFaults(t *testing.T) {
	RegisterTestingT(t)
	c := newBinaryCache(t)
	graph := c.stock(newWorld(3, 12))
	packDifferently(c, graph)
	healthy := httptest.NewServer(http.FileServer(http.Dir(c.dir)))
	defer healthy.Close()
	f := &faulty{cache: c, graph: graph, healthy: healthy.URL}
	want, err := f.build(t.TempDir(), 1, healthy.URL)
	Expect(err).NotTo(HaveOccurred())

	right := 0
	rounds := faults.Rounds{Name: "CLOSURE", Seeds: 50, Time: 2 * faultTime, Memory: 256 << 20}
	count, summary := rounds.Run(t, func(seed uint64) map[faults.Fault]int {
		happened := map[faults.Fault]int{}
		if f.survives(t, seed, 1, want, happened) {
			right++
		}
		return happened
	})
	t.Logf("%d builds right at once, %d ended with an error and were right the next time: %s", right, count-right, summary)
	Expect(right).To(And(BeNumerically(">", 0), BeNumerically("<", max(2, count))), "faults that show, and do not always")
}

// faulty is what the builds have in common.
type faulty struct {
	cache   *binaryCache
	graph   *closure.Graph
	healthy string
}

// build makes the closure's layers in a directory and gives a dump of them.
func (f *faulty) build(layers string, patience time.Duration, urls ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience*faultTime, fmt.Errorf("the build took %v", patience*faultTime))
	defer cancel()
	options := cache.Options{URLs: urls, Keys: f.cache.keys, RequireSigs: true, Getenv: func(string) string { return "" }}
	if !slices.Equal(urls, []string{f.healthy}) { // that is waited for also on a machine that is busy with something else
		options.Stall = patience * 50 * time.Millisecond
		options.Policy = cache.Policy{
			Backoff: time.Millisecond, Timeout: patience * 200 * time.Millisecond,
			Patience: patience * 50 * time.Millisecond, Disable: 100 * time.Millisecond,
		}
	}
	set, err := cache.Open(ctx, options)
	if err != nil {
		return "", err
	}
	defer set.Close()
	staging := filepath.Join(layers, ".staging")
	result, err := closure.Substitute(ctx, closure.Options{
		Caches: set, Roots: f.graph.Roots, Staging: staging, View: viewAt("/layers/nixproot_nix-hydra/view"),
	})
	if err != nil {
		return "", err
	}
	if err := closure.Install(ctx, result, staging, layers); err != nil {
		return "", err
	}
	if err := os.RemoveAll(staging); err != nil {
		return "", err
	}
	return string(dump(layers)), nil
}

// survives builds with one seed's faults. It reports whether the tree was right at once. A server without faults may be
// late on a machine that is busy with something else: then it is tried again with more patience.
func (f *faulty) survives(t *testing.T, seed uint64, patience time.Duration, want string, happened map[faults.Fault]int) bool {
	t.Helper()
	layers, err := os.MkdirTemp(t.TempDir(), "")
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = os.RemoveAll(layers) }()
	var urls []string
	for i := range seed%2 + 1 {
		proxy := &faults.Proxy{
			Cache: http.FileServer(http.Dir(f.cache.dir)), Seed: seed<<1 | i, Rate: []float64{0.02, 0.1, 0.3, 0.7}[seed/2%4],
			Pause: 5 * time.Millisecond,
		}
		server := httptest.NewServer(proxy)
		defer func() {
			server.CloseClientConnections()
			server.Close()
			for fault, n := range proxy.Faults() {
				happened[fault] += n
			}
		}()
		urls = append(urls, server.URL)
	}
	alone := seed%4 != 3
	if !alone {
		urls = append(urls, f.healthy)
	}
	began := time.Now()
	got, err := f.build(layers, patience, urls...)
	Expect(time.Since(began)).To(BeNumerically("<", busy.Limit(patience*faultTime)), "seed %d", seed)
	if err == nil {
		Expect(got == want).To(BeTrue(), "seed %d: another tree", seed)
		return true
	}
	if !alone && patience == 1 && strings.Contains(err.Error(), "in time") {
		return f.survives(t, seed, 5, want, happened)
	}
	Expect(alone).To(BeTrue(), "seed %d: failed although a cache without faults has everything: %v", seed, err)
	Expect(err).To(MatchError(ContainSubstring("http://127.0.0.1:")), "seed %d: an error that names no cache", seed)
	got, err = f.build(layers, patience, f.healthy)
	Expect(err).NotTo(HaveOccurred(), "seed %d: the next build", seed)
	Expect(got == want).To(BeTrue(), "seed %d: the next build has another tree", seed)
	return false
}

// packDifferently compresses a cache's NARs, one after the other in another way.
func packDifferently(c *binaryCache, g *closure.Graph) {
	c.t.Helper()
	kinds := []string{"zstd", "none", "gzip"}
	for i, n := range g.Sorted() {
		file := filepath.Join(c.dir, n.Path.HashPart()+".narinfo")
		text, err := os.ReadFile(file)
		Expect(err).NotTo(HaveOccurred())
		info, err := narinfo.Parse(bytes.NewReader(text), storepath.Dir)
		Expect(err).NotTo(HaveOccurred())
		var packed bytes.Buffer
		var w io.WriteCloser
		switch info.Compression = kinds[i%len(kinds)]; info.Compression {
		case "none":
			continue
		case "gzip":
			w = gzip.NewWriter(&packed)
		default:
			w, err = zstd.NewWriter(&packed)
			Expect(err).NotTo(HaveOccurred())
		}
		_, err = w.Write(c.nars[n.Path])
		Expect(err).NotTo(HaveOccurred())
		Expect(w.Close()).To(Succeed())
		info.FileSize = int64(packed.Len())
		Expect(os.WriteFile(filepath.Join(c.dir, info.URL), packed.Bytes(), 0o644)).To(Succeed())
		Expect(os.WriteFile(file, []byte(info.String()), 0o644)).To(Succeed())
	}
}
