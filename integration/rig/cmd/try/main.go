// Command try does the main job on a sample, from nothing: scripts/try runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

const usage = `usage: scripts/try [options]

Does the main job on a sample: builds and signs its closure with real Nix as Hydra would, serves the binary cache on
loopback, runs pack build against the Docker engine, starts the image and asks its web process for a page. Without a
Docker engine the lifecycle's own phases make an OCI layout on disk, and the process is started from there.

`

// settings are the command's options.
type settings struct {
	sample, engine, runImage, image string
	sourceName, arch                string
	noDocker, standIns, quiet       bool
}

func main() {
	var s settings
	flag.StringVar(&s.sample, "sample", "static-site", "the `directory` of samples/ to build")
	flag.StringVar(&s.engine, "engine", "auto", "the `engine` to ask for")
	flag.StringVar(&s.runImage, "run-image", "debian", "the run image: debian, or scratch for an empty one")
	flag.StringVar(&s.image, "image", "nix-hydra-try", "the `name` of the image to make")
	flag.StringVar(&s.sourceName, "source-name", "source", "the `name` that the stand-in for Hydra gives the source")
	flag.StringVar(&s.arch, "arch", runtime.GOARCH, "the `architecture` to build for: amd64 or arm64; another one than this\nmachine's runs under QEMU, which is set up")
	flag.BoolVar(&s.noDocker, "no-docker", false, "do without a Docker engine, although there is one")
	flag.BoolVar(&s.standIns, "stand-ins", false, "use Nix and PRoot made from Debian's packages in any case")
	flag.BoolVar(&s.quiet, "quiet", false, "do not show what the build says, unless it fails")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := try(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "try:", err)
		os.Exit(1)
	}
}

// steps says what is done, and times it.
type steps struct {
	*speaker
	start time.Time
	rows  []string
}

func (s *steps) begin(what string) {
	fmt.Fprintf(s, "\n==> %s\n", what)
	s.start = time.Now()
}

func (s *steps) end(name string) {
	s.rows = append(s.rows, fmt.Sprintf("  %-42s %8.2f s", name, time.Since(s.start).Seconds()))
}

func try(ctx context.Context, s settings) error {
	out := &steps{speaker: newSpeaker(os.Stdout)}
	defer out.speaker.end()
	r, err := rig.Open(rig.Options{
		Arch: s.arch, Log: func(format string, args ...any) { fmt.Fprintf(out, "    "+format+"\n", args...) },
	})
	if err != nil {
		return err
	}
	if err := r.Emulated(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "Everything that is downloaded or made is kept in %s.\n", r.Dir())
	work, err := os.MkdirTemp("", "nix-hydra-try-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()

	docker := r.Docker(ctx)
	if s.noDocker && docker == nil {
		docker = errors.New("not used, as asked")
	}
	out.begin("Setting up: Nix, " + map[bool]string{true: "pack, base images", false: "the lifecycle"}[docker == nil])
	if docker != nil {
		fmt.Fprintf(out, "    Docker: %v\n", docker)
	}
	var platform *platform
	var pkgs *rig.Nixpkgs
	group, setUp := errgroup.WithContext(ctx)
	group.Go(func() (err error) { // mostly compiling
		platform, err = newPlatform(setUp, r, work, docker == nil)
		return err
	})
	group.Go(func() (err error) { // mostly downloading
		pkgs, err = r.Nixpkgs(setUp)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	out.end("set-up")

	out.begin("Packaging the buildpack")
	options := rig.BuildpackOptions{Pinned: !s.standIns && reachable(ctx, "https://releases.nixos.org/")}
	buildpack := filepath.Join(work, "buildpack")
	if err := r.Buildpack(ctx, buildpack, options); err != nil {
		return err
	}
	from := map[bool]string{true: "the pinned releases", false: "made from Debian's packages"}[options.Pinned]
	fmt.Fprintf(out, "    Nix for evaluation, and PRoot: %s\n", from)
	out.end("package the buildpack")

	out.begin("Building sample " + s.sample + " as Hydra would")
	cache, err := serveSample(ctx, r, out, pkgs, s, work)
	if err != nil {
		return err
	}
	defer cache.server.Close()
	out.end("build and sign the closure")

	out.begin("Building the image")
	env := map[string]string{
		"BP_NIX_SUBSTITUTERS":        cache.server.URL,
		"BP_NIX_TRUSTED_PUBLIC_KEYS": cache.key.Public, "BP_NIX_ENGINE": s.engine,
	}
	build := rig.BuildOptions{App: cache.source, Buildpack: []string{buildpack}, Image: s.image, Env: env}
	if s.runImage == rig.Scratch {
		build.RunImage = rig.Scratch
	}
	if !s.quiet {
		build.Log = out
	}
	result, err := platform.build(ctx, build)
	if err != nil {
		if s.quiet && result != nil {
			fmt.Fprint(out, result.Output)
		}
		return err
	}
	out.end(platform.name)

	out.begin("Starting the image's web process")
	if err := platform.answer(ctx, out, s.image); err != nil {
		return err
	}
	out.end("start, ask, stop")

	requests, bytes := cache.server.Traffic("")
	fmt.Fprintf(out, "\n%d requests to the cache, %.1f MB\n", requests, float64(bytes)/1e6)
	fmt.Fprintln(out, strings.Join(out.rows, "\n"))
	return nil
}

// served is a sample in a binary cache.
type served struct {
	source string
	key    *rig.Key
	server *rig.Server
}

// serveSample builds a sample and serves the signed cache of its closure, and of nixpkgs' source, which the evaluation
// imports.
func serveSample(ctx context.Context, r *rig.Rig, out io.Writer, pkgs *rig.Nixpkgs, s settings, work string) (*served, error) {
	source, err := pkgs.Sample(ctx, s.sample, work)
	if err != nil {
		return nil, err
	}
	built, err := pkgs.AsHydra(ctx, source, s.sourceName, "shell.nix")
	if err != nil {
		return nil, err
	}
	key, err := r.Key(ctx, "hydra.example.org-1")
	if err != nil {
		return nil, err
	}
	dir, err := r.Cache(ctx, rig.CacheOptions{Key: key}, append(built.Paths, pkgs.Source)...)
	if err != nil {
		return nil, err
	}
	server, err := rig.Serve(dir, rig.ServeOptions{})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "    source %s\n    output %s\n    signed by %s, served at %s\n",
		built.Source, strings.Join(built.Paths, " "), key.Name, server.URL)
	return &served{source: source, key: key, server: server}, nil
}

// reachable says whether a server answers at all.
func reachable(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	return response.Body.Close() == nil && response.StatusCode < http.StatusInternalServerError
}

// show prints the beginning of an answer.
func show(out io.Writer, url, body string, waited time.Duration) {
	fmt.Fprintf(out, "    %s answered after %d ms:\n", url, waited.Milliseconds())
	lines := strings.Split(strings.TrimRight(body, "\n"), "\n")
	for i, line := range lines {
		if i == 8 {
			fmt.Fprintf(out, "    | ... (%d more lines)\n", len(lines)-i)
			break
		}
		fmt.Fprintf(out, "    | %s\n", line)
	}
}
