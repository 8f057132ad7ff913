package roots

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// lookedAt bounds how many of Hydra's builds of one name are looked into.
const lookedAt = 3

// ofHydra asks Hydra, where it is known, for the builds of the missing output's derivation, and where it has none, for
// those of the same name.
func (d *diagnosis) ofHydra(ctx context.Context) []Finding {
	if d.Settings.HydraURL == "" {
		return nil
	}
	findings, err := d.askHydraWhy(ctx)
	if err != nil {
		return append(findings, HydraSilent{err})
	}
	return findings
}

func (d *diagnosis) askHydraWhy(ctx context.Context) ([]Finding, error) {
	client, closeConnections, err := d.hydraClient()
	if err != nil {
		return nil, err
	}
	defer closeConnections()
	missing := d.err.Missing[0]
	builds, err := client.FindDerivation(ctx, d.missingDrvs()[0])
	switch {
	case err != nil:
		return nil, err
	case len(builds) > 0:
		return []Finding{d.builtThere(ctx, client, builds[0], missing)}, nil
	}
	if builds, err = client.FindNamed(ctx, missing); err != nil {
		return nil, err
	}
	var systems []string
	for _, b := range builds {
		if path := d.outputOf(b); path != "" {
			return []Finding{d.builtThere(ctx, client, b, path)}, nil
		}
		if !slices.Contains(systems, b.System) {
			systems = append(systems, b.System)
		}
	}
	switch {
	case len(builds) == 0:
		return []Finding{NeverBuilt{Hydra: client.URL(), Name: missing.Name(), File: d.File}}, nil
	case !slices.Contains(systems, d.Settings.System):
		return []Finding{OtherSystem{Who: "Hydra builds", Name: missing.Name(), System: d.Settings.System, Have: systems, At: builds[0].URL}}, nil
	}
	ours := slices.DeleteFunc(builds, func(b hydra.Build) bool { return b.System != d.Settings.System })
	return d.otherBuild(ctx, client, ours, missing)
}

// outputOf is the missing output that a build has, under any of the names that were tried; "" where it has none.
func (d *diagnosis) outputOf(b hydra.Build) storepath.Path {
	for _, output := range b.Outputs {
		if slices.ContainsFunc(d.tried, func(a attempt) bool { return slices.Contains(a.lacks.Missing, output) }) {
			return output
		}
	}
	return ""
}

// builtThere speaks of a build of the very output that no cache has.
func (f Finder) builtThere(ctx context.Context, client *hydra.Client, b hydra.Build, p storepath.Path) Finding {
	found := HydraBuild{Build: b}
	if b.Finished && b.Status != hydra.Succeeded {
		found.Failure = client.Explain(ctx, b)
	} else if b.Finished {
		found.Store = f.hydraStore(ctx, client, p)
	}
	return found
}

// otherBuild compares with the newest builds of the same name and another path: with one of this revision if there is one.
func (d *diagnosis) otherBuild(ctx context.Context, client *hydra.Client, builds []hydra.Build,
	missing storepath.Path) (newest []Finding, err error) {
	for _, b := range builds[:min(len(builds), lookedAt)] {
		if len(b.Evals) == 0 {
			break
		}
		eval, err := client.Evaluation(ctx, slices.Max(b.Evals))
		if err != nil {
			return nil, err
		}
		found := OtherBuild{Build: b, Inputs: inputsOf(eval), Name: missing.Name(), Ours: d.missingDrvs()[0], Commit: d.commit()}
		for _, source := range eval.Sources() {
			if d.commit() == "" || !strings.HasPrefix(source.Revision, d.commit()) {
				continue
			}
			found.OfCommit = true
			if value, deep, err := client.DeepClone(ctx, b.Project, b.Jobset, source.Name); err == nil && deep {
				found.DeepClone = fmt.Sprintf("input %s of the jobset is a deep clone (%s)", source.Name, redact.Text(value))
			}
			return []Finding{found}, nil
		}
		if newest == nil {
			newest = []Finding{found}
		}
	}
	return newest, nil
}

// inputsOf lists an evaluation's inputs, revision by revision.
func inputsOf(e hydra.Eval) string {
	if e.Flake != "" {
		return redact.Text(e.Flake)
	}
	var inputs []string
	for name, input := range e.Inputs {
		inputs = append(inputs, name+"="+cmp.Or(input.Revision, input.Value))
	}
	slices.Sort(inputs)
	return text.List(inputs, listed)
}
