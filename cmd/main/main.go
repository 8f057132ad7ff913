// Command main is the Nix Hydra Buildpack. The buildpack's bin/detect and bin/build are links to it, and so is
// bin/verify, which audits an image.
package main

import (
	"os"

	"github.com/nixproot/nix-hydra-buildpack/nixproot"
)

func main() {
	nixproot.Main(os.Args, os.Stdout)
}
