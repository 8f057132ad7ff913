// Command main is the Nix Hydra Buildpack. The buildpack's bin/detect and bin/build are links to it, and so are
// bin/inspect and bin/verify, which show and check an image, and bin/survey, which says what of a binary cache runs
// without /nix.
package main

import (
	"os"

	"github.com/nixproot/nix-hydra-buildpack/nixproot"
)

func main() {
	nixproot.Main(os.Args, os.Stdout, os.Stderr)
}
