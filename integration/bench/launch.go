package bench

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

//go:embed look.py
var lookScript string

// world is one way for programs to see the closure.
type world struct {
	name string
	// command is a program of the closure's as the app would start it.
	command func(ctx context.Context, program string, args ...string) (*exec.Cmd, error)
	// see is how a reference to a store path reads in there.
	see func(p storepath.Path) string
}

// worlds are all ways, over copies of the same closure on the same file system.
type worlds struct {
	native, relocated, userns, proot world
	image                            *integration.Bare // the relocated one
	dir                              string
}

// near makes a directory whose layers are as few directories deep as a platform's, /layers/nixproot_nix-hydra, because each
// one costs a look-up, and whose view has as long a name as there, since that decides how much of a hash relocated paths
// keep; elsewhere than below the root only where that cannot be written to.
func (b *Bench) near() (string, error) {
	const platform = "/layers/nixproot_nix-hydra/view"
	// The layers are in Dir/l (integration.Bare).
	for i := range 10 {
		dir := fmt.Sprintf("/nhb-%0*d", len(platform)-len("/nhb-/l/view"), 10*os.Getpid()+i)
		if err := os.Mkdir(dir, 0o755); err == nil {
			return dir, nil
		}
	}
	b.Log("the root directory cannot be written to: the relocated closure lies a directory deeper than on a platform")
	return b.newDir()
}

// launch measures programs of a relocated closure against the same ones in /nix/store.
func (b *Bench) launch(ctx context.Context) error {
	f, err := b.open(ctx)
	if err != nil {
		return err
	}
	dir, err := b.near()
	if err != nil {
		return err
	}
	defer func() { _ = nar.RemoveAll(dir) }()
	w, err := b.worlds(ctx, f, dir)
	if err != nil {
		return err
	}
	b.readAnew()
	if f.python != "" {
		if err := b.looks(ctx, f, w); err != nil {
			return err
		}
		if err := b.starts(ctx, f, w); err != nil {
			return err
		}
	} else {
		b.Log("the closure has no python3: look-ups, reads, spawns and starts are left out")
	}
	if f.python != "" && f.nginx != "" {
		if err := b.serves(ctx, f, w); err != nil {
			return err
		}
	} else {
		b.Log("the closure has no nginx: requests are left out")
	}
	if b.Closure == "" {
		if err := b.appStarts(ctx); err != nil {
			return err
		}
	}
	return b.relocation(ctx, f)
}

// worlds lays out the closure in all of the ways below dir.
func (b *Bench) worlds(ctx context.Context, f *fixture, dir string) (*worlds, error) {
	server, err := b.serveClosure(ctx, f)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	w, err := b.nativeAndRelocated(ctx, f, server.URL, dir)
	if err != nil {
		return nil, err
	}
	b.Log("building an image of the closure as it is, for the other engines")
	plain, err := b.image(ctx, f, server.URL, filepath.Join(dir, "u"), launch.EngineProot)
	if err != nil {
		return nil, err
	}
	w.userns = world{"userns", launched(plain, launch.EngineUserns), storepath.Path.String}
	w.proot = world{"proot", launched(plain, launch.EngineProot), storepath.Path.String}
	return w, nil
}

// nativeAndRelocated lays out the closure in these two ways below dir.
func (b *Bench) nativeAndRelocated(ctx context.Context, f *fixture, url, dir string) (*worlds, error) {
	b.Log("unpacking the closure as it is, for /nix, and building a relocated image of it")
	w := &worlds{dir: dir}
	var err error
	if w.native, err = b.native(ctx, f, url, filepath.Join(dir, "n")); err != nil {
		return nil, err
	}
	if w.image, err = b.image(ctx, f, url, dir, launch.EngineRelocate); err != nil {
		return nil, err
	}
	view, err := relocate.NewView(filepath.Join(w.image.Layers(), "view"))
	if err != nil {
		return nil, err
	}
	w.relocated = world{"relocated", launched(w.image, ""), view.Rename}
	return w, nil
}

// serveCopy serves a copy of the closure in zstd that others may be added to.
func (b *Bench) serveCopy(ctx context.Context, f *fixture, name string) (dir string, server *rig.Server, err error) {
	base, err := b.cache(ctx, f, "zstd")
	if err != nil {
		return "", nil, err
	}
	if dir, err = f.sign(name, base, f.zstd); err != nil {
		return "", nil, err
	}
	server, err = rig.Serve(dir, rig.ServeOptions{})
	return dir, server, err
}

// serveClosure serves the closure in zstd.
func (b *Bench) serveClosure(ctx context.Context, f *fixture) (*rig.Server, error) {
	cache, err := b.cache(ctx, f, "zstd")
	if err != nil {
		return nil, err
	}
	return rig.Serve(cache, rig.ServeOptions{})
}

