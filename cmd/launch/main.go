// Command launch starts the app at run time. It is installed as run_proot.sh and as nix-hydra-launch; package launch
// says what the two do.
package main

import (
	"os"

	"github.com/nixproot/nix-hydra-buildpack/launch"
)

func main() {
	os.Exit(launch.Main(os.Args, os.Environ()))
}
