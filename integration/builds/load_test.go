package builds_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"
)

// builds is how many builds there are at once: $BUILDS_TEST_COUNT, else these.
const builds = 8

// TestManyBuildsAtOnce builds one app many times at once from one cache, which takes no more than some requests at a time:
// none fails, all make the same image, in bounded memory.
func TestManyBuildsAtOnce(t *testing.T) {
	RegisterTestingT(t)
	s := newShelf(t)
	root := s.app(1, 40, 100_000)
	const most = 64 // connections that the cache answers at once; others it refuses
	var now, refused, answered atomic.Int64
	files := http.FileServer(http.Dir(s.dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer now.Add(-1)
		if now.Add(1) > most {
			refused.Add(1)
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		answered.Add(1)
		files.ServeHTTP(w, r)
	}))
	defer server.Close()
	count := setting("BUILDS_TEST_COUNT", builds)
	platforms := make([]*platform, count)
	for i := range platforms {
		platforms[i] = newPlatform(t, s, "")
		platforms[i].Env["BP_NIX_SUBSTITUTERS"] = server.URL
	}
	images, peaks := make([]string, count), make([]int64, count)
	var group sync.WaitGroup
	for i, p := range platforms {
		group.Go(func() {
			o := p.try(root)
			if peaks[i] = o.Peak; o.Status == 0 {
				images[i] = p.contents()
			} else {
				t.Errorf("build %d: status %d: %s", i, o.Status, o.Log)
			}
		})
	}
	group.Wait()
	var peak, sum int64
	for i, p := range platforms { // an image names its own place, so each is compared with one that was built there alone
		Expect(p.NewImage()).To(Succeed())
		Expect(p.build(root) == images[i]).To(BeTrue(), "build %d made another image", i)
		peak, sum = max(peak, peaks[i]), sum+peaks[i]
	}
	t.Logf("%d builds at once: all the same; %d requests answered, %d refused; at most %d MiB a build, %d MiB all together",
		count, answered.Load(), refused.Load(), peak>>20, sum>>20)
	Expect(peak).To(BeNumerically("<", 256<<20))
}