// buildpack packages the buildpack, once.
func (b *Bench) buildpack(ctx context.Context) (*integration.Buildpack, error) {
	dir := filepath.Join(b.Dir, "bp")
	if _, err := os.Stat(dir); err == nil {
		return &integration.Buildpack{Dir: dir}, nil
	}
	return integration.Package(ctx, b.Rig, dir)
}

// native unpacks the closure, and finds the programs in it where they are not known.
func (b *Bench) native(ctx context.Context, f *fixture, url, dir string) (world, error) {
	storeDir := filepath.Join(dir, storepath.Dir)
	layers := filepath.Join(dir, "l")
	for _, dir := range []string{storeDir, layers} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return world{}, err
		}
	}
	s := substitution{URL: url, Key: f.public, Roots: f.roots, Layers: layers}
	result, err := s.run(ctx)
	if err != nil {
		return world{}, err
	}
	for _, group := range result.Groups {
		for _, p := range group.Paths {
			if err := os.Rename(filepath.Join(layers, group.Layer, p.Base()), filepath.Join(storeDir, p.Base())); err != nil {
				return world{}, err
			}
		}
	}
	if f.python == "" {
		f.python, f.nginx = program(storeDir, "python3"), program(storeDir, "nginx")
	}
	store, err := b.Rig.StoreAt(ctx, dir)
	if err != nil {
		return world{}, err
	}
	command := func(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
		owner := map[string]storepath.Path{"python3": f.python, "nginx": f.nginx}[name]
		return store.Command(ctx, filepath.Join(owner.String(), "bin", name), args...)
	}
	return world{"native", command, storepath.Path.String}, nil
}

// program is the store path that has a program itself, not a script or a link to another path.
func program(storeDir, name string) storepath.Path {
	found, _ := filepath.Glob(filepath.Join(storeDir, "*", "bin", name))
	for _, file := range found {
		base := filepath.Base(filepath.Dir(filepath.Dir(file)))
		real, err := filepath.EvalSymlinks(file)
		if err != nil || !strings.HasPrefix(real, filepath.Join(storeDir, base)) {
			continue
		}
		head := make([]byte, 4)
		if opened, err := os.Open(real); err == nil {
			_, _ = opened.Read(head)
			opened.Close()
		}
		if p, err := storepath.FromBase(base); err == nil && string(head) == "\x7fELF" {
			return p
		}
	}
	return ""
}

// image builds the closure into layers by the buildpack.
func (b *Bench) image(ctx context.Context, f *fixture, url, dir, engine string) (*integration.Bare, error) {
	bp, err := b.buildpack(ctx)
	if err != nil {
		return nil, err
	}
	roots := slices.Clone(f.roots)
	for _, p := range []storepath.Path{f.python, f.nginx} {
		if p != "" && !slices.Contains(roots, p) {
			roots = append(roots, p)
		}
	}
	image := &integration.Bare{Buildpack: bp, Dir: dir}
	o, err := image.Build(ctx, "", map[string]string{
		"BP_NIX_STORE_PATH": joined(roots), "BP_NIX_SUBSTITUTERS": url, "BP_NIX_TRUSTED_PUBLIC_KEYS": f.public,
		"BP_NIX_ENGINE": engine,
	})
	if err == nil && o.Status != 0 {
		err = fmt.Errorf("building an image failed: %s", tail(o.Log))
	}
	return image, err
}

func joined(paths []storepath.Path) string {
	var words []string
	for _, p := range paths {
		words = append(words, string(p))
	}
	return strings.Join(words, " ")
}

// launched starts programs as the image's launcher does.
func launched(image *integration.Bare, engine string) func(context.Context, string, ...string) (*exec.Cmd, error) {
	return func(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
		launcher := filepath.Join(image.Layers(), "launcher/bin", launch.ProgramName)
		c := exec.CommandContext(ctx, launcher, append([]string{program}, args...)...)
		c.Dir = image.App()
		c.Env = []string{"HOME=" + image.App(), "PATH=/usr/bin:/bin", "LANG=C.UTF-8",
			launch.ConfigEnv + "=" + filepath.Join(image.Layers(), "run", launch.ConfigName)}
		if engine != "" {
			c.Env = append(c.Env, launch.EngineEnv+"="+engine)
		}
		return c, nil
	}
}

// look is what the script found, in seconds for each of its tasks, the best of a few rounds.
type look struct {
	Lookups     float64 `json:"lookups"`
	ViewLookups float64 `json:"view_lookups"`
	Reads       float64 `json:"reads"`
	Spawns      float64 `json:"spawns"`
}

