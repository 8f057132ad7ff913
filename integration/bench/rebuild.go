package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// push is what one build took and moved.
type push struct {
	seconds  float64 // detect and build
	requests int     // to the cache
	fetched  int64   // bytes
	changed  []string
	exported int64 // bytes of the changed layers' archives
}

// rebuild measures what the second push of an app costs.
func (b *Bench) rebuild(ctx context.Context) error {
	f, err := b.open(ctx)
	if err != nil {
		return err
	}
	dir, server, err := b.serveCopy(ctx, f, "rebuild")
	if err != nil {
		return err
	}
	defer server.Close()
	buildpack, err := b.buildpack(ctx)
	if err != nil {
		return err
	}
	p := &pusher{f: f, server: server, image: &integration.Bare{Buildpack: buildpack, Dir: filepath.Join(b.Dir, "p")}}
	first, err := p.push(ctx, f.roots)
	if err != nil {
		return err
	}
	if err := p.remember(); err != nil {
		return err
	}
	b.said("first build", first)
	b.row("rebuild.first.seconds", first.seconds, "s", "")
	b.row("rebuild.first.fetched", float64(first.fetched)/1e6, "MB", "")
	b.row("rebuild.first.exported", float64(first.exported)/1e6, "MB", "")
	b.row("rebuild.first.layers", float64(len(first.changed)), "layers", "")
	if err := b.nothingChanged(ctx, p); err != nil {
		return err
	}
	g := graph(f.roots, f.infos)
	for _, c := range []struct {
		name string
		seed storepath.Path
	}{{"app", f.roots[0]}, {"leaf", leaf(g)}, {"library", library(g)}} {
		if c.seed == "" {
			b.Log("the closure has no path of about 1 MB with few dependents: rebuild.%s is left out", c.name)
			continue
		}
		b.Log("deriving a closure with another %s", c.seed.Base())
		changed, err := f.graft(ctx, dir, c.seed)
		if err != nil {
			return err
		}
		if err := b.changedPush(ctx, p, c.name, changed, first); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bench) said(what string, p *push) {
	layers := strings.Join(p.changed, " ")
	if len(p.changed) > 10 {
		layers = fmt.Sprint(len(p.changed))
	}
	b.Log("%s: %.2f s, %d requests, %.1f MB fetched, %.1f MB exported, layers changed: %s", what, p.seconds, p.requests,
		float64(p.fetched)/1e6, float64(p.exported)/1e6, layers)
}

func (b *Bench) nothingChanged(ctx context.Context, p *pusher) error {
	var took []float64
	var same *push
	for range 2*b.Pairs + 1 {
		if err := p.restore(); err != nil {
			return err
		}
		var err error
		if same, err = p.push(ctx, p.f.roots); err != nil {
			return err
		}
		took = append(took, same.seconds)
	}
	b.said("nothing changed", same)
	b.row("rebuild.nothing.seconds", median(took), "s", "<1")
	b.row("rebuild.nothing.fetched", float64(same.fetched), "bytes", "<=0")
	b.row("rebuild.nothing.requests", float64(same.requests), "requests", "<=0")
	b.row("rebuild.nothing.layers", float64(len(same.changed)), "layers", "<=0")
	return nil
}

// changedPush pushes a changed closure on top of the first image, as often as there are pairs.
func (b *Bench) changedPush(ctx context.Context, p *pusher, name string, c *change, first *push) error {
	var took []float64
	var made *push
	for range b.Pairs {
		if err := p.restore(); err != nil {
			return err
		}
		var err error
		if made, err = p.push(ctx, c.roots); err != nil {
			return err
		}
		took = append(took, made.seconds)
		if name == "library" {
			break // it is a first build once more
		}
	}
	b.said(name+" changed", made)
	name = "rebuild." + name
	fetched := float64(made.fetched) / float64(c.fileBytes())
	exported := float64(made.exported) / float64(c.narBytes())
	againstFirst := median(took) / first.seconds
	b.row(name+".changed_paths", float64(len(c.fresh)), "paths", "")
	b.row(name+".changed_nars", float64(c.narBytes())/1e6, "MB", "")
	switch name {
	case "rebuild.app":
		b.row(name+".fetched_against_changed", fetched, "ratio", "<=1.1")
		b.row(name+".layers", float64(len(made.changed)), "layers", "<=3")
		b.row(name+".seconds_against_first", againstFirst, "ratio", "<=0.1")
		b.row(name+".exported_against_changed", exported, "ratio", "")
	case "rebuild.leaf":
		b.row(name+".exported_against_changed", exported, "ratio", "<=1.5")
		b.row(name+".fetched_against_changed", fetched, "ratio", "")
		b.row(name+".layers", float64(len(made.changed)), "layers", "")
		b.row(name+".seconds_against_first", againstFirst, "ratio", "")
	default:
		b.row(name+".exported_against_first", float64(made.exported)/float64(first.exported), "ratio", "<=1.01")
		b.row(name+".seconds_against_first", againstFirst, "ratio", "")
	}
	b.row(name+".exported", float64(made.exported)/1e6, "MB", "")
	before, after := graph(p.f.roots, p.f.infos), graph(c.roots, c.infos)
	for _, other := range []struct {
		name string
		Grouping
	}{{"nix2container", Popularity}, {"dockertools", AutoLayer}} {
		bytes := Exported(after, other.Grouping(before, closure.DefaultLayers), other.Grouping(after, closure.DefaultLayers))
		b.row(name+".exported_by_"+other.name, float64(bytes)/1e6, "MB", "")
	}
	return nil
}

// pusher builds images one after another and keeps what a platform would.
type pusher struct {
	f       *fixture
	server  *rig.Server
	image   *integration.Bare
	digests map[string]string // of the image's layers
	first   map[string]string
	kept    string // the first image's metadata and the build cache
}

// push builds, and finds out what an exporter would send.
func (p *pusher) push(ctx context.Context, roots []storepath.Path) (*push, error) {
	p.server.Reset()
	start := time.Now()
	o, err := p.image.Build(ctx, "", map[string]string{
		"BP_NIX_STORE_PATH": joined(roots), "BP_NIX_SUBSTITUTERS": p.server.URL, "BP_NIX_TRUSTED_PUBLIC_KEYS": p.f.public,
		"BP_NIX_ENGINE": "auto",
	})
	if err == nil && o.Status != 0 {
		err = fmt.Errorf("building failed: %s", tail(o.Log))
	}
	if err != nil {
		return nil, err
	}
	made := &push{seconds: seconds(time.Since(start))}
	made.requests, made.fetched = p.server.Traffic("")
	return made, p.export(ctx, made)
}

// export compares the layers that are here with those of the image, and takes them away as a platform does that
// keeps layers in the image only. Layers of the build cache stay, and are in no image.
func (p *pusher) export(ctx context.Context, made *push) error {
	metadata, err := filepath.Glob(filepath.Join(p.image.Layers(), "*.toml"))
	if err != nil {
		return err
	}
	digests := map[string]string{}
	for _, file := range metadata {
		dir := strings.TrimSuffix(file, ".toml")
		name := filepath.Base(dir)
		types, err := p.image.LayerTypes(name)
		if err != nil {
			return err
		}
		if !types.Launch {
			continue
		}
		if _, err := os.Stat(dir); err != nil {
			digests[name] = p.digests[name]
			continue
		}
		sum := sha256.New()
		archive := &countingWriter{Writer: sum}
		if err := lifecycle.Archive(ctx, archive, dir, 0, 0); err != nil {
			return err
		}
		if digests[name] = hex.EncodeToString(sum.Sum(nil)); digests[name] != p.digests[name] {
			made.changed = append(made.changed, name)
			made.exported += archive.n
		}
		if types.Cache {
			continue
		}
		if err := nar.RemoveAll(dir); err != nil {
			return err
		}
	}
	p.digests = digests
	return nil
}

// remember keeps the metadata of the image and the build cache, restore makes them the present ones again.
func (p *pusher) remember() error {
	p.kept, p.first = filepath.Join(p.image.Dir, "first"), p.digests
	return p.image.Save(p.kept)
}

func (p *pusher) restore() error {
	p.digests = p.first
	return p.image.Restore(p.kept)
}

type countingWriter struct {
	io.Writer
	n int64
}

// Write counts.
func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}
