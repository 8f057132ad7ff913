package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// phases are what a build by pack spends its time on. Those of the lifecycle are the same whatever buildpack there is:
// what they do is given by the layers.
type phases struct {
	ours      time.Duration // detecting and building
	preparing time.Duration // by the lifecycle, before: analyzing and restoring
	archiving time.Duration // by the lifecycle: the layers as archives, hashed
	saving    time.Duration // by the lifecycle: the archives sent to a registry or the engine, and the build cache
	rest      time.Duration // by pack: containers, the source copied
}

func (p phases) lifecycle() time.Duration { return p.preparing + p.archiving + p.saving }

func (p phases) whole() time.Duration { return p.ours + p.lifecycle() + p.rest }

// phaseClock tells a build's phases by what it says while it goes on.
type phaseClock struct {
	phases
	at     *time.Duration
	since  time.Time
	unread []byte
}

func newPhaseClock() *phaseClock {
	c := &phaseClock{since: time.Now()}
	c.at = &c.rest
	return c
}

var phaseLine = regexp.MustCompile(`^(?:===> (\w+)|Saving )`)

// Write is told what the build says.
func (c *phaseClock) Write(p []byte) (int, error) {
	c.unread = append(c.unread, p...)
	for {
		line, rest, whole := bytes.Cut(c.unread, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		c.unread = rest
		c.line(string(line))
	}
}

func (c *phaseClock) line(line string) {
	found := phaseLine.FindStringSubmatch(line)
	if found == nil {
		return
	}
	c.next(map[string]*time.Duration{
		"DETECTING": &c.ours, "BUILDING": &c.ours, "EXPORTING": &c.archiving, "": &c.saving,
	}[found[1]])
}

// next begins another phase; nil is one of the lifecycle before it has anything to export.
func (c *phaseClock) next(phase *time.Duration) {
	now := time.Now()
	*c.at += now.Sub(c.since)
	if c.at, c.since = phase, now; phase == nil {
		c.at = &c.preparing
	}
}

// end is called when the build has ended.
func (c *phaseClock) end() phases {
	c.next(&c.rest)
	return c.phases
}

// packer builds the bench's closure by pack.
type packer struct {
	b         *Bench
	f         *fixture
	pack      *rig.Pack
	buildpack string
	cache     *rig.Server
	source    string
	// pulled is what it took to bring the changed app into the engine by a registry.
	pulled time.Duration
}

// packs measures what a first deploy and a change of the app cost end to end, and what they cost by others' ways.
func (b *Bench) packs(ctx context.Context) error {
	if err := b.Rig.Docker(ctx); err != nil {
		return err
	}
	f, err := b.open(ctx)
	if err != nil {
		return err
	}
	p := &packer{b: b, f: f, source: filepath.Join(b.Dir, "source")}
	var dir string
	if dir, p.cache, err = b.serveCopy(ctx, f, "pack"); err != nil {
		return err
	}
	defer p.cache.Close()
	changed, err := f.graft(ctx, dir, f.roots[0])
	if err != nil {
		return err
	}
	if p.pack, err = b.Rig.Pack(ctx); err != nil {
		return err
	}
	p.buildpack = filepath.Join(b.Dir, "buildpack")
	if err := b.Rig.Buildpack(ctx, p.buildpack, rig.BuildpackOptions{}); err != nil {
		return err
	}
	if err := os.Mkdir(p.source, 0o755); err != nil {
		return err
	}
	procfile := []byte("web: python3 -m http.server $PORT\n")
	if err := os.WriteFile(filepath.Join(p.source, "Procfile"), procfile, 0o644); err != nil {
		return err
	}
	if err := readAll(f.caches["zstd"]); err != nil {
		return err
	}
	if err := p.toRegistry(ctx, changed); err != nil {
		return err
	}
	return p.toEngine(ctx, changed)
}

// readAll reads all files below a directory: whatever the disk of a cache takes is another machine's, and the first of several
// builds would pay for all.
func readAll(dir string) error {
	return filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(io.Discard, f)
		return err
	})
}

// settled waits until the engine's file system, which every image removed was on, is as a machine's at rest.
func (p *packer) settled(ctx context.Context) error {
	unix.Sync()
	return p.b.outlast(ctx, time.Now())
}

