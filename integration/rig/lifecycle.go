package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
)

const (
	platformAPI = "0.14"
	runImage    = "rig/run:latest"
)

// Lifecycle builds without a Docker engine: the lifecycle's own phases, in a mount namespace that looks like a build
// container, to an OCI layout on disk.
type Lifecycle struct {
	rig   *Rig
	state string
	root  string
	dir   string
}

// Lifecycle prepares builds that keep their caches and images below state, a directory of the caller's.
func (r *Rig) Lifecycle(ctx context.Context, state string) (*Lifecycle, error) {
	state, err := filepath.Abs(state)
	if err != nil {
		return nil, err
	}
	l := &Lifecycle{rig: r, state: state}
	if l.dir, err = r.LifecycleDir(ctx); err != nil {
		return nil, err
	}
	if l.root, err = r.root(ctx, slices.Concat(runPackages, buildPackages)...); err != nil {
		return nil, err
	}
	for _, name := range []string{"cache", "layout", "mount"} {
		if err := os.MkdirAll(filepath.Join(state, name), 0o755); err != nil {
			return nil, fmt.Errorf("preparing lifecycle: %w", err)
		}
	}
	return l, nil
}

// Build runs the lifecycle's creator, which runs all phases. RunImage is Scratch, else a Debian. Of the options, Phases and More are not used.
func (l *Lifecycle) Build(ctx context.Context, options BuildOptions) (*BuildResult, error) {
	work, err := os.MkdirTemp(l.state, "build-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = nar.RemoveAll(work) }()
	if err := l.writeRunImage(ctx, options.RunImage); err != nil {
		return nil, fmt.Errorf("writing run image: %w", err)
	}
	for _, name := range []string{"layers", "tmp", "home", "platform/env", "cnb/buildpacks", "cnb/lifecycle"} {
		if err := os.MkdirAll(filepath.Join(work, name), 0o755); err != nil {
			return nil, err
		}
	}
	if err := l.prepare(work, options); err != nil {
		return nil, fmt.Errorf("preparing build: %w", err)
	}
	if os.Geteuid() == 0 {
		for _, dir := range []string{work, filepath.Join(l.state, "cache"), filepath.Join(l.state, "layout")} {
			if _, err := run(ctx, "", "chown", "-R", fmt.Sprintf("%d:%d", User, Group), dir); err != nil {
				return nil, err
			}
		}
	}
	build := sandbox{
		Root: filepath.Join(l.root, rootDir), Mount: filepath.Join(l.state, "mount"), Dir: "/workspace",
		Binds: append([][2]string{
			{"/workspace", filepath.Join(work, "workspace")}, {"/layers", filepath.Join(work, "layers")},
			{"/tmp", filepath.Join(work, "tmp")}, {"/home", filepath.Join(work, "home")},
			{"/platform", filepath.Join(work, "platform")}, {"/cnb", filepath.Join(work, "cnb")},
			{"/cnb/lifecycle", l.dir},
			{"/cache", filepath.Join(l.state, "cache")}, {"/layout", filepath.Join(l.state, "layout")},
		}, kernel...),
		Env: []string{
			pathEnv, "HOME=/home",
			fmt.Sprintf("CNB_USER_ID=%d", User), fmt.Sprintf("CNB_GROUP_ID=%d", Group),
			"CNB_PLATFORM_API=" + platformAPI, "CNB_EXPERIMENTAL_MODE=warn", "CNB_USE_LAYOUT=true",
			"CNB_LAYOUT_DIR=/layout", "CNB_NO_COLOR=true",
		},
		Args: []string{"/cnb/lifecycle/creator", "-app", "/workspace", "-layers", "/layers", "-platform", "/platform",
			"-cache-dir", "/cache", "-run-image", runImage, options.Image},
	}
	if os.Geteuid() != 0 { // else the lifecycle takes that number by itself
		build.User, build.Group = User, Group
	}
	return logged(build.command(ctx), options.Log)
}

// prepare lays out the directories of a build.
func (l *Lifecycle) prepare(work string, options BuildOptions) error {
	if err := os.CopyFS(filepath.Join(work, "workspace"), os.DirFS(options.App)); err != nil {
		return err
	}
	if err := errors.Join(writeFiles(filepath.Join(work, "platform/env"), options.Env),
		writeBindings(filepath.Join(work, "platform/bindings"), options.Bindings)); err != nil {
		return err
	}
	var order strings.Builder
	order.WriteString("[[order]]\n")
	for _, directory := range options.Buildpack {
		id, version, err := buildpackID(directory)
		if err != nil {
			return err
		}
		target := filepath.Join(work, "cnb/buildpacks", strings.ReplaceAll(id, "/", "_"), version)
		if err := os.CopyFS(target, os.DirFS(directory)); err != nil {
			return err
		}
		fmt.Fprintf(&order, "[[order.group]]\nid = %q\nversion = %q\n", id, version)
	}
	return writeFiles(filepath.Join(work, "cnb"), map[string]string{
		"order.toml": order.String(), "run.toml": fmt.Sprintf("[[images]]\nimage = %q\n", runImage),
	})
}

// buildpackID reads who a buildpack in a directory is.
func buildpackID(directory string) (id, version string, err error) {
	var descriptor struct {
		Buildpack struct{ ID, Version string }
	}
	if _, err := toml.DecodeFile(filepath.Join(directory, "buildpack.toml"), &descriptor); err != nil {
		return "", "", fmt.Errorf("reading buildpack %s: %w", directory, err)
	}
	return descriptor.Buildpack.ID, descriptor.Buildpack.Version, nil
}

// Layout is the directory with the OCI layout of an image that was built.
func (l *Lifecycle) Layout(image string) string {
	name, tag, ok := strings.Cut(image, ":")
	if !ok {
		tag = "latest"
	}
	if !strings.Contains(name, "/") {
		name = "library/" + name
	}
	return filepath.Join(l.state, "layout/index.docker.io", name, tag)
}

// writeRunImage puts the run image where the lifecycle looks for it.
func (l *Lifecycle) writeRunImage(ctx context.Context, kind string) error {
	packages := runPackages
	if kind == Scratch {
		packages = nil
	}
	root, err := l.rig.root(ctx, packages...)
	if err != nil {
		return err
	}
	dir := l.Layout(runImage)
	if err := nar.RemoveAll(dir); err != nil {
		return err
	}
	image, err := l.rig.rootImage(root, v1.Config{User: fmt.Sprintf("%d:%d", User, Group), Env: []string{pathEnv}})
	if err != nil {
		return err
	}
	index, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return index.AppendImage(image)
}

// Image reads an image that was built.
func (l *Lifecycle) Image(image string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(l.Layout(image))
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) == 0 {
		return nil, fmt.Errorf("reading %s: no image", image)
	}
	return index.Image(manifest.Manifests[len(manifest.Manifests)-1].Digest)
}

// Unpack writes the file system of an image that was built to dir.
func (l *Lifecycle) Unpack(image, dir string) error {
	built, err := l.Image(image)
	if err != nil {
		return err
	}
	contents := mutate.Extract(built)
	if err := errors.Join(untar(contents, dir, os.Geteuid() == 0), contents.Close()); err != nil {
		return fmt.Errorf("unpacking %s: %w", image, err)
	}
	return nil
}

// Size is the sum of the sizes of an image's layers, in bytes, as the layout holds them.
func (l *Lifecycle) Size(_ context.Context, image string) (int64, error) {
	built, err := l.Image(image)
	if err != nil {
		return 0, err
	}
	manifest, err := built.Manifest()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, layer := range manifest.Layers {
		sum += layer.Size
	}
	return sum, nil
}
