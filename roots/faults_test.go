package roots_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache/faults"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

// faultTime bounds one question: what the policy below makes of a dozen answers that all stall.
const faultTime = 30 * time.Second

// hydraWithFaults is a Hydra behind a proxy that does all kinds of wrong, and a cache that has what it built.
type hydraWithFaults struct {
	server *hydratest.Server
	cache  string
	keys   narinfo.Keys
	all    []storepath.Path // what Hydra has built at all
}

const (
	faultRepository = "https://git.example.org/shop.git"
	faultSystem     = "x86_64-linux"
)

// question is something to ask Hydra.
type question struct{ job, revision string }

// newHydraWithFaults makes 45 evaluations, three pages, of three jobs each.
func newHydraWithFaults(t *testing.T) *hydraWithFaults {
	h := &hydraWithFaults{server: hydratest.New(), cache: t.TempDir()}
	t.Cleanup(h.server.Close)
	seed := sha256.Sum256([]byte("key"))
	key := ed25519.NewKeyFromSeed(seed[:])
	h.keys = narinfo.Keys{{Name: "hydra-1", Key: key.Public().(ed25519.PublicKey)}}
	Expect(os.WriteFile(filepath.Join(h.cache, "nix-cache-info"), []byte("StoreDir: /nix/store\n"), 0o644)).To(Succeed())
	jobset := h.server.Project("shop").Jobset("main")
	for i := range 45 {
		var jobs []hydratest.Job
		for _, name := range []string{"web", "worker", "heroku-compile-hook"} {
			jobs = append(jobs, hydratest.Job{Name: name + "." + faultSystem})
		}
		eval := jobset.Evaluate(hydratest.Evaluation{Jobs: jobs, Inputs: map[string]hydratest.Input{
			"src": {URI: faultRepository, Revision: hydratest.Revision(fmt.Sprint("shop", i))}}}).Succeed()
		for _, job := range jobs {
			h.all = append(h.all, storepath.Path(eval.Build(job.Name).Outputs()["out"]))
		}
	}
	for _, p := range h.all {
		info := &narinfo.NarInfo{StorePath: p, URL: "nar/x.nar", Compression: "none", NarSize: 120, NarHash: sha256.Sum256([]byte(p))}
		info.Sigs = []narinfo.Signature{{Name: "hydra-1", Data: ed25519.Sign(key, []byte(info.Fingerprint()))}}
		Expect(os.WriteFile(filepath.Join(h.cache, p.HashPart()+".narinfo"), []byte(info.String()), 0o644)).To(Succeed())
	}
	return h
}

// ask puts a question to the Hydra at an address.
func (h *hydraWithFaults) ask(url string, q question, log func(string, ...any)) (roots.Result, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), faultTime, fmt.Errorf("the question took %v", faultTime))
	defer cancel()
	set, err := cache.Open(ctx, cache.Options{URLs: []string{"file://" + h.cache}, Keys: h.keys, RequireSigs: true})
	if err != nil {
		return roots.Result{}, err
	}
	defer set.Close()
	return roots.Finder{
		Settings: roots.Settings{HydraURL: url, HydraJob: q.job, GitRev: q.revision, System: faultSystem},
		Identity: nixinstall.Identity{URL: faultRepository},
		Caches:   func() (*cache.Set, error) { return set, nil },
		Servers: cache.Options{
			Getenv: func(string) string { return "" }, Stall: 100 * time.Millisecond,
			Policy: cache.Policy{Timeout: 200 * time.Millisecond},
		},
		Log: log,
	}.Find(ctx)
}