// look runs the script by the closure's Python. view is the interpreter's own path as others refer to it, program
// what it spawns.
func (w world) look(ctx context.Context, f *fixture, rounds int, spawned storepath.Path, program string) (look, error) {
	var l look
	spawn := filepath.Join(w.see(spawned), "bin", program)
	c, err := w.command(ctx, "python3", "-I", "-c", lookScript, fmt.Sprint(rounds), w.see(f.python), spawn)
	if err != nil {
		return l, err
	}
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return l, fmt.Errorf("measuring in the %s world: %w: %s", w.name, err, tail(stderr.String()))
	}
	return l, json.Unmarshal(out, &l)
}

// looks compares look-ups, reads and spawns.
func (b *Bench) looks(ctx context.Context, f *fixture, w *worlds) error {
	spawned, program := f.python, "python3"
	pattern := filepath.Join(w.dir, "n", storepath.Dir, "*-coreutils-*", "bin", "true")
	if found, _ := filepath.Glob(pattern); len(found) > 0 {
		if p, err := storepath.FromBase(filepath.Base(filepath.Dir(filepath.Dir(found[0])))); err == nil {
			spawned, program = p, "true"
		}
	}
	measure := func(w world, rounds int) (look, error) { return w.look(ctx, f, rounds, spawned, program) }
	var native, relocated []look
	for i := range 3 * b.Pairs {
		sides := []struct {
			world
			into *[]look
		}{{w.native, &native}, {w.relocated, &relocated}}
		if i%2 == 1 {
			slices.Reverse(sides)
		}
		for _, side := range sides {
			l, err := measure(side.world, 5)
			if err != nil {
				return err
			}
			*side.into = append(*side.into, l)
		}
	}
	slow := map[string][]look{}
	for _, other := range []world{w.userns, w.proot} {
		l, err := measure(other, 1)
		if err != nil {
			b.Log("%s does not work here: %s", other.name, err)
			continue
		}
		slow[other.name] = []look{l}
	}
	b.Log("native %+v, relocated %+v, others %+v", native, relocated, slow)
	for _, task := range []struct {
		name string
		of   func(look) float64
		many float64
		bar  string
	}{
		{"lookups", func(l look) float64 { return l.Lookups }, 100_000, "<=1.02"},
		{"open_and_read", func(l look) float64 { return l.Reads }, 20_000, "<=1.02"},
		{"spawns", func(l look) float64 { return l.Spawns }, 100, "<=1.02"},
		{"lookups_by_reference", func(l look) float64 { return l.ViewLookups }, 100_000, ""},
	} {
		a, z := each(relocated, task.of), each(native, task.of)
		name := "launch." + task.name
		b.row(name+".relocated_against_native", ratio(a, z), "ratio", task.bar)
		b.row(name+".relocated_against_native_at_best", slices.Min(a)/slices.Min(z), "ratio", "")
		b.row(name+".native", median(z)/task.many*1e6, "us", "")
		for _, other := range []string{"userns", "proot"} {
			if l := slow[other]; l != nil {
				b.row(name+"."+other+"_against_native", median(each(l, task.of))/median(z), "ratio", "")
			}
		}
	}
	return nil
}

func each[T any](list []T, of func(T) float64) []float64 {
	var values []float64
	for _, item := range list {
		values = append(values, of(item))
	}
	return values
}

// starts measures what the launcher adds to the start of a program.
func (b *Bench) starts(ctx context.Context, f *fixture, w *worlds) error {
	with, err := w.relocated.command(ctx, "python3", "-I", "-S", "-c", "")
	if err != nil {
		return err
	}
	config, err := launch.ReadConfig(filepath.Join(w.image.Layers(), "run", launch.ConfigName))
	if err != nil {
		return err
	}
	bare := ""
	for _, dir := range config.Bin {
		if file := filepath.Join(dir, "python3"); strings.Contains(dir, filepath.Base(w.relocated.see(f.python))) {
			bare = file
		}
	}
	if bare == "" {
		return errors.New("the image's launcher does not know the closure's python3")
	}
	without, launched, err := compareStarts(ctx, 20*b.Pairs,
		startCommand{Argv: []string{bare, "-I", "-S", "-c", ""}, Env: with.Env, Dir: with.Dir},
		startCommand{Argv: with.Args, Env: with.Env, Dir: with.Dir})
	if err != nil {
		return err
	}
	ms := func(d interface{ Seconds() float64 }) float64 { return d.Seconds() * 1e3 }
	b.row("launch.start.added", ms(launched.Median-without.Median), "ms", "<=5")
	b.row("launch.start.added_at_best", ms(launched.Best-without.Best), "ms", "")
	b.row("launch.start.without", ms(without.Median), "ms", "")
	return nil
}
