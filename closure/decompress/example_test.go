package decompress_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
)

// All decoders of a pool share its memory; names are those of a narinfo's Compression.
func ExamplePool_Reader() {
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = io.WriteString(w, "hello, world\n")
	_ = w.Close()

	pool := decompress.NewPool(64 << 20)
	r, err := pool.Reader(context.Background(), "zstd", &packed, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	_, err = io.Copy(os.Stdout, r)
	fmt.Println(err)

	_, err = pool.Reader(context.Background(), "lzip", &packed, 0)
	fmt.Println(err)
	// Output:
	// hello, world
	// <nil>
	// no decoder for "lzip": not supported (supported: xz, zstd, bzip2, br, gzip, none)
}