// TestHydraFaults asks a Hydra behind a server that does all kinds of wrong: each question is answered rightly, or ends
// with an error that names the Hydra.
func TestHydraFaults(t *testing.T) {
	RegisterTestingT(t)
	h := newHydraWithFaults(t)
	questions := []question{
		{"shop/main/web", hydratest.Revision("shop44")}, {"shop/main/web worker", hydratest.Revision("shop3")},
		{"shop/main", hydratest.Revision("shop21")}, {"shop/main/worker", "latest"},
		{"shop/main/web worker heroku-compile-hook", "latest-finished"},
	}
	var want []roots.Result
	for _, q := range questions {
		set, err := h.ask(h.server.URL, q, t.Logf)
		Expect(err).NotTo(HaveOccurred())
		want = append(want, set)
	}

	right, altered := 0, 0
	rounds := faults.Rounds{Name: "ROOTS", Seeds: 60, Time: faultTime, Memory: 256 << 20}
	count, summary := rounds.Run(t, func(round uint64) map[faults.Fault]int {
		seed := int(round)
		proxy := &faults.Proxy{
			Cache: h.server.Handler(), Seed: uint64(seed), Rate: []float64{0.05, 0.2, 0.5}[seed/len(questions)%3],
			Pause: time.Millisecond,
		}
		server := httptest.NewServer(proxy)
		got, err := h.ask(server.URL, questions[seed%len(questions)], func(string, ...any) {})
		server.CloseClientConnections()
		server.Close()
		wrong := proxy.Faults()
		expected := want[seed%len(questions)]
		switch {
		case err != nil:
			said := err.Error()
			if absent := (*roots.NotCachedError)(nil); errors.As(err, &absent) { // what is shown of it is made of its fields
				said = absent.Entry
			}
			Expect(said).To(ContainSubstring(server.URL), "seed %d: an error that does not name Hydra", seed)
			Expect(err.Error()).NotTo(ContainSubstring("\n"), "seed %d", seed)
		case slices.Equal(got.All(), expected.All()):
			right++
		default:
			// Nobody signs what Hydra says. Which of its builds an altered number names cannot be told from a true answer;
			// that it is one of them, and signed, can.
			Expect(wrong[faults.Corrupt]+wrong[faults.Another]).To(BeNumerically(">", 0), "seed %d: %v", seed, got)
			Expect(h.all).To(ContainElements(got.All()), "seed %d", seed)
			altered++
		}
		return wrong
	})
	t.Logf("%d answers right, %d another build as an answer was altered, %d errors: %s", right, altered, count-right-altered, summary)
	Expect(right).To(And(BeNumerically(">", 0), BeNumerically("<", max(2, count))), "faults that show, and do not always")
	Expect(altered).To(BeNumerically("<=", count/20))
}

// TestHydraFloods asks a Hydra that never says anything, but says that without end.
func TestHydraFloods(t *testing.T) {
	log.SetOutput(io.Discard) // as the buildpack's program has it
	defer log.SetOutput(os.Stderr)
	for _, kind := range faults.Floods() {
		t.Run(kind, func(t *testing.T) {
			RegisterTestingT(t)
			server, err := faults.NewFlood(kind)
			Expect(err).NotTo(HaveOccurred())
			defer server.Close()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			most, err := faults.Peak(t, func() error {
				_, err := roots.Finder{
					Settings: roots.Settings{HydraURL: server.URL, HydraJob: "shop/main/web", GitRev: "latest", System: faultSystem},
					Servers: cache.Options{
						Getenv:  func(string) string { return "" },
						Stall:   250 * time.Millisecond,
						Policy:  cache.Policy{Timeout: 200 * time.Millisecond},
						RootCAs: []cache.Authorities{{PEM: server.Certificate}},
					},
					Log: func(string, ...any) {},
				}.Find(ctx)
				return err
			})
			Expect(err).To(MatchError(ContainSubstring(server.URL)))
			Expect(ctx.Err()).NotTo(HaveOccurred(), "it goes on")
			Expect(most).To(BeNumerically("<", 64<<20))
			Eventually(server.Connected.Load).WithTimeout(10*time.Second).Should(BeZero(), "the flood goes on")
		})
	}
}
