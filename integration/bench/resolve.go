package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
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
		b.row("Hydra job to roots, 100 evaluations back, "+size, float64(m.Requests), "requests", "<=25")
		b.row("round trips per request, "+size, m.Elapsed.Seconds()/roundTrip.Seconds()/float64(m.Requests), "ratio", "<=1.1")
	}
	return b.names(ctx)
}

// names compares trying four names of a source with evaluating it once.
func (b *Bench) names(ctx context.Context) error {
	b.Log("resolve: four names of a source against one")
	dir, err := b.folder()
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
	names := nixinstall.SourceNames("https://git.example.org/shop", strings.Repeat("0123456789", 4), "shop")
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

// sampleProject is an application of Python with its libraries, which copies its own folder.
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
