package nar_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gonix "github.com/nix-community/go-nix/pkg/nar"
	zombiezen "zombiezen.com/go/nix/nar"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

// sample is an archive of size bytes of contents in files of each bytes, 50 to a directory.
func sample(size, each int) []byte {
	var b bytes.Buffer
	w := nar.NewWriter(&b)
	contents := bytes.Repeat([]byte("0123456789abcdef"), each/16+1)[:each]
	_ = w.Entry(&nar.Entry{Kind: nar.Directory})
	for i := range size / each {
		if i%50 == 0 {
			_ = w.Entry(&nar.Entry{Path: fmt.Sprintf("d%06d", i/50), Kind: nar.Directory})
		}
		path := fmt.Sprintf("d%06d/file-%06d", i/50, i)
		_ = w.Entry(&nar.Entry{Path: path, Kind: nar.Regular, Size: int64(each)})
		_, _ = w.Write(contents)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// null is a Sink that drops everything.
type null struct{}

func (null) Entry(*nar.Entry) error      { return nil }
func (null) Write(p []byte) (int, error) { return len(p), nil }
func (null) Close() error                { return nil }

func BenchmarkRead(b *testing.B) {
	for _, each := range []int{1 << 10, 25 << 10, 4 << 20} {
		data := sample(64<<20, each)
		src := bytes.NewReader(data)
		name := fmt.Sprintf("files=%dKiB/", each>>10)
		run := func(name string, read func() error) {
			b.Run(name, func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					src.Reset(data)
					if err := read(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		buf := make([]byte, 128<<10)
		run(name+"copy", func() error { return nar.Copy(null{}, nar.NewReader(src), buf) })
		run(name+"read", func() error {
			r := nar.NewReader(src)
			for {
				if _, err := r.Next(); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				for {
					if _, err := r.Read(buf); err != nil {
						break
					}
				}
			}
		})
		run(name+"zombiezen", func() error {
			r := zombiezen.NewReader(src)
			for {
				if _, err := r.Next(); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf); err != nil {
					return err
				}
			}
		})
		run(name+"go-nix", func() error {
			r, err := gonix.NewReader(src)
			if err != nil {
				return err
			}
			for {
				if _, err := r.Next(); err == io.EOF {
					return r.Close()
				} else if err != nil {
					return err
				}
				if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf); err != nil {
					return err
				}
			}
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	data := sample(64<<20, 25<<10)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := nar.Copy(nar.NewWriter(io.Discard), nar.NewReader(bytes.NewReader(data)), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTree unpacks into $NIX_HYDRA_BENCH_DIR, or the directory for temporary files. Files that were removed a moment
// ago make new ones slow on ext4, so that a tmpfs, or a place of its own, shows more.
func BenchmarkTree(b *testing.B) {
	for _, each := range []int{1 << 10, 25 << 10, 4 << 20} {
		data := sample(32<<20, each)
		files := strings.Count(string(data), "file-")
		b.Run(fmt.Sprintf("files=%dKiB", each>>10), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			temp, err := os.MkdirTemp(os.Getenv("NIX_HYDRA_BENCH_DIR"), "nar")
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for b.Loop() {
				tree := nar.NewTree(filepath.Join(temp, fmt.Sprint(n)))
				if err := nar.Copy(tree, nar.NewReader(bytes.NewReader(data)), nil); err != nil {
					b.Fatal(err)
				}
				n++
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n*files), "µs/file")
			if err := nar.RemoveAll(temp); err != nil {
				b.Fatal(err)
			}
		})
	}
}
