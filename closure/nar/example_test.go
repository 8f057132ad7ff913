package nar_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

// A tree is written as a NAR, which has the hash that `nix-hash --type sha256` says, and read back entry by entry.
func Example() {
	var archive bytes.Buffer
	w := nar.NewWriter(&archive)
	for _, step := range []func() error{
		func() error { return w.Entry(&nar.Entry{Kind: nar.Directory}) },
		func() error { return w.Entry(&nar.Entry{Path: "run", Kind: nar.Regular, Executable: true, Size: 10}) },
		func() error { _, err := io.WriteString(w, "#!/bin/sh\n"); return err },
		func() error { return w.Entry(&nar.Entry{Path: "start", Kind: nar.Symlink, Target: "run"}) },
		w.Close,
	} {
		if err := step(); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Printf("sha256:%x\n", sha256.Sum256(archive.Bytes()))

	r := nar.NewReader(&archive)
	for {
		entry, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		contents, err := io.ReadAll(r)
		fmt.Printf("%s %q %q %q %v\n", entry.Kind, entry.Path, entry.Target, contents, err)
	}
	// Output:
	// sha256:c8595bef1ee56d9e046bf7ae8e0ec73dda5d3bc3d3382cbb521772e0bfd0107a
	// directory "" "" "" <nil>
	// regular "run" "" "#!/bin/sh\n" <nil>
	// symlink "start" "run" "" <nil>
}
