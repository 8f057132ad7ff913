package rig

import (
	"context"
	"errors"
)

// SetUp makes what most tests use: the toolchain, the stand-ins, pack or the lifecycle, base images, and the closures
// of the samples. Without a Docker engine it leaves out what needs one; for another architecture it makes what the
// main job and what compilers make need.
func (r *Rig) SetUp(ctx context.Context) error {
	if err := r.Emulated(ctx); err != nil {
		return err
	}
	if _, err := r.standins(ctx); err != nil {
		return err
	}
	if _, err := r.Pack(ctx); err != nil && !errors.Is(err, ErrNoDocker) {
		return err
	}
	if _, err := r.LifecycleDir(ctx); err != nil {
		return err
	}
	pkgs, err := r.Nixpkgs(ctx)
	if err != nil {
		return err
	}
	if r.foreign() {
		if _, err = pkgs.Build(ctx, "lighttpd"); err != nil {
			return err
		}
	}
	if r.arch == "arm64" {
		if _, err := r.CrossCompilers(ctx); err != nil {
			return err
		}
	}
	if r.foreign() {
		return nil
	}
	_, err = pkgs.Build(ctx, "lighttpd", "gunicorn", "python3Packages.flask", "python3Packages.markdown",
		"python3Packages.pygments", "python3Packages.pyyaml", "findutils", "gnugrep", "gnused",
		"gawk", "gnutar", "gzip", "xz", "bzip2", "diffutils")
	return err
}
