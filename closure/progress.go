package closure

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// progress counts what a run fetches and says so from time to time. Only read is called by several goroutines.
type progress struct {
	log      func(format string, args ...any)
	began    time.Time
	expected map[storepath.Path]bool
	total    Tally
	done     Tally
	bytes    atomic.Int64 // of NARs, as they are read

	lastAt    time.Time
	lastBytes int64
}

func newProgress(log func(string, ...any), _ time.Duration) *progress {
	now := time.Now()
	return &progress{log: log, began: now, lastAt: now, expected: map[storepath.Path]bool{}}
}

// expect adds a path to what there is to do. A path that is fetched once more counts once more.
func (p *progress) expect(f *cache.Found) {
	p.expected[f.StorePath] = true
	p.total.Paths++
	p.total.Bytes += f.NarSize
}

// forget takes back what will not come.
func (p *progress) forget(f *cache.Found) {
	p.total.Paths--
	p.total.Bytes -= f.NarSize
}

func (p *progress) expects(path storepath.Path) bool { return p.expected[path] }

func (p *progress) read(n int64) { p.bytes.Add(n) }

func (p *progress) finish(size int64) {
	p.done.Paths++
	p.done.Bytes += size
}

// tick writes a line: paths, bytes, rate since the last line, and time left at the rate so far.
func (p *progress) tick(r *run) {
	now, bytes := time.Now(), p.bytes.Load()
	rate := float64(bytes-p.lastBytes) / now.Sub(p.lastAt).Seconds()
	p.lastAt, p.lastBytes = now, bytes
	of := "of"
	if r.graph == nil {
		of = "of at least"
	}
	line := fmt.Sprintf("Fetching: %d %s %d paths, %s %s %s, %s/s", p.done.Paths, of, p.total.Paths,
		Bytes(bytes), of, Bytes(p.total.Bytes), Bytes(int64(max(rate, 0))))
	if r.graph != nil && bytes > 0 {
		left := time.Duration(float64(now.Sub(p.began)) * float64(p.total.Bytes-bytes) / float64(bytes))
		line += fmt.Sprintf(", %s left", max(left, 0).Round(time.Second))
	}
	p.log("%s", line)
}

// summary says what came from where.
func (p *progress) summary(r *run) {
	if len(r.fetched) == 0 && r.staged.Paths == 0 {
		return
	}
	var sum Tally
	for _, path := range r.fetched {
		sum.add(r.nodes[path])
	}
	took := time.Since(p.began)
	p.log("Fetched %d paths, %s unpacked, in %s (%s/s)", sum.Paths, Bytes(sum.Bytes), took.Round(10*time.Millisecond),
		Bytes(int64(float64(sum.Bytes)/max(took.Seconds(), 1e-3))))
	if r.staged.Paths > 0 {
		p.log("  %d paths, %s, were complete from an earlier run", r.staged.Paths, Bytes(r.staged.Bytes))
	}
	for _, c := range r.Caches.Report() {
		if c.Paths > 0 || c.NarInfos > 0 {
			p.log("  %s: %d narinfos, %d paths, %s downloaded", c.URL, c.NarInfos, c.Paths, Bytes(c.Bytes))
		}
	}
}

// Bytes writes a number of bytes for people, in powers of 1000: "512 B", "3.4 MB".
func Bytes(n int64) string {
	const units = "kMGTPE"
	if n < 1000 && n > -1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1000, 0
	for (value >= 999.95 || value <= -999.95) && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	return fmt.Sprintf("%.1f %cB", value, units[unit])
}
