package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

//go:embed starts.nix
var startsExpression []byte

//go:embed starts_app.py
var startsPython []byte

//go:embed starts_app.js
var startsNode []byte

//go:embed starts.py
var startsScript string

// starting is an app of starts.nix: its program, how often it is started in a round, how many rounds there are for each
// pair, and what its relocated start must reach. Short rounds in turn share what else the machine does among all sides.
type starting struct {
	name    string
	program string
	starts  int
	rounds  int
	bar     string
}

var startingApps = []starting{
	{"python", "start-python", 2, 2, "<=1.02"}, {"node", "start-node", 4, 8, "<=1.02"},
	{"node_path", "start-node-path", 4, 8, ""}, // looks for each package in every directory above: see docs/benchmarks.md
	{"libraries", "start-libraries", 5, 8, "<=1.02"},
}

// openStarts gives the closure of starts.nix, built by real Nix.
func (b *Bench) openStarts(ctx context.Context) (*fixture, error) {
	pkgs, err := b.Rig.Nixpkgs(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.Dir, "starts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for name, contents := range map[string][]byte{
		"starts.nix": startsExpression, "starts_app.py": startsPython, "starts_app.js": startsNode,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), contents, 0o644); err != nil {
			return nil, err
		}
	}
	built, err := pkgs.Realise(ctx, filepath.Join(dir, "starts.nix"))
	if err != nil {
		return nil, err
	}
	python, err := pkgs.Build(ctx, "python3")
	if err != nil {
		return nil, err
	}
	key, err := b.Rig.Key(ctx, "hydra.example.org-1")
	if err != nil {
		return nil, err
	}
	cache, err := b.Rig.Cache(ctx, rig.CacheOptions{Compression: "zstd", Key: key}, built[0], python[0])
	if err != nil {
		return nil, err
	}
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	f := &fixture{
		dir: filepath.Join(dir, "caches"), secret: secret, first: cache, caches: map[string]string{},
		public: narinfo.PublicKey{Name: keyName, Key: public}.String(),
		roots:  []storepath.Path{storepath.Path(built[0])}, python: storepath.Path(python[0]),
	}
	if f.infos, err = readInfos(cache); err != nil {
		return nil, err
	}
	f.zstd = f.infos
	f.caches["zstd"], err = f.sign("zstd", cache, f.infos)
	return f, err
}

// appStarts compares how long whole apps take from their start to their first answer, relocated behind the launcher and
// at /nix without one.
func (b *Bench) appStarts(ctx context.Context) error {
	f, err := b.openStarts(ctx)
	if err != nil {
		return fmt.Errorf("preparing apps to start: %w", err)
	}
	dir, err := b.near()
	if err != nil {
		return err
	}
	defer func() { _ = nar.RemoveAll(dir) }()
	server, err := b.serveClosure(ctx, f)
	if err != nil {
		return err
	}
	defer server.Close()
	w, err := b.nativeAndRelocated(ctx, f, server.URL, dir)
	if err != nil {
		return err
	}
	b.readAnew()
	for _, app := range startingApps {
		if err := b.appStart(ctx, w, f.roots[0], app); err != nil {
			return err
		}
	}
	return nil
}

// appStart measures one app. The launcher is no part of what relocation costs, and has a figure and a bar of its own
// (launch.start.added), so there are two relocated sides: by the program's own path, and by the launcher.
func (b *Bench) appStart(ctx context.Context, w *worlds, root storepath.Path, app starting) error {
	launched, err := w.relocated.command(ctx, app.program)
	if err != nil {
		return err
	}
	sides := []struct {
		world
		command   []string
		wall, cpu []float64
	}{
		{world: w.native, command: []string{filepath.Join(w.native.see(root), "bin", app.program)}},
		{world: w.relocated, command: []string{filepath.Join(w.relocated.see(root), "bin", app.program)}},
		{world: w.relocated, command: launched.Args},
	}
	for i := range app.rounds*b.Pairs + 1 {
		for j := range sides {
			side := &sides[(i+j)%len(sides)]
			took, err := side.start(ctx, app.starts, side.command, launched.Env)
			if err != nil {
				return err
			}
			if i > 0 { // the first brings files into memory
				side.wall = append(side.wall, median(each(took, func(s [2]float64) float64 { return s[0] })))
				side.cpu = append(side.cpu, median(each(took, func(s [2]float64) float64 { return s[1] })))
			}
		}
	}
	native, relocated, byLauncher := sides[0], sides[1], sides[2]
	b.Log("%s: native %.4f, relocated %.4f, by the launcher %.4f", app.name, native.wall, relocated.wall, byLauncher.wall)
	name := "launch.apps." + app.name
	b.row(name+".relocated_against_native", ratio(relocated.wall, native.wall), "ratio", app.bar)
	b.row(name+".relocated_against_native_at_best", slices.Min(relocated.wall)/slices.Min(native.wall), "ratio", "")
	b.row(name+".cpu_against_native", ratio(relocated.cpu, native.cpu), "ratio", "")
	b.row(name+".launched_against_native", ratio(byLauncher.wall, native.wall), "ratio", "")
	b.row(name+".native", median(native.wall)*1e3, "ms", "")
	return nil
}

// environmentOf is an environment by name.
func environmentOf(list []string) map[string]string {
	env := map[string]string{}
	for _, variable := range list {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	return env
}

// start starts a command by the world's own Python and gives what each start took, in seconds, and how much of a processor's time.
func (w world) start(ctx context.Context, times int, command, environment []string) ([][2]float64, error) {
	argv, err := json.Marshal(command)
	if err != nil {
		return nil, err
	}
	env, err := json.Marshal(environmentOf(environment))
	if err != nil {
		return nil, err
	}
	c, err := w.command(ctx, "python3", "-I", "-c", startsScript, fmt.Sprint(times), string(argv), string(env))
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("starting %s in the %s world: %w: %s", command[0], w.name, err, tail(stderr.String()))
	}
	var took [][2]float64
	return took, json.Unmarshal(out, &took)
}
