package closure

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// bufferSize is what each download reads and writes through: larger ones were no faster.
const bufferSize = 128 << 10

// maxUnprovenEntries bounds the files, directories and links of a path that its contents prove only when all of them have
// come: each takes more of a disk than of a NAR.
const maxUnprovenEntries = 1 << 20

// download is a path that is to be in staging.
type download struct {
	node  *Node
	found *cache.Found // nil where only the previous image's manifests tell of the path
	view  relocate.View
}

// largestFirst orders downloads: what is begun last should not be what takes longest.
func largestFirst(a, b download) int {
	return cmp.Or(cmp.Compare(b.node.NarSize, a.node.NarSize), strings.Compare(string(a.node.Path), string(b.node.Path)))
}

// downloads are those of one round, several at the same time, of those that wait the largest first.
type downloads struct {
	*substitution
	queue  *queue[download]
	added  map[storepath.Path]bool
	group  *errgroup.Group
	cancel context.CancelCauseFunc
}

// startDownloads also gives a context that ends with the first error of one.
func (s *substitution) startDownloads(ctx context.Context) (*downloads, context.Context) {
	d := &downloads{substitution: s, queue: newQueue(largestFirst), added: map[storepath.Path]bool{}}
	ctx, d.cancel = context.WithCancelCause(ctx)
	d.group, ctx = errgroup.WithContext(ctx)
	for range s.Downloads {
		d.group.Go(func() error { return d.fetchAll(ctx) })
	}
	return d, ctx
}

// add has a path downloaded, once.
func (d *downloads) add(n *Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.added[n.Path] {
		return
	}
	d.added[n.Path] = true
	if _, here := d.staged[n.Path]; !here {
		d.progress.add(n.NarSize)
	}
	d.queue.add(download{node: n, found: d.found[n.Path], view: d.relocateTo})
}

// wait waits until all that was added is in staging.
func (d *downloads) wait() error {
	d.queue.close()
	defer d.cancel(nil)
	return d.group.Wait()
}

// stop ends all downloads because of an error, which it gives back.
func (d *downloads) stop(err error) error {
	d.cancel(err)
	_ = d.wait()
	return err
}

// fetchAll takes downloads until there are no more.
func (d *downloads) fetchAll(ctx context.Context) error {
	var buf []byte
	for {
		next, ok := d.queue.next()
		if !ok || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if buf == nil {
			buf = make([]byte, bufferSize)
		}
		if err := d.fetchPath(ctx, next, buf); err != nil {
			return err
		}
	}
}

// fetchPath brings a path into staging. What is there for another view is written anew. Where no cache can serve
// the NAR, one may have another build of the path.
func (s *substitution) fetchPath(ctx context.Context, d download, buf []byte) error {
	p := d.node.Path
	s.mu.Lock()
	st, here := s.staged[p]
	s.mu.Unlock()
	if here {
		st, err := s.rewrite(ctx, st, d.view)
		if err == nil {
			s.noteStaged(d.found, st)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
	}
	var failure error
	tried := map[storepath.Hash]bool{}
	for found := d.found; ; found = nil {
		if found == nil {
			var err error
			found, err = s.Caches.Lookup(ctx, p)
			if failure != nil && (err != nil || tried[found.NarHash]) {
				return failure
			}
			if err != nil {
				return s.graph.missing(p, err)
			}
		}
		st, err := s.obtain(ctx, found, d.view, buf)
		if err == nil {
			s.noteStaged(found, st)
			return nil
		}
		if unserved := (*cache.FetchError)(nil); !errors.As(err, &unserved) {
			return err
		}
		failure, tried[found.NarHash] = err, true
	}
}

// noteStaged notes that a path is in staging, and which narinfo it is of.
func (s *substitution) noteStaged(found *cache.Found, st staged) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found[found.StorePath], s.staged[found.StorePath] = found, st
}

