package closure

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// run is one call of Substitute. All of it but the jobs belongs to one goroutine: jobs get what they need and report
// what became of it.
type run struct {
	Options
	staging  staging
	layout   relocate.Layout // what paths are relocated to now: that of Options or the zero one
	progress *progress
	buffers  chan []byte

	nodes  map[storepath.Path]*Node
	via    map[storepath.Path]storepath.Path // who referred to a path first
	found  map[storepath.Path]*cache.Found
	have   map[storepath.Path]staged // complete in staging
	failed map[storepath.Path]error  // why the NAR that was found first could not be fetched

	asking  []storepath.Path // waiting for their look-up, in order
	waiting waiting          // waiting for their download
	turning []staged         // waiting to be relocated, or not, after all
	running int              // jobs, of both kinds
	lookups int
	fetches int
	memory  int64                                // footprints of what is being fetched
	done    chan func(ctx context.Context) error // what a job has to report, to be called by run

	graph   *Graph
	groups  []Group
	blocked []Reason
	fetched []storepath.Path
	staged  Tally
}

func newRun(options Options) (*run, error) {
	r := &run{
		Options: options.withDefaults(),
		nodes:   map[storepath.Path]*Node{},
		via:     map[storepath.Path]storepath.Path{},
		found:   map[storepath.Path]*cache.Found{},
		have:    map[storepath.Path]staged{},
		failed:  map[storepath.Path]error{},
		done:    make(chan func(context.Context) error),
	}
	if r.Caches == nil || r.Staging == "" || len(r.Roots) == 0 {
		return nil, errors.New("substituting closure: caches, roots and a staging directory are needed")
	}
	r.Roots = slices.Clone(r.Roots)
	slices.Sort(r.Roots)
	r.Roots = slices.Compact(r.Roots)
	r.layout = r.Layout
	r.buffers = make(chan []byte, r.Downloads)
	r.progress = newProgress(r.Log, r.Interval)
	var err error
	r.staging, err = openStaging(r.Staging)
	return r, err
}

func (r *run) run(ctx context.Context) (*Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !r.Layout.IsZero() && !r.Strict && r.Previous.Tried == r.Layout.Dir() {
		r.layout = relocate.Layout{} // as last time, unless the graph turns out to hold none of the reasons
	}
	for _, root := range r.Roots {
		r.visit(root, "")
	}
	err := r.loop(ctx)
	if err != nil {
		cancel(err)
		for r.running > 0 { // they give up now; what they still report is of no interest
			<-r.done
			r.running--
		}
		return nil, err
	}
	return r.result(), nil
}

// loop starts jobs and takes their reports until nothing is left to do.
func (r *run) loop(ctx context.Context) error {
	ticker := time.NewTicker(r.Interval)
	defer ticker.Stop()
	for {
		r.start(ctx)
		if r.lookups == 0 && len(r.asking) == 0 && r.graph == nil {
			if err := r.plan(); err != nil {
				return err
			}
			continue
		}
		if r.running == 0 {
			again, err := r.settle(ctx)
			if err != nil || !again {
				return err
			}
			continue
		}
		select {
		case report := <-r.done:
			r.running--
			if err := report(ctx); err != nil {
				return err
			}
		case <-ticker.C:
			r.progress.tick(r)
		case <-ctx.Done():
			return fmt.Errorf("substituting closure: %w", context.Cause(ctx))
		}
	}
}

// start gives every free slot a job.
func (r *run) start(ctx context.Context) {
	for r.lookups < r.Lookups && len(r.asking) > 0 {
		p := r.asking[0]
		r.asking = r.asking[1:]
		r.lookups++
		r.job(func() func(context.Context) error {
			found, err := r.Caches.Lookup(ctx, p)
			return func(context.Context) error {
				r.lookups--
				if err == nil && found.StorePath != p {
					err = fmt.Errorf("looking up %s: the narinfo is for %s", p, found.StorePath)
				}
				if failed := r.failed[p]; failed != nil && (err != nil || found.NarHash == r.found[p].NarHash) {
					return failed
				}
				if err != nil {
					return r.missing(p, err)
				}
				return r.resolved(found)
			}
		})
	}
	for r.fetches < r.Downloads && len(r.turning) > 0 {
		st := r.turning[0]
		r.turning = r.turning[1:]
		r.convert(ctx, st)
	}
	for r.fetches < r.Downloads {
		available := r.Memory - r.memory
		if r.fetches == 0 {
			available = math.MaxInt64
		}
		found := r.waiting.next(available)
		if found == nil {
			break
		}
		layout := r.layout
		r.fetches++
		r.memory += footprint(found)
		r.job(func() func(context.Context) error {
			st, reused, err := r.obtain(ctx, found, layout)
			return func(context.Context) error {
				r.fetches--
				r.memory -= footprint(found)
				if err != nil {
					return r.unobtained(found, err)
				}
				return r.obtained(st, reused)
			}
		})
	}
}

