package recompress_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/recompress"
)

func Example() {
	was := strings.Repeat("see /usr/share/doc\n", 9)
	now := strings.Replace(was, "/usr/share/doc", "/opt/share/doc", 1)
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, flate.BestCompression)
	_, _ = io.WriteString(w, was)
	_ = w.Close()

	stream, err := recompress.Deflate(packed.Bytes(), []byte(was), []byte(now), []recompress.Edit{{From: 5, To: 8}})
	if err != nil {
		fmt.Println(err)
		return
	}
	back, _ := io.ReadAll(flate.NewReader(bytes.NewReader(stream)))
	fmt.Println(string(back) == now, len(stream)-packed.Len() < 4)
	// Output:
	// true true
}
