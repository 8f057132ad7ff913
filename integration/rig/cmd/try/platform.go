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

// platform builds images and starts them.
type platform struct {
	name  string
	build func(context.Context, rig.BuildOptions) (*rig.BuildResult, error)
	start func(ctx context.Context, image string, env map[string]string) (process, error)
	size  func(ctx context.Context, image string) (int64, error)
}

// process is an image's process that was started.
type process interface {
	Running(context.Context) bool
	Stop(context.Context) (code int, took time.Duration, err error)
	Logs(context.Context) (string, error)
}

// newPlatform gives the platform that uses the Docker engine, or the one that does without.
func newPlatform(ctx context.Context, r *rig.Rig, work string, docker bool) (*platform, error) {
	if docker {
		pack, err := r.Pack(ctx)
		if err != nil {
			return nil, err
		}
		start := func(ctx context.Context, image string, env map[string]string) (process, error) {
			return r.Start(ctx, image, rig.ContainerOptions{Env: env})
		}
		return &platform{"pack build", pack.Build, start, r.ImageSize}, nil
	}
	state := filepath.Join(r.Dir(), "try")
	if err := os.MkdirAll(state, 0o755); err != nil {
		return nil, err
	}
	lifecycle, err := r.Lifecycle(ctx, state)
	if err != nil {
		return nil, err
	}
	start := func(ctx context.Context, image string, env map[string]string) (process, error) {
		return lifecycle.Start(ctx, image, filepath.Join(work, "root"), "web", env)
	}
	return &platform{"lifecycle phases, to an OCI layout", lifecycle.Build, start, lifecycle.Size}, nil
}

// answer starts an image, asks its web process for a page and stops it.
func (p *platform) answer(ctx context.Context, out io.Writer, image string) error {
	port, err := rig.FreePort()
	if err != nil {
		return err
	}
	start := time.Now()
	web, err := p.start(ctx, image, map[string]string{"PORT": fmt.Sprint(port)})
	if err != nil {
		return err
	}
	if container, ok := web.(*rig.Container); ok {
		defer func() { _ = container.Remove(context.WithoutCancel(ctx)) }()
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	body, err := rig.Await(ctx, url, 30*time.Second, func() bool { return web.Running(ctx) })
	waited := time.Since(start)
	code, took, stopErr := web.Stop(ctx)
	if err != nil {
		logs, _ := web.Logs(ctx)
		return fmt.Errorf("%w\nthe process said:\n%s", err, logs)
	}
	if stopErr != nil {
		return stopErr
	}
	show(out, url, body, waited)
	size, err := p.size(ctx, image)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "    stopped by SIGTERM after %d ms, exit code %d\n", took.Milliseconds(), code)
	fmt.Fprintf(out, "    image %s: %.1f MB\n", image, float64(size)/1e6)
	return nil
}
