package closure

import (
	"context"
	"io"

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
	// Share gives a context under which all that is decoded of one path has one share of the memory for that.
	Share(ctx context.Context) context.Context
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
	// View is what paths are relocated to; the zero View leaves them as they are.
	View relocate.View
	// Strict makes it an error that the closure cannot be relocated. Otherwise it then stays as it is.
	Strict bool
	// Previous is what the previous image holds, as ReadPrevious read it; nil is nothing.
	Previous *Previous
	// Layers is the most groups that the plan may have; 0 means DefaultLayers.
	Layers int
	// Planned is a plan that is already made, of the closure of some of the Roots. It stays as it is, and what it lacks
	// becomes one more group, BuildGroup, which is for the build and not for the image. Previous then says what is here
	// of it. Nil has Substitute plan.
	Planned []Group
	// Downloads is how many NARs are under way at the same time; 0 means as many as suit the machine.
	Downloads int
	// Log receives a line of progress every five seconds and a summary; nil discards them.
	Log func(format string, args ...any)

	maxUnprovenEntries int // tests have fewer than the constant
}

// Result is a closure: what the previous image keeps of it, and the rest verified in staging.
type Result struct {
	Graph  *Graph
	Groups []Group // the plan
	// Changed are those of Groups that are not in the previous image as they are. Their paths are in staging.
	Changed []Group
	// View is what the paths are relocated to: that of Options, or the zero View if that was not possible.
	View relocate.View
	// Blockers say why the closure was not relocated although Options asked for it.
	Blockers []Blocker
	// Fetched counts what was downloaded, Staged what an earlier run had left in staging, Reused what stays in the
	// previous image and Removed what it held besides.
	Fetched, Staged, Reused, Removed Tally
	// References counts rewritten references, Harmless the places that were not rewritten and do not matter.
	References, Harmless int
	// Overruled are the files that stand in the way of relocation and that somebody takes as harmless, sorted by path.
	Overruled []Overruled

	// recorded say why the closure cannot be relocated to tried: Blockers, or what is remembered of an earlier build
	// where this one was not asked to relocate.
	recorded []Blocker
	tried    string
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

func (o Options) withDefaults() Options {
	if o.Downloads <= 0 {
		o.Downloads = defaultDownloads()
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Previous == nil {
		o.Previous = &Previous{}
	}
	return o
}
