package rig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Nix is a Nix that runs on this machine, made from Debian's package.
type Nix struct {
	// Bin is the directory with nix, nix-store, nix-build and the others.
	Bin string
	// Version is the version Nix says it has, as "2.34.8".
	Version string
}

// Nix gives a Nix that runs on this machine as it is. It keeps no settings and no store of its own: see Store.
func (r *Rig) Nix(ctx context.Context) (*Nix, error) {
	r = r.host()
	root, err := r.Debs(ctx, Suite, "nix-bin", "patchelf")
	if err != nil {
		return nil, err
	}
	dir, err := r.cached(ctx, "nix", []string{"2", root}, func(ctx context.Context, dir, _ string) error {
		bin := filepath.Join(dir, "bin")
		if err := os.Mkdir(bin, 0o755); err != nil {
			return err
		}
		if err := r.runnable(ctx, root, "nix", bin); err != nil {
			return err
		}
		names, err := filepath.Glob(filepath.Join(root, "usr/bin/nix-*"))
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := os.Symlink("nix", filepath.Join(bin, filepath.Base(name))); err != nil {
				return err
			}
		}
		said, err := run(ctx, dir, filepath.Join(bin, "nix"), "--version")
		if err != nil {
			return err
		}
		words := strings.Fields(said)
		return os.WriteFile(filepath.Join(dir, "version"), []byte(words[len(words)-1]), 0o644)
	})
	if err != nil {
		return nil, err
	}
	version, err := os.ReadFile(filepath.Join(dir, "version"))
	if err != nil {
		return nil, fmt.Errorf("reading version of Nix: %w", err)
	}
	return &Nix{Bin: filepath.Join(dir, "bin"), Version: string(version)}, nil
}

// Program gives the path of a program of a Debian package of Suite that runs on this machine as it is.
func (r *Rig) Program(ctx context.Context, pkg, name string) (string, error) {
	return r.ProgramOf(ctx, Suite, pkg, name)
}

// ProgramOf is Program of another Debian suite.
func (r *Rig) ProgramOf(ctx context.Context, suite, pkg, name string) (string, error) {
	r = r.host()
	root, err := r.Debs(ctx, suite, pkg, "patchelf")
	if err != nil {
		return "", err
	}
	dir, err := r.cached(ctx, "program", []string{"1", root, name}, func(ctx context.Context, dir, _ string) error {
		return r.runnable(ctx, root, name, dir)
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}

// runnable copies the program name below root to the directory bin and points it at the loader and libraries below root.
func (r *Rig) runnable(ctx context.Context, root, name, bin string) error {
	contents, err := os.ReadFile(filepath.Join(root, "usr/bin", name))
	if errors.Is(err, fs.ErrNotExist) {
		contents, err = os.ReadFile(filepath.Join(root, "usr/sbin", name))
	}
	if err != nil {
		return err
	}
	copied := filepath.Join(bin, name)
	if err := os.WriteFile(copied, contents, 0o755); err != nil {
		return err
	}
	return r.patch(ctx, root, copied)
}

// patch points a program at the loader and libraries below root, which has patchelf.
func (r *Rig) patch(ctx context.Context, root, program string) error {
	libraries := filepath.Join(root, "usr/lib", r.triplet())
	_, err := run(ctx, filepath.Dir(program), r.loader(root), "--library-path", libraries, filepath.Join(root, "usr/bin/patchelf"),
		"--set-interpreter", r.loader(root), "--force-rpath", "--set-rpath", libraries, program)
	return err
}

// loader is the dynamic loader below the root of a usr-merged system.
func (r *Rig) loader(root string) string {
	name := "ld-linux-x86-64.so.2"
	if r.arch == "arm64" {
		name = "ld-linux-aarch64.so.1"
	}
	return filepath.Join(root, "usr/lib", r.triplet(), name)
}
