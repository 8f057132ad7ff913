package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/nixproot"
)

// substitution is what one process fetches: as the buildpack does it, from opening the caches to the layers and the
// view.
type substitution struct {
	URL, Key string
	Roots    []storepath.Path
	Layers   string
	// Relocate is whether paths are rewritten to the view.
	Relocate bool
}

// substituteChild is that process.
func substituteChild(ctx context.Context, args []string, stdout io.Writer) error {
	debug.SetGCPercent(nixproot.GCPercent)
	var s substitution
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return err
	}
	result, err := s.run(ctx)
	if err != nil {
		return err
	}
	for _, blocker := range result.Blockers {
		fmt.Fprintln(stdout, blocker)
	}
	return nil
}

func (s *substitution) run(ctx context.Context) (*closure.Result, error) {
	keys, err := narinfo.ParseKeys(s.Key)
	if err != nil {
		return nil, err
	}
	var view relocate.View
	dir := filepath.Join(s.Layers, "view")
	if s.Relocate {
		if view, err = relocate.NewView(dir); err != nil {
			return nil, err
		}
	}
	caches, err := cache.Open(ctx, cache.Options{
		URLs: []string{s.URL}, Keys: keys, RequireSigs: true,
	})
	if err != nil {
		return nil, err
	}
	staging := filepath.Join(s.Layers, ".staging")
	result, err := closure.Substitute(ctx, closure.Options{
		Caches: caches, Roots: s.Roots, Staging: staging, View: view,
	})
	if err != nil {
		return nil, err
	}
	if err := closure.Install(ctx, result, staging, s.Layers); err != nil {
		return nil, err
	}
	return result, closure.WriteView(ctx, dir, result.Groups, s.Layers, result.View)
}

// ours substitutes into a new directory by a process of its own.
func (b *Bench) ours(url string, f *fixture, roots []storepath.Path) func(context.Context) (Usage, error) {
	said := false
	return func(ctx context.Context) (Usage, error) {
		dir, done, err := b.disk(ctx)
		if err != nil {
			return Usage{}, err
		}
		job, err := json.Marshal(substitution{URL: url, Key: f.public, Roots: roots, Layers: dir, Relocate: true})
		if err != nil {
			return Usage{}, errors.Join(err, done())
		}
		u, out, err := process(ctx, os.Environ(), self("substitute", string(job))...)
		err = errors.Join(err, done())
		if len(out) > 0 && !said {
			said = true
			b.Log("the closure cannot be relocated, so it is written twice:\n%s", out)
		}
		return u, err
	}
}

// nix substitutes into a new directory by Nix, with its defaults and nothing cached.
func (b *Bench) nix(url string, f *fixture) func(context.Context) (Usage, error) {
	return func(ctx context.Context) (Usage, error) {
		nix, err := b.Rig.Nix(ctx)
		if err != nil {
			return Usage{}, err
		}
		dir, done, err := b.disk(ctx)
		if err != nil {
			return Usage{}, err
		}
		command := []string{filepath.Join(nix.Bin, "nix"), "--extra-experimental-features", "nix-command", "copy",
			"--option", "trusted-public-keys", f.public, "--from", url, "--to", "local?root=" + dir}
		for _, root := range f.roots {
			command = append(command, string(root))
		}
		u, _, err := process(ctx, append(nixEnvironment(filepath.Join(dir, "home")), "PATH="+os.Getenv("PATH")), command...)
		return u, errors.Join(err, done())
	}
}

// substitute measures how long a closure takes from a binary cache to its layers.
func (b *Bench) substitute(ctx context.Context) error {
	f, err := b.open(ctx)
	if err != nil {
		return err
	}
	nix, err := b.Rig.Nix(ctx)
	if err != nil {
		return err
	}
	b.Log("the peer is nix copy of Nix %s", nix.Version)
	for _, compression := range []string{"zstd", "xz"} {
		if err := b.againstNix(ctx, f, compression); err != nil {
			return err
		}
	}
	for _, l := range lines {
		if err := b.againstNixFar(ctx, f, l); err != nil {
			return err
		}
	}
	return b.manyPaths(ctx, f)
}