// build builds once and prints its phases.
func (p *packer) build(ctx context.Context, name, image string, roots []storepath.Path, more ...string) (phases, error) {
	clock := newPhaseClock()
	result, err := p.pack.Build(ctx, rig.BuildOptions{
		App: p.source, Buildpack: []string{p.buildpack}, Image: image, Log: clock, More: more,
		Env: map[string]string{
			"BP_NIX_STORE_PATH": joined(roots), "BP_NIX_SUBSTITUTERS": p.cache.URL,
			"BP_NIX_TRUSTED_PUBLIC_KEYS": p.f.public,
		},
	})
	took := clock.end()
	if err != nil {
		said := ""
		if result != nil {
			said = tail(result.Output)
		}
		return took, fmt.Errorf("building %s: %w: %s", name, err, said)
	}
	name = "pack." + name
	p.b.row(name+".seconds", seconds(took.whole()), "s", "")
	p.b.row(name+".ours", seconds(took.ours), "s", "")
	p.b.row(name+".lifecycle", seconds(took.lifecycle()), "s", "")
	p.b.row(name+".lifecycle_archives", seconds(took.archiving), "s", "")
	p.b.row(name+".lifecycle_saving", seconds(took.saving), "s", "")
	p.b.row(name+".pack", seconds(took.rest), "s", "")
	return took, nil
}

// bars judges a first build and one after a change.
func (p *packer) bars(name string, first, second phases) {
	p.b.row("pack."+name+".first.ours_of_all", seconds(first.ours)/seconds(first.whole()), "ratio", "<=0.1")
	p.b.row("pack."+name+".change.ours_seconds", seconds(second.ours), "s", "<=1")
}

func (p *packer) toRegistry(ctx context.Context, changed *change) error {
	address, closing, err := p.registry(ctx)
	if err != nil {
		return err
	}
	defer closing.Close()
	image := address + "/bench/app"
	defer p.forget(image)
	if err := p.settled(ctx); err != nil {
		return err
	}
	p.b.Log("pack build --publish, the whole closure and then a change of the app, each pulled by the Docker engine")
	first, err := p.build(ctx, "registry.first", image, p.f.roots, "--publish")
	if err != nil {
		return err
	}
	if _, err := p.pull(ctx, "registry.first", image); err != nil {
		return err
	}
	second, err := p.build(ctx, "registry.change", image, changed.roots, "--publish")
	if err != nil {
		return err
	}
	pulling, err := p.pull(ctx, "registry.change", image)
	if err != nil {
		return err
	}
	p.pulled = second.whole() + pulling
	p.bars("registry", first, second)
	return nil
}

// pull has the engine pull an image that was published, and prints what that took.
func (p *packer) pull(ctx context.Context, name, image string) (time.Duration, error) {
	start := time.Now()
	err := docker(ctx, "pull", "--quiet", image)
	took := time.Since(start)
	p.b.row("pack."+name+".pull", seconds(took), "s", "")
	return took, err
}

// registry serves a registry on loopback that has the run image.
func (p *packer) registry(ctx context.Context) (address string, closing io.Closer, err error) {
	dir, err := p.b.newDir()
	if err != nil {
		return "", nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)),
		registry.Logger(log.New(io.Discard, "", 0)))}
	go func() { _ = server.Serve(listener) }()
	address = listener.Addr().String()
	run := address + "/bench/run"
	for _, args := range [][]string{{"tag", p.pack.Images.RunScratch, run}, {"push", "--quiet", run}} {
		if err := docker(ctx, args...); err != nil {
			return "", nil, errors.Join(err, server.Close())
		}
	}
	p.pack.Images.Run = run
	return address, server, nil
}

func (p *packer) toEngine(ctx context.Context, changed *change) error {
	const image = "nix-hydra-bench/app"
	defer p.forget(image)
	if err := p.settled(ctx); err != nil {
		return err
	}
	p.b.Log("pack build into the Docker engine, the whole closure and then a change of the app")
	first, err := p.build(ctx, "engine.first", image, p.f.roots)
	if err != nil {
		return err
	}
	second, err := p.build(ctx, "engine.change", image, changed.roots)
	if err != nil {
		return err
	}
	p.bars("engine", first, second)
	return p.peers(ctx, changed, first, second)
}

// forget removes what pack has made of an image.
func (p *packer) forget(image string) {
	ctx := context.Background()
	_ = docker(ctx, "image", "rm", "--force", image)
	words := strings.FieldsFunc(image, func(c rune) bool { return c == '/' || c == ':' })
	out, err := exec.CommandContext(ctx, "docker", "volume", "ls", "--quiet", "--filter", "name="+words[len(words)-1]).Output()
	if err != nil {
		return
	}
	for _, volume := range strings.Fields(string(out)) {
		if strings.Contains(volume, strings.Join(words, "_")) {
			_ = docker(ctx, "volume", "rm", "--force", volume)
		}
	}
}

func docker(ctx context.Context, args ...string) error { return run(ctx, "docker", args...) }
