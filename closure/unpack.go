package closure

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// bufferSize is what each download reads and writes through: larger ones were no faster.
const bufferSize = 128 << 10

// maxWindow is the window that the compressors of today's caches want: 8 MiB of xz -6, and of zstd up to -19.
const maxWindow = 8 << 20

// maxUnprovenEntries bounds the files, directories and links of a path that its contents prove only when all of them have
// come: each takes more of a disk than of a NAR.
const maxUnprovenEntries = 1 << 20

// waiting holds downloads in the order of their sizes.
type waiting []*cache.Found

func bySize(a, b *cache.Found) int {
	return cmp.Or(cmp.Compare(a.NarSize, b.NarSize), -strings.Compare(string(a.StorePath), string(b.StorePath)))
}

func (w *waiting) add(f *cache.Found) {
	at, _ := slices.BinarySearchFunc(*w, f, bySize)
	*w = slices.Insert(*w, at, f)
}

// next takes the largest whose footprint is no more than available, or nil.
func (w *waiting) next(available int64) *cache.Found {
	for i := len(*w) - 1; i >= 0; i-- {
		if f := (*w)[i]; footprint(f) <= available {
			*w = slices.Delete(*w, i, i+1)
			return f
		}
	}
	return nil
}

// footprint is about how much memory a decoder wants for a NAR: its window, which the NAR's size bounds.
func footprint(f *cache.Found) int64 { return min(f.NarSize, maxWindow) }

// obtain makes one path complete in staging, from what an earlier run left there or from the caches.
func (r *run) obtain(ctx context.Context, found *cache.Found, layout relocate.Layout,
) (st staged, reused bool, err error) {
	record := newRecord(found)
	p := record.Path
	if st, ok := r.staging.reuse(ctx, record, layout); ok {
		r.progress.read(found.NarSize)
		return st, true, nil
	}
	if err := r.staging.discard(p); err != nil {
		return staged{}, false, fmt.Errorf("unpacking %s: %w", p, err)
	}
	st = staged{Format: Format, Prefix: layout.Dir(), Record: record}
	var counted countingReader
	err = r.Caches.Fetch(ctx, found, func(src io.Reader) error {
		buf := r.buffer()
		defer func() { r.buffers <- buf }()
		r.progress.read(-counted.n)
		counted = countingReader{Reader: src, add: r.progress.read}
		if err := nar.RemoveAll(r.staging.partial(p)); err != nil {
			return err
		}
		tree := nar.NewTree(r.staging.partial(p))
		if found.ProvesItself() {
			tree.Limit(maxUnprovenEntries)
		}
		report, err := unpack(nar.NewReader(&counted), buf, record, layout, tree)
		st.Report = report
		return err
	})
	if err == nil {
		err = r.finish(ctx, &st, layout)
	}
	if err != nil {
		return staged{}, false, errors.Join(fmt.Errorf("unpacking %s: %w", p, err), r.staging.discard(p))
	}
	return st, false, nil
}

// unpack writes one NAR to tree, relocated. Nothing of the tree is left after an error.
func unpack(src *nar.Reader, buf []byte, record Record, layout relocate.Layout, tree *nar.Tree,
) (relocate.Report, error) {
	stage := record.Stage(layout, tree)
	defer stage.Discard()
	if err := nar.Copy(stage, src, buf); err != nil {
		return relocate.Report{}, errors.Join(err, tree.Discard())
	}
	return stage.Report(), nil
}

// finish fixes up a verified tree and makes it the staged one.
func (r *run) finish(ctx context.Context, st *staged, layout relocate.Layout) error {
	original, err := st.Record.Original()
	if err != nil {
		return err
	}
	report, err := layout.FixTree(ctx, r.staging.partial(st.Record.Path), original, st.Report)
	if err != nil {
		return err
	}
	st.Record.Fixups, report.Fixups = newFixups(report.Fixups), nil
	st.Record.Overruled, st.Overrules = newOverruled(st.Record.Path, report), layout.Overrules()
	st.Report = report
	return r.staging.commit(st.Record.Path, *st)
}

// rework writes a staged path anew for another layout, by way of the NAR that it was and the hash of that.
func (r *run) rework(ctx context.Context, st staged, to relocate.Layout) (staged, error) {
	original, err := st.Record.Original()
	if err != nil {
		return staged{}, err
	}
	from := r.Layout
	if st.Prefix == storepath.Dir {
		from = relocate.Layout{}
	}
	p := st.Record.Path
	tree := nar.NewTree(r.staging.partial(p))
	sum := sha256.New()
	stage := st.Record.Stage(to, tree)
	defer stage.Discard()
	both := nar.Tee(nar.NewWriter(sum), stage)
	names := append([]storepath.Path{p}, original.References...)
	err = nar.DumpTo(ctx, from.Undo(names, original.Fixups, both), r.staging.tree(p))
	if got := storepath.Hash(sum.Sum(nil)); err == nil && got != original.NarHash {
		err = fmt.Errorf("its NAR hash is %s, want %s", got, original.NarHash)
	}
	if err != nil {
		return staged{}, errors.Join(fmt.Errorf("converting %s: %w", p, err), tree.Discard(), r.staging.discard(p))
	}
	st.Prefix, st.Report = to.Dir(), stage.Report()
	if err := errors.Join(nar.RemoveAll(r.staging.sidecar(p)), nar.RemoveAll(r.staging.tree(p))); err != nil {
		return staged{}, err
	}
	return st, r.finish(ctx, &st, to)
}

// buffer takes one that is free or makes one; there are never more than downloads.
func (r *run) buffer() []byte {
	select {
	case buf := <-r.buffers:
		return buf
	default:
		return make([]byte, bufferSize)
	}
}

// countingReader tells how much was read.
type countingReader struct {
	io.Reader
	add func(n int64)
	n   int64
}

// Read counts.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	c.add(int64(n))
	return n, err
}
