// Command launch starts the app at run time. It is installed as run_proot.sh and as nix-hydra-launch; package launch
// says what the two do.
package main

import (
	"os"
	"runtime"

	"github.com/nixproot/nix-hydra-buildpack/launch"
)

// The program execs from the process's first thread, for PRoot (5.1, 5.4) crashes one in five programs that exec from
// another. Only what is locked during initialisation stays there: later the scheduler may have moved on, and on a busy
// machine it does. Death signals and capabilities are a thread's, too.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(launch.Main(os.Args, os.Environ()))
}
