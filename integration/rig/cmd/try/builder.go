package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// builder makes an image and starts it.
type builder interface {
	name() string
	build(ctx context.Context, options rig.BuildOptions, runImage string) (*rig.BuildResult, error)
	answer(ctx context.Context, image, work string) error
}

// newBuilder gives the builder that uses the Docker engine, or the one that does without.
func newBuilder(ctx context.Context, r *rig.Rig, out io.Writer, state string, docker bool) (builder, error) {
	if docker {
		pack, err := r.Pack(ctx)
		return &byPack{rig: r, pack: pack, out: out}, err
	}
	if err := os.MkdirAll(state, 0o755); err != nil {
		return nil, err
	}
	lifecycle, err := r.Lifecycle(ctx, state)
	return &byLifecycle{lifecycle: lifecycle, out: out}, err
}

type byPack struct {
	rig  *rig.Rig
	pack *rig.Pack
	out  io.Writer
}

func (b *byPack) name() string { return "pack build" }

func (b *byPack) build(ctx context.Context, options rig.BuildOptions, runImage string) (*rig.BuildResult, error) {
	if runImage == "scratch" {
		options.RunImage = b.pack.Images.RunScratch
	}
	return b.pack.Build(ctx, options)
}

func (b *byPack) answer(ctx context.Context, image, _ string) error {
	port, url, err := address()
	if err != nil {
		return err
	}
	start := time.Now()
	container, err := b.rig.Start(ctx, image, rig.ContainerOptions{Env: map[string]string{"PORT": port}})
	if err != nil {
		return err
	}
	defer func() { _ = container.Remove(context.WithoutCancel(ctx)) }()
	body, err := rig.Await(ctx, url, 30*time.Second, func() bool { return container.Running(ctx) })
	if err != nil {
		logs, _ := container.Logs(ctx)
		return fmt.Errorf("%w\nthe process said:\n%s", err, logs)
	}
	show(b.out, url, body, time.Since(start))
	code, took, err := container.Stop(ctx)
	if err != nil {
		return err
	}
	size, err := b.rig.ImageSize(ctx, image)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "    stopped by SIGTERM after %d ms, exit code %d\n", took.Milliseconds(), code)
	fmt.Fprintf(b.out, "    ran as 1001:1000, all capabilities dropped, no new privileges\n")
	fmt.Fprintf(b.out, "    image %s: %.1f MB\n", image, float64(size)/1e6)
	return nil
}

type byLifecycle struct {
	lifecycle *rig.Lifecycle
	out       io.Writer
}

func (b *byLifecycle) name() string { return "lifecycle phases, to an OCI layout" }

func (b *byLifecycle) build(ctx context.Context, options rig.BuildOptions, runImage string) (*rig.BuildResult, error) {
	options.RunImage = runImage
	return b.lifecycle.Build(ctx, options)
}

func (b *byLifecycle) answer(ctx context.Context, image, work string) error {
	port, url, err := address()
	if err != nil {
		return err
	}
	root := filepath.Join(work, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := b.lifecycle.Unpack(image, root); err != nil {
		return err
	}
	start := time.Now()
	process, err := b.lifecycle.Start(ctx, image, root, "web", map[string]string{"PORT": port})
	if err != nil {
		return err
	}
	body, err := rig.Await(ctx, url, 30*time.Second, process.Running)
	code, took := process.Stop()
	if err != nil {
		return fmt.Errorf("%w\nthe process said:\n%s", err, process.Output())
	}
	show(b.out, url, body, time.Since(start))
	size, err := b.lifecycle.Size(image)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "    stopped by SIGTERM after %d ms, exit code %d\n", took.Milliseconds(), code)
	fmt.Fprintf(b.out, "    OCI layout %s: %.1f MB in layers, as exported\n", b.lifecycle.Layout(image), float64(size)/1e6)
	return nil
}