// job runs f beside the run and has its report called by it.
func (r *run) job(f func() func(context.Context) error) {
	r.running++
	go func() { r.done <- f() }()
}

// visit makes sure that a path becomes a node: by what the previous image's metadata says, else by a look-up.
func (r *run) visit(p, from storepath.Path) {
	if _, seen := r.via[p]; seen {
		return
	}
	r.via[p] = from
	r.graph = nil
	if n, ok := r.Previous.complete(p); ok {
		r.node(n)
		return
	}
	r.asking = append(r.asking, p)
}

// node takes a node in and goes on to its references.
func (r *run) node(n *Node) {
	r.nodes[n.Path] = n
	for _, ref := range n.References {
		r.visit(ref, n.Path)
	}
}

// chain is the way from a root to p.
func (r *run) chain(p storepath.Path) []storepath.Path {
	chain := []storepath.Path{p}
	for from := r.via[p]; from != "" && !slices.Contains(chain, from); from = r.via[from] {
		chain = append(chain, from)
	}
	slices.Reverse(chain)
	return chain
}

func (r *run) missing(p storepath.Path, err error) error {
	e := &MissingError{Chain: r.chain(p), Err: err}
	if n := r.nodes[r.via[p]]; n != nil {
		e.From = n.CacheURL
	}
	return e
}

// resolved takes a narinfo in. The path is downloaded at once, unless the previous image has these very bytes.
func (r *run) resolved(found *cache.Found) error {
	p := found.StorePath
	if len(r.nodes) >= r.MaxPaths {
		return fmt.Errorf("resolving closure: it has more than %d paths", r.MaxPaths)
	}
	n := newNode(found)
	r.found[p] = found
	known, was := r.Previous.Nodes[p], r.nodes[p]
	if known != nil && known.sameBytes(n) && was == nil {
		n.Foreign, n.Overruled = known.Foreign, known.Overruled
	} else {
		r.fetch(found)
	}
	if was != nil && (was.NarHash != n.NarHash || !slices.Equal(was.References, n.References)) {
		r.graph = nil // the path was built anew since the previous image
	}
	r.node(n)
	return nil
}

func (r *run) fetch(found *cache.Found) {
	r.waiting.add(found)
	r.progress.expect(found)
}

// obtained takes in a path that is complete in staging.
func (r *run) obtained(st staged, reused bool) error {
	p := st.Record.Path
	r.have[p] = st
	n := *r.nodes[p]
	n.Foreign, n.Overruled = st.Report.Foreign, st.Record.Overruled
	r.nodes[p] = &n
	if r.graph != nil && r.graph.Nodes[p] != nil {
		r.graph.Nodes[p] = &n
	}
	r.progress.finish(n.NarSize)
	if reused {
		r.staged.add(&n)
	} else {
		r.fetched = append(r.fetched, p)
	}
	return nil
}

// unobtained has a path looked up once more whose NAR no cache could serve: one may have another build of it.
func (r *run) unobtained(found *cache.Found, err error) error {
	var failed *cache.FetchError
	if !errors.As(err, &failed) {
		return err
	}
	r.failed[found.StorePath] = err
	r.progress.forget(found)
	r.again(found.StorePath)
	return nil
}

// convert turns a path that was relocated, or was not, into the other; where that fails it is fetched again.
func (r *run) convert(ctx context.Context, st staged) {
	p, layout := st.Record.Path, r.layout
	r.fetches++
	r.job(func() func(context.Context) error {
		converted, err := r.rework(ctx, st, layout)
		return func(ctx context.Context) error {
			r.fetches--
			if err != nil && ctx.Err() == nil {
				r.fetch(r.found[p])
				return nil
			}
			if err == nil {
				r.have[p] = converted
			}
			return nil
		}
	})
}
