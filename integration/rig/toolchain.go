package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Toolchain is a Nix release in the official layout.
type Toolchain struct {
	// Tarball is nix-VERSION-SYSTEM.tar.xz.
	Tarball string
	// SHA256 is the tarball's hash in hex.
	SHA256 string
	// Version is Nix's version, Nix its store path.
	Version, Nix string
}

// installer stands where the official tarball has its installer.
const installer = `#!/bin/sh
# The official tarball has an installer here. This one was made for tests from Debian's packages.
echo "this Nix was made for tests; there is nothing to install" >&2
exit 1
`

// Toolchain gives a Nix release tarball in the layout of those on releases.nixos.org, made by real Nix from Debian's
// package: a directory with store/<paths>, .reginfo and install.
func (r *Rig) Toolchain(ctx context.Context) (*Toolchain, error) {
	pkgs, err := r.Nixpkgs(ctx)
	if err != nil {
		return nil, err
	}
	outs, err := pkgs.Build(ctx, "nix")
	if err != nil {
		return nil, err
	}
	nix := pkgs.Store.nix
	name := "nix-" + nix.Version + "-" + r.System()
	dir, err := r.cached(ctx, "toolchain", []string{"4", outs[0]}, func(ctx context.Context, dir, _ string) error {
		return r.packToolchain(ctx, pkgs.Store, outs[0], dir, name)
	})
	if err != nil {
		return nil, err
	}
	tarball := filepath.Join(dir, name+".tar.xz")
	sum, err := os.ReadFile(tarball + ".sha256")
	if err != nil {
		return nil, fmt.Errorf("reading toolchain: %w", err)
	}
	return &Toolchain{Tarball: tarball, SHA256: string(sum), Version: nix.Version, Nix: outs[0]}, nil
}

// fixedTar are the arguments of tar by which the same files make the same archive.
var fixedTar = []string{"--sort=name", "--numeric-owner", "--mtime=@1", "--format=gnu"}

func (r *Rig) packToolchain(ctx context.Context, store *Store, nix, dir, name string) error {
	defer r.doing("packing %s.tar.xz, which takes half a minute, once", name)()
	paths, err := store.Lines(ctx, "nix-store", "--query", "--requisites", nix)
	if err != nil {
		return err
	}
	registration, err := store.Run(ctx, "nix-store", append([]string{"--dump-db"}, paths...)...)
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, ".reginfo"), []byte(registration), 0o644),
		os.WriteFile(filepath.Join(dir, "install"), []byte(installer), 0o755)); err != nil {
		return err
	}
	tarball := filepath.Join(dir, name+".tar")
	args := append([]string{"-cf", tarball, "--owner=0", "--group=0", "--transform=s,^," + name + "/,rSh"}, fixedTar...)
	args = append(args, ".reginfo", "install", "-C", store.Real("/nix"))
	for _, path := range paths {
		args = append(args, strings.TrimPrefix(path, "/nix/"))
	}
	if _, err := run(ctx, dir, "tar", args...); err != nil {
		return err
	}
	xz, err := r.Program(ctx, "xz-utils", "xz")
	if err != nil {
		return err
	}
	if _, err := run(ctx, dir, xz, "-T0", "-2", tarball); err != nil {
		return err
	}
	sum, err := fileSHA256(tarball + ".xz")
	if err != nil {
		return err
	}
	return os.WriteFile(tarball+".xz.sha256", []byte(strings.TrimSpace(sum)), 0o644)
}
