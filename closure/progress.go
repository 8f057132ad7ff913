package closure

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// progressInterval is the time between two lines of progress.
const progressInterval = 5 * time.Second

// progress counts what is fetched and says so from time to time.
type progress struct {
	log   func(format string, args ...any)
	began time.Time
	bytes atomic.Int64 // of NARs, as they are read

	mu       sync.Mutex
	resolved bool  // nothing is known to be missing in total
	total    Tally // all that there is to do
	fetched  Tally // what came from caches
	staged   Tally // what an earlier run had left
}

// startProgress logs a line every interval until stop is called.
func startProgress(log func(string, ...any), interval time.Duration) (p *progress, stop func()) {
	p = &progress{log: log, began: time.Now()}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		last, before := p.began, int64(0)
		for {
			select {
			case <-done:
				return
			case now := <-ticker.C:
				bytes := p.bytes.Load()
				p.line(bytes, float64(bytes-before)/now.Sub(last).Seconds())
				last, before = now, bytes
			}
		}
	}()
	return p, func() {
		close(done)
		<-ended
	}
}

func (p *progress) read(n int64) { p.bytes.Add(n) }

// add adds a path to what there is to do.
func (p *progress) add(size int64) { p.count(&p.total, size) }

// done notes that a path is in staging, and whether it was from the beginning.
func (p *progress) done(size int64, staged bool) {
	if staged {
		p.count(&p.staged, size)
	} else {
		p.count(&p.fetched, size)
	}
}

func (p *progress) count(t *Tally, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Paths++
	t.Bytes += size
}

// knowsAll says that the closure is resolved.
func (p *progress) knowsAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resolved = true
}

// line says paths, bytes, rate since the last line, and time left at the rate so far.
func (p *progress) line(bytes int64, rate float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of, left := "of at least", ""
	if p.resolved {
		of = "of"
		if bytes > 0 {
			rest := time.Duration(float64(time.Since(p.began)) * float64(p.total.Bytes-bytes) / float64(bytes))
			left = fmt.Sprintf(", %s left", max(rest, 0).Round(time.Second))
		}
	}
	p.log("Fetching: %d %s %d paths, %s %s %s, %s/s%s", p.fetched.Paths+p.staged.Paths, of, p.total.Paths,
		text.Bytes(bytes), of, text.Bytes(p.total.Bytes), text.Bytes(int64(max(rate, 0))), left)
}

// summary says what came from where.
func (p *progress) summary(caches []cache.Report) {
	took := time.Since(p.began)
	p.log("Fetched %s, %s unpacked, in %s (%s/s)", text.Count(p.fetched.Paths, "path"), text.Bytes(p.fetched.Bytes),
		took.Round(10*time.Millisecond), text.Bytes(int64(float64(p.fetched.Bytes)/max(took.Seconds(), 1e-3))))
	if p.staged.Paths > 0 {
		p.log("  %s, %s, complete from an earlier run", text.Count(p.staged.Paths, "path"), text.Bytes(p.staged.Bytes))
	}
	for _, c := range caches {
		if c.Paths > 0 || c.NarInfos > 0 {
			p.log("  %s: %s, %s, %s downloaded", c.URL, text.Count(int(c.NarInfos), "narinfo"), text.Count(int(c.Paths), "path"),
				text.Bytes(c.Bytes))
		}
	}
}
