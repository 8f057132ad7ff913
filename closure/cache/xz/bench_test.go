package xz_test

import (
	"bytes"
	"io"
	"os"
	"testing"

	lola "github.com/mikelolasagasti/xz"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache/xz"
)

func corpus(b *testing.B) []byte {
	data, err := os.ReadFile(os.Getenv("XZ_CORPUS"))
	if err != nil {
		b.Skip(err)
	}
	return data
}

func BenchmarkOurs(b *testing.B) {
	data := corpus(b)
	r := xz.NewReader(nil, xz.Options{})
	for b.Loop() {
		r.Reset(bytes.NewReader(data), xz.Options{SkipCheck: true})
		n, err := io.Copy(io.Discard, r)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n)
	}
}

func BenchmarkLola(b *testing.B) {
	data := corpus(b)
	for b.Loop() {
		r, _ := lola.NewReader(bytes.NewReader(data), 0)
		n, err := io.Copy(io.Discard, r)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n)
	}
}
