package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// moduleRoot is the directory of this module's go.mod, found from the current directory, which may be in a module that
// replaces this one by a directory.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := run(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/nixproot/nix-hydra-buildpack")
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	return strings.TrimSpace(out), nil
}

// goBuild builds a static program of this module for the rig's architecture, the same bytes for the same source and Go
// release, and gives its path in a directory of its own that holds nothing else.
func (r *Rig) goBuild(ctx context.Context, name, pkg string) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(r.dir, ".gobuild-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	built := filepath.Join(dir, name)
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=",
		"-o", built, pkg)
	command.Dir = root
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOARCH="+r.arch)
	if _, err := output(command); err != nil {
		return "", err
	}
	sum, err := fileSHA256(built)
	if err != nil {
		return "", err
	}
	kept, err := r.cached(ctx, "bin", []string{name, sum}, func(_ context.Context, dir, _ string) error {
		return os.Rename(built, filepath.Join(dir, name))
	})
	return filepath.Join(kept, name), err
}
