package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

// evaluationsBack is how far back the wanted evaluation lies, roundTrip what every answer of Hydra's takes at least.
const (
	evaluationsBack = 100
	roundTrip       = 50 * time.Millisecond
)

// resolve measures the way from a source to its roots: by asking Hydra, and by evaluating under several names.
func (b *Bench) resolve(ctx context.Context) error {
	b.Log("resolve: a Hydra job, %d evaluations back", evaluationsBack)
	for _, jobs := range []int{3, 300} {
		m, err := hydratest.MeasureResolve(ctx, evaluationsBack, jobs, roundTrip)
		if err != nil {
			return err
		}
		size := fmt.Sprintf("evaluations of %d builds", jobs)
		b.row("Hydra job to roots, 100 evaluations back, "+size, float64(m.Requests), "requests", "<=10")
		b.row("round trips per request, "+size, m.Elapsed.Seconds()/roundTrip.Seconds()/float64(m.Requests), "ratio", "<=1.1")
	}
	return b.names(ctx)
}

// names counts the names that are tried of a source that Hydra has built, and compares trying several with evaluating
// it once.
func (b *Bench) names(ctx context.Context) error {
	b.Log("resolve: the names of a source")
	dir, err := b.newDir()
	if err != nil {
		return err
	}
	defer b.discard(dir)
	release, err := b.Rig.Toolchain(ctx)
	if err != nil {
		return err
	}
	pkgs, err := b.Rig.Nixpkgs(ctx)
	if err != nil {
		return err
	}
	nix, err := nixinstall.Install(ctx, release.Tarball, filepath.Join(dir, "n"),
		nixinstall.InstallOptions{SHA256: release.SHA256})
	if err != nil {
		return err
	}
	project := filepath.Join(dir, "project")
	if err := integration.WriteTree(project, sampleProject(pkgs.Store.Real(pkgs.Source))); err != nil {
		return err
	}
	if err := b.rightName(ctx, dir, nix, pkgs); err != nil {
		return err
	}
	if err := b.evaluation(ctx, dir, nix, pkgs, release); err != nil {
		return err
	}
	names := []string{"source", "git-export", "shop", "shop-git"}
	var once, four []float64
	for i := range max(b.Pairs, 3) {
		for _, count := range []int{1, 4} {
			state := filepath.Join(dir, fmt.Sprintf("state-%d-%d", i, count))
			took, err := tryNames(ctx, nix.With(nixinstall.Settings{State: state, Environment: os.Environ()}), project,
				names[:count])
			if err != nil {
				return err
			}
			if count == 1 {
				once = append(once, took.Seconds())
			} else {
				four = append(four, took.Seconds())
			}
		}
	}
	slices.Sort(once)
	slices.Sort(four)
	b.row("evaluating once", once[len(once)/2], "s", "")
	b.row("four source names / evaluating once", four[len(four)/2]/once[len(once)/2], "ratio", "<=2")
	return nil
}

// rightName counts the names that are tried before the one that Hydra has given to a git input.
func (b *Bench) rightName(ctx context.Context, dir string, nix nixinstall.Toolchain, pkgs *rig.Nixpkgs) error {
	project, served := filepath.Join(dir, "copies-itself"), filepath.Join(dir, "served")
	if err := integration.WriteTree(project, map[string]string{"default.nix": `derivation {
  name = "shop"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo ${./.} > $out" ];
}
`}); err != nil {
		return err
	}
	built, err := pkgs.AsHydra(ctx, project, "source", "default.nix")
	if err != nil {
		return err
	}
	if err := pkgs.Store.Cache(ctx, served, rig.CacheOptions{Compression: "none"}, built.Paths...); err != nil {
		return err
	}
	finder := roots.Finder{
		Settings: roots.Settings{System: b.Rig.System()}, Source: project, File: "default.nix",
		Toolchain: func() (nixinstall.Toolchain, error) {
			state := filepath.Join(dir, "state-name")
			return nix.With(nixinstall.Settings{State: state, Environment: os.Environ(), System: b.Rig.System()}), nil
		},
		Caches: func() (*cache.Set, error) {
			return cache.Open(ctx, cache.Options{URLs: []string{"file://" + served}})
		},
		Keep: func([]storepath.Path) {}, Log: b.Log,
	}
	found, err := finder.Find(ctx)
	if err != nil {
		return err
	}
	b.row("names of a source that Hydra built, tried before the right one", float64(len(found.SourceNames)-1), "names", "<=0")
	return nil
}

// sampleProject is an application of Python with its libraries, which copies its own directory.
func sampleProject(nixpkgs string) map[string]string {
	return map[string]string{
		"default.nix": `{ pkgs ? import ` + nixpkgs + ` { } }:
let python = pkgs.python3.withPackages (p: [ p.flask p.requests p.numpy ]); in
pkgs.stdenv.mkDerivation {
  pname = "shop";
  version = "1.0";
  src = ./.;
  nativeBuildInputs = [ python pkgs.git ];
  installPhase = "mkdir -p $out/bin; cp app.py $out/bin/shop";
}
`,
		"app.py": "#!/usr/bin/env python3\nprint('shop')\n",
	}
}

// tryNames does what a build does that finds the outputs under the last of these names: one evaluation, and the other
// names in the derivations.
func tryNames(ctx context.Context, nix nixinstall.Toolchain, dir string, names []string) (time.Duration, error) {
	start := time.Now()
	source, err := nix.AddSource(ctx, dir, nixinstall.SourceOptions{Name: names[0]})
	if err != nil {
		return 0, err
	}
	first, err := nix.Evaluate(ctx, nixinstall.Request{Source: source})
	if err != nil {
		return 0, err
	}
	seen := []string{first.Outputs[0].Path.String()}
	for _, name := range names[1:] {
		other, err := nixinstall.SourcePath(ctx, dir, nixinstall.SourceOptions{Name: name})
		if err != nil {
			return 0, err
		}
		result, err := nix.RenameSource(ctx, first, source, other)
		if err != nil {
			return 0, err
		}
		seen = append(seen, result.Outputs[0].Path.String())
	}
	took := time.Since(start)
	slices.Sort(seen)
	if len(slices.Compact(seen)) != len(names) {
		return 0, fmt.Errorf("%d names of a source give %d outputs", len(names), len(slices.Compact(seen)))
	}
	return took, nil
}
