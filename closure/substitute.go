package closure

import (
	"context"
	"io"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Caches is where narinfos and NARs come from; *cache.Set is one.
type Caches interface {
	// Lookup gives a valid and trusted narinfo, or a *cache.NotFoundError.
	Lookup(ctx context.Context, p storepath.Path) (*cache.Found, error)
	// Fetch gives unpack the NAR. It returns nil only if unpack's last call returned nil and the NAR was as signed.
	Fetch(ctx context.Context, f *cache.Found, unpack func(r io.Reader) error) error
	// Report says what came from which cache.
	Report() []cache.Report
}

// Options is what Substitute needs to know. Caches, Roots and Staging are mandatory.
type Options struct {
	Caches Caches
	Roots  []storepath.Path
	// Staging is the directory that paths are unpacked in, best on the file system of the layers. It belongs to
	// Substitute, which reuses what an earlier run has left complete there, after proving it.
	Staging string
	// Layout is what paths are relocated to; the zero Layout leaves them as they are.
	Layout relocate.Layout
	// Strict makes it an error that the closure cannot be relocated. Otherwise it then stays as it is.
	Strict bool
	// Previous is what the previous image holds, as ReadPrevious read it; nil is nothing.
	Previous *Previous
	// Wanted tells of a path whose files have to be here although the previous image keeps them; nil is none. Its layer
	// stays what it was, so nothing more is exported.
	Wanted func(storepath.Path) bool
	// Limits bounds the plan.
	Limits Limits
	// Planned is a plan that is already made, of the closure of some of the Roots. It stays as it is, and what it lacks
	// becomes one more group, BuildLayer, which is for the build and not for the image. Previous then says what is here
	// of it. Nil has Substitute plan.
	Planned []Group
	// Lookups and Downloads are how many narinfos and NARs are under way at the same time; 0 means DefaultLookups
	// and DefaultDownloads.
	Lookups, Downloads int
	// Memory bounds the windows of the decoders of all NARs under way, in bytes; 0 means DefaultMemory. One may always
	// stream.
	Memory int64
	// MaxPaths bounds the closure, against a cache that makes up references for ever; 0 means 100,000.
	MaxPaths int
	// Log receives a line of progress every Interval (0 means five seconds) and a summary; nil discards them.
	Log      func(format string, args ...any)
	Interval time.Duration
}

// Result is a closure that is complete: what the previous image keeps, and the rest verified in staging.
type Result struct {
	Graph  *Graph
	Groups []Group // the plan
	// Changed are those of Groups that are not in the previous image as they are.
	Changed []Group
	// Unpacked are those of Groups whose paths are in staging: Changed, and those with paths that were wanted.
	Unpacked []Group
	// Layout is what the paths are relocated to: that of Options, or the zero Layout if that was not possible.
	Layout relocate.Layout
	// Blocked says why the closure was not relocated although Options asked for it.
	Blocked []Reason
	// Fetched counts what was downloaded, Staged what an earlier run had left in staging, Reused what stays in the
	// previous image and Removed what it held besides.
	Fetched, Staged, Reused, Removed Tally
	// References counts rewritten references, Harmless the places that were not rewritten and do not matter.
	References, Harmless int
	// Overruled are the files that stand in the way of relocation and that somebody takes as harmless, sorted by path.
	Overruled []Overruled

	// obstacles say why the closure cannot be relocated to tried: Blocked, or what is remembered of an earlier build
	// where this one was not asked to relocate.
	obstacles []Reason
	tried     string
}

// Tally is a number of store paths and the bytes of their NARs.
type Tally struct {
	Paths int
	Bytes int64
}

func (t *Tally) add(n *Node) {
	t.Paths++
	t.Bytes += n.NarSize
}

// Substitute resolves the roots' closure and fetches what the previous image does not keep: look-ups breadth first,
// each download from the moment its narinfo is known, the largest of those that wait first. When the closure is
// known it is planned, and those paths are fetched too that were in the previous image but share a layer with
// something that changed.
//
// A path is visible in staging only when its NAR was verified. The first error ends the run; what is complete by
// then stays for the next one. Errors: *MissingError, *LoopError, *BlockedError, and what Caches return.
func Substitute(ctx context.Context, options Options) (*Result, error) {
	r, err := newRun(options)
	if err != nil {
		return nil, err
	}
	return r.run(ctx)
}

// grouped makes the plan, or completes the one that is made.
func (o Options) grouped(g *Graph, layout relocate.Layout) []Group {
	if o.Planned != nil {
		return planBeside(g, o.Planned)
	}
	return Plan(g, layout, o.Limits)
}

func (o Options) withDefaults() Options {
	if o.Lookups <= 0 {
		o.Lookups = DefaultLookups
	}
	if o.Downloads <= 0 {
		o.Downloads = DefaultDownloads()
	}
	if o.Memory <= 0 {
		o.Memory = DefaultMemory()
	}
	if o.MaxPaths <= 0 {
		o.MaxPaths = 100_000
	}
	if o.Interval <= 0 {
		o.Interval = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Previous == nil {
		o.Previous = &Previous{}
	}
	if o.Wanted == nil {
		o.Wanted = func(storepath.Path) bool { return false }
	}
	return o
}
