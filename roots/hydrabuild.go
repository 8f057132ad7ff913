package roots

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// lookedAt bounds how many of Hydra's builds of one name are looked into.
const lookedAt = 3

// ofHydra asks Hydra, where it is known, for the builds of the missing output's derivation, and where it has none, for
// those of the same name.
func (d diagnosis) ofHydra(ctx context.Context, e *NotCachedError) []Finding {
	if d.Settings.HydraURL == "" {
		return nil
	}
	found, err := d.askHydraWhy(ctx, e)
	if err != nil {
		return []Finding{{Text: "Hydra could not be asked: " + err.Error(), Err: err}}
	}
	return found
}

func (d diagnosis) askHydraWhy(ctx context.Context, e *NotCachedError) ([]Finding, error) {
	client, closeConnections, err := d.hydraClient()
	if err != nil {
		return nil, err
	}
	defer closeConnections()
	missing := e.Missing[0]
	builds, err := client.FindDerivation(ctx, d.drvs[0])
	switch {
	case err != nil:
		return nil, err
	case len(builds) > 0:
		return d.builtThere(ctx, client, builds[0], missing, e), nil
	}
	if builds, err = client.FindNamed(ctx, missing); err != nil {
		return nil, err
	}
	var systems []string
	for _, b := range builds {
		if path := d.outputOf(b); path != "" {
			return d.builtThere(ctx, client, b, path, e), nil
		}
		if !slices.Contains(systems, b.System) {
			systems = append(systems, b.System)
		}
	}
	switch {
	case len(builds) == 0:
		name, _ := storepath.ParseName(missing.Name())
		return []Finding{{Kinds: []Kind{NeverBuilt}, Facts: []string{"name", name, "file", d.File},
			Text: fmt.Sprintf("%s has never built anything named %s: no job gives it", client.URL(), missing.Name())}}, nil
	case !slices.Contains(systems, d.Settings.System):
		return forOthers("Hydra builds", missing, d.Settings.System, systems, builds[0].URL), nil
	}
	ours := slices.DeleteFunc(builds, func(b hydra.Build) bool { return b.System != d.Settings.System || len(b.Evals) == 0 })
	return d.otherBuild(ctx, client, ours, missing.Name())
}

// outputOf is the missing output that a build has, under any of the names that were tried; "" where it has none.
func (d diagnosis) outputOf(b hydra.Build) storepath.Path {
	for _, output := range b.Outputs {
		if slices.ContainsFunc(d.tried, func(a attempt) bool { return slices.Contains(a.lacks.Missing, output) }) {
			return output
		}
	}
	return ""
}

func pageOf(b hydra.Build) string { return fmt.Sprintf("build %d of %s: %s", b.ID, b.JobPath(), b.URL) }

// builtThere speaks of a build of the very output that no cache has. It proves nothing while a cache could not be asked,
// which may have it.
func (f Finder) builtThere(ctx context.Context, client *hydra.Client, b hydra.Build, p storepath.Path, e *NotCachedError) []Finding {
	switch {
	case !b.Finished:
		return []Finding{{Proven: true, Kinds: []Kind{Unfinished}, Facts: []string{"job", b.JobPath()},
			Text: "Hydra has not finished building it: " + pageOf(b)}}
	case b.Status != hydra.Succeeded:
		err := client.Explain(ctx, b)
		return []Finding{{Proven: true, Err: err, Text: "Hydra could not build it: " + err.Error()}}
	}
	found := Finding{Proven: len(e.Findings) == 0, Kinds: []Kind{Uploaded}, Facts: []string{"hydra", client.URL()},
		Text: fmt.Sprintf("Hydra has built it, but no cache that was asked has it (%s)", pageOf(b))}
	own, err := f.hydraStore(ctx, p)
	var absent *cache.NotFoundError
	switch {
	case errors.As(err, &absent) && len(cacheFindings(absent.Asked)) == 0:
		found.Kinds[0], found.Text = Collected, found.Text+"; it has been garbage-collected from Hydra's own store"
	case err != nil:
	case len(own.Sigs) == 0:
		found.Kinds[0], found.Text = HydraUnsigned, found.Text+"; Hydra serves it itself, without a signature"
	default:
		key := text.Short(text.Printable(own.Sigs[0].Name))
		found.Kinds[0], found.Text = HydraServes, found.Text+"; Hydra serves it itself, signed by "+key
		found.Facts = append(found.Facts, "key", key)
	}
	if found.Proven && found.Kinds[0] != Collected { // a cache that the source lists may have it
		for _, more := range f.configured(ctx, e) {
			found.Text, found.Kinds = found.Text+"\n"+more.Text, append(found.Kinds, more.Kinds...)
			found.Facts = append(found.Facts, more.Facts...)
		}
	}
	return []Finding{found}
}

// otherBuild compares with the newest builds of the same name and another path: with one of this revision if there is one.
func (d diagnosis) otherBuild(ctx context.Context, client *hydra.Client, builds []hydra.Build, name string) (newest []Finding, err error) {
	for _, b := range builds[:min(len(builds), lookedAt)] {
		eval, err := client.Evaluation(ctx, slices.Max(b.Evals))
		if err != nil {
			return nil, err
		}
		found, ofCommit := d.compared(ctx, client, b, eval, name)
		if ofCommit {
			return []Finding{found}, nil
		}
		newest = append(newest, found)
	}
	return newest[:min(len(newest), 1)], nil
}

// compared says how a build differs from what was evaluated here, and whether it is of this source's commit.
func (d diagnosis) compared(ctx context.Context, client *hydra.Client, b hydra.Build, eval hydra.Eval, name string) (found Finding, ofCommit bool) {
	job, commit, sources := []string{"job", b.JobPath()}, d.commit(), eval.Sources()
	ours := slices.IndexFunc(sources, func(s hydra.Source) bool { return strings.HasPrefix(s.Revision, commit) })
	if ofCommit = commit != ""; ofCommit && ours < 0 {
		return Finding{Kinds: []Kind{OtherRevision}, Facts: job, Text: fmt.Sprintf("Hydra has built %s, last from %s (%s), not from %s",
			name, inputsOf(eval), pageOf(b), commit)}, false
	}
	kind, which := OtherDerivation, "Hydra's newest build of it differs from what was evaluated here"
	if ofCommit {
		which = "Hydra has built this revision, and the two differ"
		if value, deep, err := client.DeepClone(ctx, b.Project, b.Jobset, sources[ours].Name); err == nil && deep {
			kind = DeepClone
			which += fmt.Sprintf(": input %s of the jobset is a deep clone (%s), and its .git is in Hydra's source, which no other "+
				"checkout has alike", sources[ours].Name, redact.Text(value))
		}
	}
	return Finding{Kinds: []Kind{kind}, Facts: job, Text: fmt.Sprintf("%s (%s):\nHydra's derivation is %s, here it is %s\n"+
		"what Hydra evaluated: %s", which, pageOf(b), b.DrvPath, d.drvs[0], inputsOf(eval))}, ofCommit
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
