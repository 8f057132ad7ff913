package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"

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
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, fmt.Errorf("packaging buildpack: %w", err)
	}
	for _, name := range []string{"main", "launch"} {
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
			"-o", filepath.Join(bin, name), "./cmd/"+name)
		build.Dir = root
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if name == "launch" {
			build.Env = append(build.Env, "GOARCH="+r.Arch())
		}
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("packaging buildpack: building %s: %w: %s", name, err, out)
		}
	}
	for _, name := range []string{"detect", "build", "inspect", "survey", "verify"} {
		if err := os.Symlink("main", filepath.Join(bin, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("packaging buildpack: %w", err)
		}
	}
	text, err := rigDependencies(ctx, r, filepath.Join(root, "buildpack.toml"))
	if err != nil {
		return nil, fmt.Errorf("packaging buildpack: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "buildpack.toml"), text, 0o644); err != nil {
		return nil, fmt.Errorf("packaging buildpack: %w", err)
	}
	return &Buildpack{Dir: dir, Arch: r.Arch()}, nil
}

// rigDependencies is buildpack.toml with this architecture's dependencies being the rig's files.
func rigDependencies(ctx context.Context, r *rig.Rig, file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var described map[string]any
	if err := toml.Unmarshal(data, &described); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	toolchain, err := r.Toolchain(ctx)
	if err != nil {
		return nil, err
	}
	proot, err := r.PRoot(ctx)
	if err != nil {
		return nil, err
	}
	metadata, _ := described["metadata"].(map[string]any)
	dependencies, _ := metadata["dependencies"].([]map[string]any)
	for _, d := range dependencies {
		purls := fmt.Sprint(d["purls"])
		if !strings.Contains(purls, "arch="+r.Arch()) {
			continue
		}
		switch d["id"] {
		case "nix":
			d["uri"], d["checksum"] = "file://"+toolchain.Tarball, "sha256:"+toolchain.SHA256
			d["purls"] = []string{strings.ReplaceAll(d["purls"].([]any)[0].(string), d["version"].(string), toolchain.Version)}
			d["version"] = toolchain.Version
		case "proot":
			d["uri"], d["checksum"] = "file://"+proot.Program, "sha256:"+proot.SHA256
		}
	}
	var out bytes.Buffer
	err = toml.NewEncoder(&out).Encode(described)
	return out.Bytes(), err
}
