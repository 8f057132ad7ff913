// Package survey finds out whether closures can be relocated, and what stands in the way, by reading their NARs from
// binary caches: nothing is unpacked to disk. What closures have in common is read once.
package survey

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
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

// parallel is how many paths are read at the same time.
const parallel = 4

// Blocker is a file that stands in the way.
type Blocker struct {
	Path   storepath.Path `json:"path"`
	File   string         `json:"file,omitempty"` // slash-separated, below the store path
	Kind   string         `json:"kind"`
	Detail string         `json:"detail"`
}

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
	// Blockers are the first that stand in the way, at most 16.
	Blockers []Blocker `json:"blockers,omitempty"`
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
	found      *cache.Found // until it was read
	narSize    int64
	references []storepath.Path
	read       bool
	err        error

	rewritten, blocking, harmless int
	fixups                        map[string]int
	blockers                      []Blocker
	foreign                       []string
}

type survey struct {
	Options
	paths map[storepath.Path]*path
	total Total
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
	members, err := s.resolve(ctx, root)
	if err == nil {
		err = s.read(ctx, members)
	}
	if err != nil {
		c.Error = err.Error()
		return c
	}
	s.sum(&c, members)
	return c
}

// resolve looks up all that root needs, itself included, sorted.
func (s *survey) resolve(ctx context.Context, root storepath.Path) ([]storepath.Path, error) {
	seen := map[storepath.Path]bool{root: true}
	var held atomic.Int64
	for wave := []storepath.Path{root}; len(wave) > 0; {
		if err := s.lookup(ctx, wave, &held); err != nil {
			return nil, err
		}
		var next []storepath.Path
		for _, p := range wave {
			for _, ref := range s.paths[p].references {
				if !seen[ref] {
					seen[ref] = true
					next = append(next, ref)
				}
			}
			if len(seen) > closure.MaxPaths {
				return nil, fmt.Errorf("it has more than %d paths", closure.MaxPaths)
			}
		}
		wave = next
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// lookup asks for the narinfos of paths that are not known yet, as long as what they say is not more than a closure may.
func (s *survey) lookup(ctx context.Context, paths []storepath.Path, held *atomic.Int64) error {
	unknown := slices.DeleteFunc(slices.Clone(paths), func(p storepath.Path) bool { return s.paths[p] != nil })
	found := make([]*path, len(unknown))
	each(len(unknown), func(i int) {
		if held.Load() > closure.MaxHeld {
			return
		}
		f, err := s.Caches.Lookup(ctx, unknown[i])
		if err != nil {
			found[i] = &path{err: err}
			return
		}
		held.Add(int64(closure.Held(f)))
		found[i] = &path{found: f, narSize: f.NarSize, references: slices.DeleteFunc(slices.Clone(f.References),
			func(ref storepath.Path) bool { return ref == unknown[i] })}
	})
	if held.Load() > closure.MaxHeld {
		return fmt.Errorf("what the cache says of its paths takes more than %d bytes", closure.MaxHeld)
	}
	for i, p := range unknown {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.paths[p] = found[i]
	}
	for _, p := range paths {
		if err := s.paths[p].err; err != nil {
			return err
		}
	}
	return nil
}

// read reads the paths that were not read yet.
func (s *survey) read(ctx context.Context, members []storepath.Path) error {
	unread := slices.DeleteFunc(slices.Clone(members), func(p storepath.Path) bool { return s.paths[p].read })
	each(len(unread), func(i int) {
		p := s.paths[unread[i]]
		p.err = s.inspect(ctx, p)
		p.read = p.err == nil
	})
	for _, name := range unread {
		p := s.paths[name]
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if p.err != nil {
			return p.err
		}
		p.found = nil
		s.total.Paths++
		s.total.NarBytes += p.narSize
	}
	return nil
}

// inspect reads one path's NAR.
func (s *survey) inspect(ctx context.Context, p *path) error {
	self := p.found.StorePath
	var report relocate.Report
	err := s.Caches.Fetch(ctx, p.found, func(r io.Reader) error {
		// What a path takes, it may take as if it were alone, if not at the same time: otherwise what one survey says would
		// depend on the others.
		i := s.View.Beside().Inspect(self, p.references, s.Temp)
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
	p.rewritten, p.blocking, p.harmless, p.fixups = report.References, report.Blocking, report.Harmless, report.Fixed
	p.foreign = report.Foreign
	for _, b := range report.Blockers {
		if b.Harmless == "" && len(p.blockers) < blockersPerPath {
			valid := func(text string) string { return strings.ToValidUTF8(text, "?") }
			p.blockers = append(p.blockers, Blocker{self, valid(b.File), string(b.Kind), valid(b.Detail)})
		}
	}
	return nil
}

// sum puts together what is known of a closure's members.
func (s *survey) sum(c *Closure, members []storepath.Path) {
	hashes := make(map[string]storepath.Path, len(members))
	for _, name := range members {
		hashes[name.HashPart()] = name
	}
	block := func(b Blocker) {
		if len(c.Blockers) < maxBlockers {
			c.Blockers = append(c.Blockers, b)
		}
	}
	for _, collision := range s.View.Collisions(members) {
		c.Blocking++
		block(Blocker{Path: collision.Paths[0], Kind: string(relocate.Ambiguous), Detail: collision.String()})
	}
	for _, name := range members {
		p := s.paths[name]
		c.Paths++
		c.NarBytes += p.narSize
		c.References += p.rewritten
		c.Blocking += p.blocking
		c.Harmless += p.harmless
		for format, n := range p.fixups {
			if c.Fixups == nil {
				c.Fixups = map[string]int{}
			}
			c.Fixups[format] += n
		}
		for _, b := range p.blockers {
			block(b)
		}
		for _, hash := range p.foreign {
			if other := hashes[hash]; other != "" && other != name {
				c.Blocking++
				block(Blocker{Path: name, Kind: string(closure.Undeclared), Detail: "it names " + other.String()})
			}
		}
	}
	c.Relocates = c.Blocking == 0
}

// each calls f for 0 to n-1, several at the same time.
func each(n int, f func(i int)) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(n, parallel) {
		workers.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
}