// obtain unpacks a path into staging, or finds that an earlier run has.
func (s *substitution) obtain(ctx context.Context, found *cache.Found, view relocate.View, buf []byte) (staged, error) {
	info := newPathInfo(found)
	p := info.Path
	if st, ok := s.staging.reuse(ctx, info, view); ok {
		s.progress.read(found.NarSize)
		s.progress.done(found.NarSize, true)
		return st, nil
	}
	if err := s.staging.discard(p); err != nil {
		return staged{}, fmt.Errorf("unpacking %s: %w", p, err)
	}
	ctx = s.Caches.Share(ctx)
	st := staged{Format: Format, Prefix: view.Dir(), Info: info}
	size := min(max(found.NarSize, 0), largeNAR)
	if err := s.underWay.Acquire(ctx, size); err != nil {
		return staged{}, fmt.Errorf("unpacking %s: %w", p, context.Cause(ctx))
	}
	defer s.underWay.Release(size)
	counted := countingReader{add: s.progress.read}
	err := s.Caches.Fetch(ctx, found, func(src io.Reader) error {
		counted.restart(src)
		if err := nar.RemoveAll(s.staging.partial(p)); err != nil {
			return err
		}
		tree := nar.NewTree(s.staging.partial(p))
		tree.LeaveTimes()
		if found.ProvesItself() {
			tree.Limit(cmp.Or(s.maxUnprovenEntries, maxUnprovenEntries))
		}
		report, err := unpack(ctx, nar.NewReader(&counted), buf, info, view, tree)
		st.Report = report
		return err
	})
	if err == nil {
		err = s.fixUp(ctx, &st, view)
	}
	if err != nil {
		counted.restart(nil)
		return staged{}, errors.Join(fmt.Errorf("unpacking %s: %w", p, err), s.staging.discard(p))
	}
	s.progress.done(found.NarSize, false)
	return st, nil
}

// unpack writes one NAR to tree, relocated. Nothing of the tree is left after an error.
func unpack(ctx context.Context, src *nar.Reader, buf []byte, info PathInfo, view relocate.View, tree *nar.Tree,
) (relocate.Report, error) {
	rewriter := view.Rewrite(info.Path, info.References, tree)
	rewriter.SetContext(ctx)
	defer rewriter.Discard()
	if err := nar.Copy(rewriter, src, buf); err != nil {
		return relocate.Report{}, errors.Join(err, tree.Discard())
	}
	return rewriter.Report(), nil
}

// fixUp fixes up a verified tree and makes it the staged one.
func (s *substitution) fixUp(ctx context.Context, st *staged, view relocate.View) error {
	original, err := st.Info.Original()
	if err != nil {
		return err
	}
	report, err := view.FixTree(ctx, s.staging.partial(st.Info.Path), original, st.Report)
	if err != nil {
		return err
	}
	st.Info.Fixups, report.Fixups = newFixups(report.Fixups), nil
	st.Info.Overruled, st.Overrules = newOverruled(st.Info.Path, report), view.Overrules()
	st.Report = report
	return s.staging.commit(st.Info.Path, *st)
}

// rewrite writes a staged path anew for another view, by way of the NAR that it was and the hash of that.
func (s *substitution) rewrite(ctx context.Context, st staged, to relocate.View) (staged, error) {
	ctx = s.Caches.Share(ctx)
	original, err := st.Info.Original()
	if err != nil {
		return staged{}, err
	}
	from := s.View
	if st.Prefix == storepath.Dir {
		from = relocate.View{}
	}
	p := st.Info.Path
	tree := nar.NewTree(s.staging.partial(p))
	tree.LeaveTimes()
	sum := sha256.New()
	rewriter := to.Rewrite(p, st.Info.References, tree)
	rewriter.SetContext(ctx)
	defer rewriter.Discard()
	both := nar.Tee(nar.NewWriter(sum), rewriter)
	names := append([]storepath.Path{p}, original.References...)
	err = nar.DumpTo(ctx, from.Undo(names, original.Fixups, both), s.staging.tree(p))
	if got := storepath.Hash(sum.Sum(nil)); err == nil && got != original.NarHash {
		err = fmt.Errorf("its NAR hash is %s, want %s", got, original.NarHash)
	}
	if err != nil {
		return staged{}, errors.Join(fmt.Errorf("rewriting %s: %w", p, err), tree.Discard(), s.staging.discard(p))
	}
	st.Prefix, st.Report = to.Dir(), rewriter.Report()
	if err := errors.Join(nar.RemoveAll(s.staging.infoFile(p)), nar.RemoveAll(s.staging.tree(p))); err != nil {
		return staged{}, err
	}
	return st, s.fixUp(ctx, &st, to)
}

// countingReader tells how much was read.
type countingReader struct {
	io.Reader
	add func(n int64)
	n   int64
}

// restart takes back what was counted and goes on with another source.
func (c *countingReader) restart(src io.Reader) {
	c.add(-c.n)
	c.Reader, c.n = src, 0
}

// Read counts.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	c.add(int64(n))
	return n, err
}