// What the comparison with Nix over loopback must reach, by compression: the time that passes, and the processor's.
var (
	wallBars = map[string]string{"zstd": "<=0.9", "xz": "<=0.95"}
	cpuBars  = map[string]string{"zstd": "<=1.05", "xz": "<=0.95"}
)

func (b *Bench) againstNix(ctx context.Context, f *fixture, compression string) error {
	dir, err := b.cache(ctx, f, compression)
	if err != nil {
		return err
	}
	server, err := rig.Serve(dir, rig.ServeOptions{})
	if err != nil {
		return err
	}
	defer server.Close()
	limit, err := b.newLimit(ctx, dir, compression)
	if err != nil {
		return err
	}
	ours := b.ours(server.URL, f, f.roots)
	if _, err := ours(ctx); err != nil { // whoever is the first to read the cache waits for the disk
		return err
	}
	all, err := b.alternate(ctx, compression+": ours, Nix, decompressing, untarring, hashing",
		ours, b.nix(server.URL, f), limit.decompress, limit.untar, limit.hash)
	if err != nil {
		return err
	}
	us, nix, decompress, untar, hash := all[0], all[1], all[2], all[3], all[4]
	slower, least := make([]float64, len(untar.wall)), make([]float64, len(untar.wall))
	for i := range slower {
		slower[i] = max(decompress.wall[i], untar.wall[i])
		least[i] = (decompress.cpu[i] + untar.cpu[i] + hash.cpu[i]) / float64(cores())
	}
	name := "substitute." + compression
	b.row(name+".against_nix", ratio(us.wall, nix.wall), "ratio", wallBars[compression])
	b.row(name+".cpu_against_nix", ratio(us.cpu, nix.cpu), "ratio", cpuBars[compression])
	if compression == "zstd" {
		b.row(name+".against_limit", ratio(us.wall, slower), "ratio", "<=1.25")
	} else {
		b.row(name+".against_limit", ratio(us.wall, slower), "ratio", "")
	}
	b.row(name+".least_against_nix", ratio(least, nix.wall), "ratio", "")
	b.row(name+".memory_against_nix", ratio(us.rss, nix.rss), "ratio", "<=1")
	b.row(name+".wall", median(us.wall), "s", "")
	b.row(name+".wall_nix", median(nix.wall), "s", "")
	b.row(name+".limit_decompress", median(decompress.wall), "s", "")
	b.row(name+".limit_untar", median(untar.wall), "s", "")
	b.row(name+".cpu", median(us.cpu), "s", "")
	b.row(name+".cpu_nix", median(nix.cpu), "s", "")
	b.row(name+".cpu_decompress", median(decompress.cpu), "s", "")
	b.row(name+".cpu_untar", median(untar.cpu), "s", "")
	b.row(name+".cpu_hash", median(hash.cpu), "s", "")
	b.row(name+".memory", median(us.rss), "MiB", "")
	b.row(name+".memory_nix", median(nix.rss), "MiB", "")
	return b.sweep()
}

// line is the way to a distant cache.
type line struct {
	name, compression string
	latency           time.Duration // of each answer
	bandwidth         int64         // of all answers together, in bytes a second; 0 is no limit
	bar               string        // what the time against Nix's must reach
}

const gigabit = 1e9 / 8

var lines = []line{
	{"20ms_1gbit.zstd", "zstd", 20 * time.Millisecond, gigabit, "<=0.6"},
	{"20ms_1gbit.xz", "xz", 20 * time.Millisecond, gigabit, "<=0.6"},
	{"50ms.zstd", "zstd", 50 * time.Millisecond, 0, "<=0.5"},
}

