package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// Buildpack is this checkout's buildpack, packaged, with the rig's toolchain and PRoot in place of those that
// buildpack.toml pins.
type Buildpack struct {
	Dir string
	// Arch is what images are made for, this machine's architecture by default. What makes them runs on this machine.
	Arch string
}

// Package builds the programs and writes the buildpack to dir. The toolchain's and PRoot's addresses are files, so
// that a build downloads nothing but what its binary caches serve.
func Package(ctx context.Context, r *rig.Rig, dir string) (*Buildpack, error) {
	downloads, err := r.Downloads(ctx)
	if err == nil {
		err = r.Buildpack(ctx, dir, rig.BuildpackOptions{BaseURL: "file://" + downloads})
	}
	if err != nil {
		return nil, fmt.Errorf("packaging buildpack: %w", err)
	}
	if r.Arch() != runtime.GOARCH {
		build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "bin/main"),
			"github.com/nixproot/nix-hydra-buildpack/cmd/main")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("packaging buildpack: %w: %s", err, out)
		}
	}
	return &Buildpack{Dir: dir, Arch: r.Arch()}, nil
}
