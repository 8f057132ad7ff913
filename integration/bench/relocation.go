package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// speeds are what relocateChild found.
type speeds struct {
	Bytes   int64
	Read    float64 // seconds of CPU for reading the archives alone
	Rewrite float64 // seconds of CPU for reading and rewriting them
	Slowest string  // the path that took longest, with its share
}

// relocation measures the rewriter of references, on one core.
func (b *Bench) relocation(ctx context.Context, f *fixture) error {
	dir, err := b.cache(ctx, f, "zstd")
	if err != nil {
		return err
	}
	_, out, err := process(ctx, append(os.Environ(), "GOMAXPROCS=1"), self("relocate", dir)...)
	if err != nil {
		return err
	}
	var s speeds
	if err := json.Unmarshal(out, &s); err != nil {
		return err
	}
	b.Log("of the relocation's time, %s", s.Slowest)
	gigabytes := float64(s.Bytes) / 1e9
	b.row("launch.relocation.speed", gigabytes/s.Rewrite, "GB/s", ">=1")
	b.row("launch.relocation.speed_of_reading_alone", gigabytes/s.Read, "GB/s", "")
	return nil
}

// relocateChild reads all NARs of a cache's directory into memory, one by one, and rewrites them.
func relocateChild(ctx context.Context, args []string, stdout io.Writer) error {
	dir := args[0]
	infos, err := readInfos(dir)
	if err != nil {
		return err
	}
	view, err := relocate.NewView("/layers/nixproot_nix-hydra/view")
	if err != nil {
		return err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer decoder.Close()
	var s speeds
	var took []pathTime
	var contents []byte
	buf := make([]byte, 128<<10)
	for p, n := range infos {
		compressed, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(n.URL)))
		if err != nil {
			return err
		}
		if contents, err = decoder.DecodeAll(compressed, contents[:0]); err != nil {
			return err
		}
		s.Bytes += int64(len(contents))
		read, err := cpu(func() error { return nar.Copy(nowhere{}, nar.NewReader(bytes.NewReader(contents)), buf) })
		if err != nil {
			return err
		}
		rewrite, err := cpu(func() error {
			return nar.Copy(view.Rewrite(p, n.References, nowhere{}), nar.NewReader(bytes.NewReader(contents)), buf)
		})
		if err != nil {
			return err
		}
		s.Read += seconds(read)
		s.Rewrite += seconds(rewrite)
		took = append(took, pathTime{p, rewrite, n.NarSize})
		runtime.GC() // of what was read, so that it is not charged to the next one
	}
	slices.SortFunc(took, func(a, b pathTime) int { return int(b.took - a.took) })
	var words []string
	for _, t := range took[:min(8, len(took))] {
		words = append(words, fmt.Sprintf("%s %d%% (%.0f MB at %.2f GB/s)", t.Name(),
			int(100*seconds(t.took)/s.Rewrite), float64(t.size)/1e6, float64(t.size)/1e9/seconds(t.took)))
	}
	s.Slowest = strings.Join(words, ", ")
	return json.NewEncoder(stdout).Encode(s)
}

type pathTime struct {
	storepath.Path
	took time.Duration
	size int64
}

// cpu is the processor time of a function.
func cpu(f func() error) (time.Duration, error) {
	before, err := cpuTime()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := cpuTime()
	return after - before, err
}

func cpuTime() (time.Duration, error) {
	var used syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), err
}

// nowhere is a sink that drops everything.
type nowhere struct{}

// Entry drops an entry.
func (nowhere) Entry(*nar.Entry) error { return nil }

// Write drops contents.
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// Close does nothing.
func (nowhere) Close() error { return nil }