func (b *Bench) againstNixFar(ctx context.Context, f *fixture, l line) error {
	dir, err := b.cache(ctx, f, l.compression)
	if err != nil {
		return err
	}
	server, err := rig.Serve(dir, rig.ServeOptions{Latency: l.latency, Bandwidth: l.bandwidth})
	if err != nil {
		return err
	}
	defer server.Close()
	all, err := b.alternate(ctx, l.name+": ours, Nix", b.ours(server.URL, f, f.roots), b.nix(server.URL, f))
	if err != nil {
		return err
	}
	name := "substitute." + l.name
	b.row(name+".against_nix", ratio(all[0].wall, all[1].wall), "ratio", l.bar)
	b.row(name+".wall", median(all[0].wall), "s", "")
	b.row(name+".wall_nix", median(all[1].wall), "s", "")
	return b.sweep()
}

// What manyPaths makes of the closure.
const (
	manyCount = 2000
	manyBytes = 2e9
)

// manyPaths measures the memory for 2,000 paths and 2 GB: the closure, and further paths with the contents of some of
// its own.
func (b *Bench) manyPaths(ctx context.Context, f *fixture) error {
	dir, err := b.cache(ctx, f, "zstd")
	if err != nil {
		return err
	}
	infos, err := readInfos(dir)
	if err != nil {
		return err
	}
	many, root := multiply(infos)
	to, err := f.sign("many", dir, many)
	if err != nil {
		return err
	}
	server, err := rig.Serve(to, rig.ServeOptions{})
	if err != nil {
		return err
	}
	defer server.Close()
	var size int64
	for _, n := range many {
		size += n.NarSize
	}
	b.Log("%d paths, %.2f GB", len(many), float64(size)/1e9)
	all, err := b.alternate(ctx, "many paths: ours", b.ours(server.URL, f, root))
	if err != nil {
		return err
	}
	b.row("substitute.many.paths", float64(len(many)), "paths", "")
	b.row("substitute.many.bytes", float64(size)/1e9, "GB", "")
	b.row("substitute.many.memory", slices.Max(all[0].rss), "MiB", "<256")
	b.row("substitute.many.wall", median(all[0].wall), "s", "")
	return b.sweep()
}

// multiply gives the closure and as many copies of paths of it, under other hashes, as come to the wanted number and
// size, with a root above all.
func multiply(infos map[storepath.Path]*narinfo.NarInfo) (map[storepath.Path]*narinfo.NarInfo, []storepath.Path) {
	many := map[storepath.Path]*narinfo.NarInfo{}
	var size int64
	var sorted []*narinfo.NarInfo
	for p, n := range infos {
		many[p] = n
		size += n.NarSize
		sorted = append(sorted, n)
	}
	slices.SortFunc(sorted, func(a, b *narinfo.NarInfo) int {
		return cmp.Or(cmp.Compare(a.NarSize, b.NarSize), cmp.Compare(a.StorePath, b.StorePath))
	})
	root := *sorted[0]
	root.References = slices.Sorted(func(yield func(storepath.Path) bool) {
		for p := range infos {
			if !yield(p) {
				return
			}
		}
	})
	for i := 0; len(many) < manyCount-1; i++ {
		// Paths of about the size that is left for each of those to come.
		wanted := (manyBytes - float64(size)) / float64(manyCount-1-len(many))
		at, _ := slices.BinarySearchFunc(sorted, wanted, func(n *narinfo.NarInfo, w float64) int {
			return cmp.Compare(float64(n.NarSize), w)
		})
		n := *sorted[max(0, min(at, len(sorted)-1)-i%5)]
		n.References = append(slices.Clone(n.References), n.StorePath)
		slices.Sort(n.References)
		n.References = slices.Compact(n.References)
		n.StorePath = renamed(n.StorePath, fmt.Sprint("copy ", i))
		many[n.StorePath] = &n
		size += n.NarSize
		root.References = append(root.References, n.StorePath)
	}
	root.StorePath = renamed(root.StorePath, "root")
	slices.Sort(root.References)
	many[root.StorePath] = &root
	return many, []storepath.Path{root.StorePath}
}
