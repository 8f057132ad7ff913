package bench

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os/exec"
	"runtime"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// cores is how many processors the run may use.
func cores() int { return runtime.GOMAXPROCS(0) }

// run runs a program of the machine's.
func run(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("running %s: %w: %s", name, err, tail(string(out)))
	}
	return nil
}

// renamed is a store path with another hash, made from the old one and a reason.
func renamed(p storepath.Path, reason string) storepath.Path {
	sum := sha256.Sum256([]byte(string(p) + " " + reason))
	return storepath.Path(storepath.Dir + "/" + storepath.Encode32(sum[:20]) + "-" + p.Name())
}
