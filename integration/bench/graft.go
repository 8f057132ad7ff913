package bench

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// change is a closure in which one path is another one, and with it all that depend on it.
type change struct {
	roots []storepath.Path
	infos map[storepath.Path]*narinfo.NarInfo // the whole closure after it
	fresh []*narinfo.NarInfo                  // of the paths that it made
}

// narBytes and fileBytes are the sizes of the new paths, unpacked and compressed.
func (c *change) narBytes() (sum int64) {
	for _, n := range c.fresh {
		sum += n.NarSize
	}
	return sum
}

func (c *change) fileBytes() (sum int64) {
	for _, n := range c.fresh {
		sum += n.FileSize
	}
	return sum
}

// graph is the closure of roots as the planner takes it.
func graph(roots []storepath.Path, infos map[storepath.Path]*narinfo.NarInfo) *closure.Graph {
	g := &closure.Graph{Roots: roots, Nodes: map[storepath.Path]*closure.Node{}}
	for queue := slices.Clone(roots); len(queue) > 0; queue = queue[1:] {
		p := queue[0]
		if n := infos[p]; n != nil && g.Nodes[p] == nil {
			g.Nodes[p] = &closure.Node{Path: p, NarHash: n.NarHash, NarSize: n.NarSize, References: n.References}
			queue = append(queue, n.References...)
		}
	}
	return g
}

// dependents are all that need a path, directly or not, and the path itself.
func dependents(g *closure.Graph, p storepath.Path) map[storepath.Path]bool {
	direct := g.Dependents()
	all := map[storepath.Path]bool{p: true}
	for queue := []storepath.Path{p}; len(queue) > 0; queue = queue[1:] {
		for _, d := range direct[queue[0]] {
			if !all[d] {
				all[d] = true
				queue = append(queue, d)
			}
		}
	}
	return all
}

// leaf is the dependency closest to 1 MB whose dependents make up less than a tenth of the closure, roots left out.
func leaf(g *closure.Graph) storepath.Path {
	var best storepath.Path
	off := int64(1 << 62)
	for _, n := range g.Sorted() {
		away := max(n.NarSize-1e6, 1e6-n.NarSize)
		if away >= off || slices.Contains(g.Roots, n.Path) {
			continue
		}
		var sum int64
		for d := range dependents(g, n.Path) {
			sum += g.Nodes[d].NarSize
		}
		if sum < graphSize(g)/10 {
			best, off = n.Path, away
		}
	}
	return best
}

// library is what most paths depend on, the largest of several.
func library(g *closure.Graph) storepath.Path {
	nodes := g.Sorted()
	count := map[storepath.Path]int{}
	for _, n := range nodes {
		count[n.Path] = len(dependents(g, n.Path))
	}
	return slices.MaxFunc(nodes, func(a, b *closure.Node) int {
		return cmp.Or(cmp.Compare(count[a.Path], count[b.Path]), cmp.Compare(a.NarSize, b.NarSize))
	}).Path
}

// graft adds to the cache in dir what building seed anew would: the seed with another byte, and all its dependents,
// each under a new hash, with the new hashes in place of the old ones. Nothing changes its length.
func (f *fixture) graft(ctx context.Context, dir string, seed storepath.Path) (*change, error) {
	affected := dependents(graph(f.roots, f.infos), seed)
	hashes := map[string]string{}
	rename := func(p storepath.Path) storepath.Path {
		if affected[p] {
			return renamed(p, string(seed))
		}
		return p
	}
	for p := range affected {
		hashes[p.HashPart()] = rename(p).HashPart()
	}
	c := &change{infos: map[storepath.Path]*narinfo.NarInfo{}}
	for _, root := range f.roots {
		c.roots = append(c.roots, rename(root))
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	var failed error
	slots := make(chan struct{}, cores())
	for p, n := range f.infos {
		if !affected[p] {
			c.infos[p] = n
			continue
		}
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			fresh, err := f.rewritten(dir, *n, hashes, p == seed)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("deriving from %s: %w", p, err))
				return
			}
			fresh.StorePath = rename(p)
			fresh.References = nil
			for _, ref := range n.References {
				fresh.References = append(fresh.References, rename(ref))
			}
			slices.Sort(fresh.References)
			c.infos[fresh.StorePath] = fresh
			c.fresh = append(c.fresh, fresh)
			failed = errors.Join(failed, f.write(dir, *fresh))
		})
	}
	group.Wait()
	return c, errors.Join(failed, ctx.Err())
}

const storePrefix = storepath.Dir + "/"

// rewritten writes a path's NAR with other hashes to the cache in dir.
func (f *fixture) rewritten(dir string, n narinfo.NarInfo, hashes map[string]string, alter bool,
) (*narinfo.NarInfo, error) {
	contents, err := f.nar(&n)
	if err != nil {
		return nil, err
	}
	for rest := contents; ; {
		at := bytes.Index(rest, []byte(storePrefix))
		if at < 0 {
			break
		}
		rest = rest[at+len(storePrefix):]
		if len(rest) >= storepath.HashLen {
			if hash, ok := hashes[string(rest[:storepath.HashLen])]; ok {
				copy(rest, hash)
			}
		}
	}
	if alter {
		if err := alterFile(contents); err != nil {
			return nil, err
		}
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	packed := encoder.EncodeAll(contents, nil)
	n.NarHash = sha256.Sum256(contents)
	n.FileHash, n.FileSize, n.Compression = sha256.Sum256(packed), int64(len(packed)), "zstd"
	n.URL = "nar/" + storepath.Encode32(n.FileHash[:]) + ".nar.zst"
	return &n, os.WriteFile(filepath.Join(dir, filepath.FromSlash(n.URL)), packed, 0o644)
}

// nar is a path's NAR as the first cache has it.
func (f *fixture) nar(n *narinfo.NarInfo) ([]byte, error) {
	packed, err := os.ReadFile(filepath.Join(f.caches["zstd"], filepath.FromSlash(f.zstd[n.StorePath].URL)))
	if err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	return decoder.DecodeAll(packed, make([]byte, 0, n.NarSize+1))
}

// alterFile changes a byte of the first file in a NAR.
func alterFile(contents []byte) error {
	const word = "\x08\x00\x00\x00\x00\x00\x00\x00contents"
	for rest := contents; ; {
		at := bytes.Index(rest, []byte(word))
		if at < 0 || len(rest) < at+len(word)+9 {
			return errors.New("the path has no file that is not empty")
		}
		rest = rest[at+len(word):]
		if binary.LittleEndian.Uint64(rest) > 0 {
			rest[8] ^= 1
			return nil
		}
	}
}
