package relocate_test

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// discard is a sink that costs nothing.
type discard struct{}

func (discard) Entry(*nar.Entry) error      { return nil }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

// installed gathers files below dirs, up to limit bytes.
func installed(b *testing.B, limit int64, dirs ...string) (files []file, total int64) {
	b.Helper()
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			contents, err := os.ReadFile(path)
			if err != nil || len(contents) == 0 {
				return nil
			}
			files = append(files, regular(strings.TrimPrefix(path, "/usr/"), string(contents)))
			if total += int64(len(contents)); total >= limit {
				return fs.SkipAll
			}
			return nil
		})
		if total >= limit {
			break
		}
	}
	if total == 0 {
		b.Fatalf("no file found below %v", dirs)
	}
	return files, total
}

// references are as many as a path of a real closure has.
func references(n int) []storepath.Path {
	r := rand.New(rand.NewPCG(5, 6))
	const base32 = "0123456789abcdfghijklmnpqrsvwxyz"
	refs := make([]storepath.Path, n)
	for i := range refs {
		hash := make([]byte, storepath.HashLen)
		for c := range hash {
			hash[c] = base32[r.IntN(len(base32))]
		}
		refs[i] = storepath.Path("/nix/store/" + string(hash) + "-reference")
	}
	return refs
}

// cpuTime is what this process has used, so that other processes on the machine do not blur the figure.
func cpuTime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkRewrite measures the rewriter on what is installed here, in the pieces a NAR reader hands on.
func BenchmarkRewrite(b *testing.B) {
	l, err := relocate.NewView(viewDir)
	if err != nil {
		b.Fatal(err)
	}
	for name, dirs := range map[string][]string{
		"programs":  {"/usr/bin", "/usr/sbin"},
		"libraries": {"/usr/lib"},
		"text":      {"/usr/share", "/usr/include"},
	} {
		b.Run(name, func(b *testing.B) {
			files, total := installed(b, 256<<20, dirs...)
			b.ReportAllocs()
			b.SetBytes(total)
			refs := references(30)
			before := cpuTime()
			for b.Loop() {
				rewriter := l.Rewrite(self, refs, discard{})
				for i := range files {
					if err := rewriter.Entry(&files[i].Entry); err != nil {
						b.Fatal(err)
					}
					for rest := files[i].contents; len(rest) > 0; {
						n := min(len(rest), 64<<10)
						if _, err := rewriter.Write(rest[:n]); err != nil {
							b.Fatal(err)
						}
						rest = rest[n:]
					}
				}
				if err := rewriter.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(total)*float64(b.N)/1e6/(cpuTime()-before).Seconds(), "MB/cpu-s")
		})
	}
}
