package bench

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// limit is what a substitution is up against: the files decompressed on all cores, the tree written from one tar, and
// what both took of the processor with the hashing that signatures demand, spread evenly over all cores.
type limit struct {
	b       *Bench
	program []string
	lists   [][]string // of files, one for each core
	tar     string
	hashed  int64 // bytes: all archives, compressed and not
}

func (b *Bench) newLimit(ctx context.Context, dir, compression string) (*limit, error) {
	l := &limit{b: b, tar: filepath.Join(b.Dir, "closure.tar")}
	pkg := map[string]string{"zstd": "zstd", "xz": "xz-utils"}[compression]
	program, err := b.Rig.Program(ctx, pkg, compression)
	if err != nil {
		return nil, err
	}
	l.program = []string{program, "-dc"}
	if compression == "xz" {
		l.program = append(l.program, "-T1")
	}
	infos, err := readInfos(dir)
	if err != nil {
		return nil, err
	}
	l.lists = spread(dir, infos)
	for _, n := range infos {
		l.hashed += n.NarSize + n.FileSize
	}
	return l, l.makeTar(ctx, infos)
}

// spread divides a cache's files evenly among the cores.
func spread(dir string, infos map[storepath.Path]*narinfo.NarInfo) [][]string {
	var sorted []*narinfo.NarInfo
	for _, n := range infos {
		sorted = append(sorted, n)
	}
	slices.SortFunc(sorted, func(a, b *narinfo.NarInfo) int {
		return cmp.Or(cmp.Compare(b.FileSize, a.FileSize), cmp.Compare(a.StorePath, b.StorePath))
	})
	lists, sums := make([][]string, cores()), make([]int64, cores())
	for _, n := range sorted {
		least := slices.Index(sums, slices.Min(sums))
		sums[least] += n.FileSize
		file := filepath.Join(dir, filepath.FromSlash(n.URL))
		if real, err := filepath.EvalSymlinks(file); err == nil {
			file = real // the programs pass over links
		}
		lists[least] = append(lists[least], file)
	}
	return lists
}

// makeTar makes the tar of the same tree, unless it is there.
func (l *limit) makeTar(ctx context.Context, infos map[storepath.Path]*narinfo.NarInfo) error {
	if _, err := os.Stat(l.tar); err == nil {
		return nil
	}
	l.b.Log("unpacking the closure once, for a tar of it")
	f := l.b.fixture
	dir, err := l.b.newDir()
	if err != nil {
		return err
	}
	defer l.b.discard(dir)
	server, err := rig.Serve(f.caches[f.compressions()[0]], rig.ServeOptions{})
	if err != nil {
		return err
	}
	defer server.Close()
	s := substitution{URL: server.URL, Key: f.public, Roots: f.roots, Layers: dir}
	if _, err := s.run(ctx); err != nil {
		return err
	}
	return run(ctx, "tar", "-C", dir, "-cf", l.tar, ".")
}

// decompress decompresses all files, by as many processes as there are cores.
func (l *limit) decompress(ctx context.Context) (Usage, error) {
	type outcome struct {
		Usage
		err error
	}
	done := make(chan outcome)
	start := time.Now()
	for _, list := range l.lists {
		go func() {
			// The output goes to nowhere by a shell, so that it is not copied.
			line := append(slices.Clone(l.program), list...)
			u, _, err := process(ctx, os.Environ(), append([]string{"/bin/sh", "-c", `exec "$@" >/dev/null`, "sh"}, line...)...)
			done <- outcome{u, err}
		}()
	}
	var sum Usage
	var failed error
	for range l.lists {
		o := <-done
		sum.CPU += o.CPU
		sum.RSS += o.RSS
		failed = errors.Join(failed, o.err)
	}
	sum.Wall = time.Since(start)
	return sum, failed
}

// untar writes the tree from the tar.
func (l *limit) untar(ctx context.Context) (Usage, error) {
	dir, done, err := l.b.disk(ctx)
	if err != nil {
		return Usage{}, err
	}
	u, _, err := process(ctx, os.Environ(), "tar", "-C", dir, "-xf", l.tar)
	return u, errors.Join(err, done())
}

// hash computes the hashes of as many bytes as the archives have, compressed and not.
func (l *limit) hash(ctx context.Context) (Usage, error) {
	u, _, err := process(ctx, os.Environ(), self("hash", strconv.FormatInt(l.hashed, 10))...)
	return u, err
}

// hashChild is that process.
func hashChild(_ context.Context, args []string, _ io.Writer) error {
	size, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	sum, chunk := sha256.New(), make([]byte, 128<<10)
	for ; size > 0; size -= int64(len(chunk)) {
		sum.Write(chunk[:min(size, int64(len(chunk)))])
	}
	return nil
}
