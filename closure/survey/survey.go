// Package survey finds out whether closures can be relocated, and what stands in the way, by reading their NARs from
// binary caches: nothing is unpacked to disk. What closures have in common is read once.
package survey

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Caches is what a survey wants of a *cache.Set.
type Caches interface {
	Lookup(ctx context.Context, p storepath.Path) (*cache.Found, error)
	Fetch(ctx context.Context, f *cache.Found, unpack func(r io.Reader) error) error
}

// Options is what a survey needs to know. Caches and View are mandatory.
type Options struct {
	Caches Caches
	// View is what paths would be relocated to.
	View relocate.View
	// Temp is a directory for single large files that have to be looked at as a whole; "" is the system's.
	Temp string
}

// parallel is how many NARs are read at the same time.
const parallel = 4

// Closure is what is known of one root's closure.
type Closure struct {
	Root       storepath.Path `json:"root"`
	Relocates  bool           `json:"relocates"`
	Error      string         `json:"error,omitempty"` // why that could not be found out
	Paths      int            `json:"paths"`
	NarBytes   int64          `json:"narBytes"`
	References int            `json:"references"` // that would be rewritten
	// Fixups counts what is rewritten as a whole and put right, by format.
	Fixups map[string]int `json:"fixups,omitempty"`
	// Blocking and Harmless count the places that cannot be rewritten, those that stand in the way and those that do
	// not matter.
	Blocking int `json:"blocking"`
	Harmless int `json:"harmless"`
	// Blockers are the first that stand in the way, one of each file, at most 16.
	Blockers []closure.Blocker `json:"blockers,omitempty"`
}

// HarmlessShare is the share of the places that cannot be rewritten that do not matter.
func (c Closure) HarmlessShare() float64 {
	if c.Harmless == 0 {
		return 0
	}
	return float64(c.Harmless) / float64(c.Harmless+c.Blocking)
}

// Total is what a whole survey read.
type Total struct {
	Closures  int   `json:"closures"`
	Relocate  int   `json:"relocate"`
	WithFixup int   `json:"withFixups"` // of those that relocate
	Failed    int   `json:"failed"`
	Paths     int   `json:"paths"` // each counted once
	NarBytes  int64 `json:"narBytes"`
}

const (
	maxBlockers     = 16
	blockersPerPath = 4
)

// path is what is kept of a path.
type path struct {
	node  *closure.Node // nil where no cache has it
	found *cache.Found  // until it was read
	err   error         // why it cannot be had, or read

	rewritten, blocking, harmless int
	fixups                        map[string]int
	blockers                      []closure.Blocker
}

type survey struct {
	Options
	total Total

	mu    sync.Mutex
	paths map[storepath.Path]*path
}

// Run surveys the roots' closures in turn and calls done with each as it is known. Only the end of ctx and a done that
// fails are errors: a closure that cannot be had has its own.
func Run(ctx context.Context, roots []storepath.Path, o Options, done func(Closure) error) (Total, error) {
	s := &survey{Options: o, paths: map[storepath.Path]*path{}}
	for _, root := range roots {
		c := s.closure(ctx, root)
		if ctx.Err() != nil {
			return s.total, context.Cause(ctx)
		}
		s.total.Closures++
		switch {
		case c.Error != "":
			s.total.Failed++
		case c.Relocates && len(c.Fixups) > 0:
			s.total.Relocate++
			s.total.WithFixup++
		case c.Relocates:
			s.total.Relocate++
		}
		if err := done(c); err != nil {
			return s.total, err
		}
	}
	return s.total, nil
}

// closure surveys one root.
func (s *survey) closure(ctx context.Context, root storepath.Path) Closure {
	c := Closure{Root: root}
	graph, err := closure.Resolve(ctx, []storepath.Path{root}, s.node)
	if err == nil {
		err = s.read(ctx, graph.Paths())
	}
	if err != nil {
		c.Error = err.Error()
		return c
	}
	s.sum(&c, graph)
	return c
}

// node looks up a path, unless another closure has it, too.
func (s *survey) node(ctx context.Context, name storepath.Path) (*closure.Node, error) {
	s.mu.Lock()
	p := s.paths[name]
	s.mu.Unlock()
	if p == nil {
		p = &path{}
		if p.found, p.err = s.Caches.Lookup(ctx, name); p.err == nil {
			p.node = closure.NewNode(p.found)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if ctx.Err() == nil {
			s.paths[name] = p
		}
	}
	if p.node == nil {
		return nil, p.err
	}
	return p.node, nil
}

// read reads the paths that were not read yet.
func (s *survey) read(ctx context.Context, names []storepath.Path) error {
	var unread []*path
	for _, name := range names {
		switch p := s.paths[name]; {
		case p.err != nil:
			return p.err
		case p.found != nil:
			unread = append(unread, p)
		}
	}
	group := errgroup.Group{}
	group.SetLimit(parallel)
	for _, p := range unread {
		group.Go(func() error {
			p.err = s.inspect(ctx, p)
			return nil // the others are read all the same: another closure may have them
		})
	}
	_ = group.Wait()
	var failed error
	for _, p := range unread {
		if p.err != nil {
			failed = cmp.Or(failed, p.err)
			continue
		}
		p.found = nil
		s.total.Paths++
		s.total.NarBytes += p.node.NarSize
	}
	return failed
}

// inspect reads one path's NAR.
func (s *survey) inspect(ctx context.Context, p *path) error {
	self := p.node.Path
	var report relocate.Report
	err := s.Caches.Fetch(ctx, p.found, func(r io.Reader) error {
		// What a path takes, it may take as if it were alone, if not at the same time: otherwise what one survey says would
		// depend on the others.
		i := s.View.Beside().Inspect(self, p.node.References, s.Temp)
		defer i.Discard()
		i.SetContext(ctx)
		if err := nar.Copy(i, nar.NewReader(r), nil); err != nil {
			return err
		}
		report = i.Report()
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading %s: %w", self, err)
	}
	p.node.Foreign = report.Foreign
	p.rewritten, p.blocking, p.harmless, p.fixups = report.References, report.Blocking, report.Harmless, report.Fixed
	for _, b := range report.Blockers {
		file := text.Valid(b.File)
		named := slices.ContainsFunc(p.blockers, func(other closure.Blocker) bool { return other.File == file })
		if b.Harmless == "" && !named && len(p.blockers) < blockersPerPath {
			p.blockers = append(p.blockers, closure.Blocker{Path: self, File: file, Kind: b.Kind, Detail: text.Valid(b.Detail)})
		}
	}
	return nil
}

// sum puts together what is known of a closure's paths.
func (s *survey) sum(c *Closure, graph *closure.Graph) {
	blockers := graph.Blockers(s.View)
	for i := range blockers {
		blockers[i].With = nil // Detail names them
	}
	c.Blocking = len(blockers)
	for _, name := range graph.Paths() {
		p := s.paths[name]
		c.Paths++
		c.NarBytes += p.node.NarSize
		c.References += p.rewritten
		c.Blocking += p.blocking
		c.Harmless += p.harmless
		for format, n := range p.fixups {
			if c.Fixups == nil {
				c.Fixups = map[string]int{}
			}
			c.Fixups[format] += n
		}
		blockers = append(blockers, p.blockers...)
	}
	c.Blockers = blockers[:min(maxBlockers, len(blockers))]
	c.Relocates = c.Blocking == 0
}
