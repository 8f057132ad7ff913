package rig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// CrossCompilers are Debian's compilers that make programs for 64-bit ARM, on whatever machine.
type CrossCompilers struct{ root string }

// crossPackages are GCC, Clang, Rust and the C library, by the machine that they run on. GCC has one name in all.
var crossPackages = map[string][]string{
	"amd64": {"gcc-14-aarch64-linux-gnu", "libc6-dev-arm64-cross", "clang-19", "rustc"},
	"arm64": {"gcc-14", "libc6-dev", "clang-19", "rustc"},
}

// CrossCompilers gives the compilers, downloaded when missing: about 250 MB.
func (r *Rig) CrossCompilers(ctx context.Context) (*CrossCompilers, error) {
	r = r.host()
	packages := crossPackages[r.arch]
	root, err := r.cached(ctx, "cross", append([]string{"1", BaseSuite}, packages...),
		func(ctx context.Context, dir, _ string) error {
			if err := r.unpack(ctx, dir, BaseSuite, packages...); err != nil || r.arch == "arm64" {
				return err
			}
			// Rust's own library for the other machine.
			foreign := &Rig{dir: r.dir, arch: "arm64", log: r.log}
			from, err := foreign.apt(ctx, BaseSuite)
			if err != nil {
				return err
			}
			debs, err := from.resolve(ctx, "libstd-rust-dev")
			if err != nil {
				return err
			}
			debs = slices.DeleteFunc(debs, func(d Deb) bool { return d.Name != "libstd-rust-dev" })
			files, err := from.download(ctx, debs)
			if err != nil {
				return err
			}
			return extract(ctx, dir, files...)
		})
	if err != nil {
		return nil, fmt.Errorf("finding compilers for 64-bit ARM: %w", err)
	}
	return &CrossCompilers{root}, nil
}

// Run runs a compiler in dir, whose place it sees as /work. What it says is in the error.
func (c *CrossCompilers) Run(ctx context.Context, dir, name string, args ...string) error {
	mount, err := os.MkdirTemp("", "cross-")
	if err != nil {
		return err
	}
	defer os.Remove(mount)
	command := sandbox{
		Root: c.root, Mount: mount, Dir: "/work", Binds: append([][2]string{{"/work", dir}, {"/tmp", dir}}, kernel...),
		Env:  []string{"PATH=/usr/bin:/bin", "HOME=/work", "LANG=C.UTF-8"},
		Args: append([]string{filepath.Join("/usr/bin", name)}, args...),
	}.command(ctx)
	if _, err := output(command); err != nil {
		return fmt.Errorf("compiling by %s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}
