package roots

import (
	"context"
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
	client, err := d.hydraClient()
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	missing := d.nearest.missing[0]
	for _, drv := range d.likeliest(missing) {
		builds, err := client.FindDerivation(ctx, drv)
		if err != nil {
			return nil, err
		}
		if len(builds) > 0 {
			return []Finding{d.builtThere(ctx, client, builds[0], missing)}, nil
		}
	}
	builds, err := client.FindNamed(ctx, missing)
	if err != nil {
		return nil, err
	}
	for _, b := range builds {
		if path := d.outputOf(b); path != "" {
			return []Finding{d.builtThere(ctx, client, b, path)}, nil
		}
	}
	if len(builds) == 0 {
		return []Finding{NeverBuilt{Hydra: client.URL(), Name: missing.Name(), File: d.File}}, nil
	}
	ours := slices.DeleteFunc(slices.Clone(builds), func(b hydra.Build) bool { return b.System != d.Settings.System })
	if len(ours) == 0 {
		found := OtherSystem{Name: missing.Name(), System: d.Settings.System, Build: builds[0]}
		for _, b := range builds {
			if !slices.Contains(found.Have, b.System) {
				found.Have = append(found.Have, b.System)
			}
		}
		return []Finding{found}, nil
	}
	return d.otherBuild(ctx, client, ours, missing)
}

// searches bounds how often Hydra is searched for a derivation.
const searches = 3

// likeliest are the derivations of an output, under the names that were tried.
func (d *diagnosis) likeliest(output storepath.Path) []storepath.Path {
	var drvs []storepath.Path
	for _, a := range d.tried {
		for _, o := range a.result.Outputs {
			if o.Path.Name() == output.Name() && len(drvs) < searches && !slices.Contains(drvs, o.Drv) {
				drvs = append(drvs, o.Drv)
			}
		}
	}
	return drvs
}

// outputOf is the missing output that a build has, under any of the names that were tried; "" where it has none.
func (d *diagnosis) outputOf(b hydra.Build) storepath.Path {
	for _, a := range d.tried {
		for _, p := range a.missing {
			for _, output := range b.Outputs {
				if output == p {
					return p
				}
			}
		}
	}
	return ""
}

// builtThere speaks of a build of the very output that no cache has.
func (d *diagnosis) builtThere(ctx context.Context, client *hydra.Client, b hydra.Build, p storepath.Path) Finding {
	found := HydraBuild{Build: b, Path: p}
	switch {
	case !b.Finished:
	case b.Status != hydra.Succeeded:
		found.Failure = client.Explain(ctx, b)
	default:
		found.Store = d.hydraStore(ctx, client, p)
	}
	return found
}

// otherBuild compares with a build of the same name and another path: of this revision if there is one.
func (d *diagnosis) otherBuild(ctx context.Context, client *hydra.Client, builds []hydra.Build,
	missing storepath.Path) ([]Finding, error) {
	var newest hydra.Build
	var newestEval hydra.Eval
	for i, b := range builds {
		if i == lookedAt || len(b.Evals) == 0 {
			break
		}
		eval, err := client.Evaluation(ctx, slices.Max(b.Evals))
		if err != nil {
			return nil, err
		}
		if i == 0 {
			newest, newestEval = b, eval
		}
		for _, source := range eval.Sources() {
			if d.commit() == "" || !strings.HasPrefix(source.Revision, d.commit()) {
				continue
			}
			return append(d.deepClone(ctx, client, b, source), d.otherDerivation(b, eval, true)...), nil
		}
	}
	switch {
	case newest.ID == 0:
		return nil, nil
	case d.commit() == "":
		return d.otherDerivation(newest, newestEval, false), nil
	}
	return []Finding{OtherRevision{Build: newest, Name: missing.Name(), Sources: newestEval.Sources(), Commit: d.commit()}}, nil
}

// deepClone looks whether Hydra has the source with its .git.
func (d *diagnosis) deepClone(ctx context.Context, client *hydra.Client, b hydra.Build, source hydra.Source) []Finding {
	value, deep, err := client.DeepClone(ctx, b.Project, b.Jobset, source.Input)
	if err != nil || !deep {
		return nil
	}
	return []Finding{DeepClone{Build: b, Input: source.Input, Value: value}}
}

// inputsOf lists an evaluation's inputs, revision by revision.
func inputsOf(e hydra.Eval) string {
	if e.Flake != "" {
		return redact.Text(e.Flake)
	}
	var inputs []string
	for name, input := range e.Inputs {
		value := input.Revision
		if value == "" {
			value = input.Value
		}
		inputs = append(inputs, name+"="+value)
	}
	slices.Sort(inputs)
	return text.List(inputs, listed)
}

// otherDerivation is a build with another derivation than was evaluated here.
func (d *diagnosis) otherDerivation(b hydra.Build, eval hydra.Eval, ofRevision bool) []Finding {
	return []Finding{OtherDerivation{Build: b, OfRevision: ofRevision, Ours: d.missingDrvs()[0], Inputs: inputsOf(eval)}}
}
