package roots

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// lookedAt bounds how many of Hydra's builds of one name are looked into.
const lookedAt = 3

// ofHydra asks Hydra, where it is known, for the builds of the missing output, and where it has none, for those of the
// same name: then it compares what they are made from with what was evaluated here, input by input.
func (d *diagnosis) ofHydra(ctx context.Context) []Cause {
	if d.Settings.HydraURL == "" {
		return nil
	}
	client, err := d.hydraClient()
	if err != nil {
		return []Cause{{Found: "Hydra cannot be asked: " + err.Error(), Change: "check BP_NIX_HYDRA_URL"}}
	}
	missing := d.nearest.missing[0]
	for _, drv := range d.likeliest(missing) {
		builds, err := client.FindDerivation(ctx, drv)
		if err != nil {
			return []Cause{{Found: "Hydra could not be asked: " + err.Error()}}
		}
		if len(builds) > 0 {
			return []Cause{d.builtThere(ctx, client, builds[0], missing)}
		}
	}
	builds, err := client.FindNamed(ctx, missing)
	if err != nil {
		return []Cause{{Found: "Hydra could not be asked: " + err.Error()}}
	}
	for _, b := range builds {
		if path := d.outputOf(b); path != "" {
			return []Cause{d.builtThere(ctx, client, b, path)}
		}
	}
	if len(builds) == 0 {
		return []Cause{{
			Found: fmt.Sprintf("%s has never built anything named %s: no job gives it", client.URL(), missing.Name()),
			Change: "add it to the jobset, for example to release.nix: " + jobName(missing) + " = import ./" +
				d.entryFile() + " { };"}}
	}
	ours := slices.DeleteFunc(slices.Clone(builds), func(b hydra.Build) bool { return b.System != d.Settings.System })
	if len(ours) == 0 {
		var systems []string
		for _, b := range builds {
			if !slices.Contains(systems, b.System) {
				systems = append(systems, b.System)
			}
		}
		return []Cause{{Sure: true,
			Found: fmt.Sprintf("Hydra builds %s for %s, not for %s: %s", missing.Name(), strings.Join(systems, ", "),
				d.Settings.System, builds[0].URL),
			Change: "add " + d.Settings.System + " to the systems of the jobset (in release.nix: supportedSystems)"}}
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

func jobName(p storepath.Path) string {
	name, _, _ := strings.Cut(p.Name(), "-")
	return name
}

func (d *diagnosis) entryFile() string {
	if d.File != "" {
		return d.File
	}
	return "default.nix"
}

// builtThere speaks of a build of the very output that no cache has.
func (d *diagnosis) builtThere(ctx context.Context, client *hydra.Client, b hydra.Build, p storepath.Path) Cause {
	job := fmt.Sprintf("%s/%s/%s", b.Project, b.Jobset, b.Job)
	switch {
	case !b.Finished:
		return Cause{Sure: true, Found: fmt.Sprintf("Hydra has not finished building it: build %d of %s: %s", b.ID, job,
			b.URL),
			Change: "deploy again when it is done, or have it waited for:\n" + waitFor(job)}
	case b.Status != hydra.Succeeded:
		return Cause{Sure: true, Found: "Hydra could not build it: " + client.Explain(ctx, b).Error(),
			Change: "look at the log, mend the build, push again"}
	}
	return Cause{Sure: true,
		Found: fmt.Sprintf("Hydra has built it (build %d of %s: %s), but no cache that was asked has %s", b.ID, job, b.URL,
			p.Base()),
		Change: d.whoServes(ctx, client, p)}
}

func waitFor(job string) string { return "BP_NIX_HYDRA_JOB=" + job + "\nBP_NIX_HYDRA_WAIT=30m" }

// otherBuild compares with a build of the same name and another path: of this revision if there is one.
func (d *diagnosis) otherBuild(ctx context.Context, client *hydra.Client, builds []hydra.Build,
	missing storepath.Path) []Cause {
	var newest hydra.Build
	var newestEval hydra.Eval
	for i, b := range builds {
		if i == lookedAt || len(b.Evals) == 0 {
			break
		}
		eval, err := client.Evaluation(ctx, slices.Max(b.Evals))
		if err != nil {
			return []Cause{{Found: "Hydra could not be asked: " + err.Error()}}
		}
		if i == 0 {
			newest, newestEval = b, eval
		}
		for _, source := range eval.Sources() {
			if d.commit() != "" && strings.HasPrefix(source.Revision, d.commit()) {
				return d.compareBuild(ctx, client, b, eval, source)
			}
		}
	}
	if newest.ID == 0 {
		return nil
	}
	var revisions []string
	for _, source := range newestEval.Sources() {
		revisions = append(revisions, fmt.Sprintf("%s=%s", source.Input, source.Revision))
	}
	found := fmt.Sprintf("Hydra has built %s, last from %s (build %d: %s)", missing.Name(), strings.Join(revisions, " "),
		newest.ID, newest.URL)
	job := fmt.Sprintf("%s/%s/%s", newest.Project, newest.Jobset, newest.Job)
	if d.commit() == "" {
		causes := d.compareBuild(ctx, client, newest, newestEval, hydra.Source{})
		causes[0].Found = found + "; the revision of this source is not known\n" + causes[0].Found
		return causes
	}
	return []Cause{{
		Found:  found + ", not from " + d.commit(),
		Change: "push this commit to the branch that Hydra follows and have it waited for:\n" + waitFor(job)}}
}

// compareBuild says in what Hydra's build differs from what was evaluated here.
func (d *diagnosis) compareBuild(ctx context.Context, client *hydra.Client, b hydra.Build, eval hydra.Eval,
	source hydra.Source) []Cause {
	job := fmt.Sprintf("%s/%s/%s", b.Project, b.Jobset, b.Job)
	take := fmt.Sprintf("take Hydra's build without evaluating: BP_NIX_HYDRA_JOB=%s", job)
	if cause, ok := d.deepClone(ctx, client, b, source); ok {
		return []Cause{cause}
	}
	found := fmt.Sprintf("Hydra has built this revision, as %s (build %d of %s: %s), and the two differ",
		strings.Join(outputNames(b), ", "), b.ID, job, b.URL)
	if source == (hydra.Source{}) {
		found = "its build differs from what was evaluated here"
	}
	lines, cause := d.compareDerivations(ctx, b)
	if cause != nil {
		cause.Found = found + ":\n" + cause.Found
		return []Cause{*cause}
	}
	if len(lines) == 0 {
		lines = append(lines, fmt.Sprintf("Hydra's derivation is %s, and it is in no cache; here it is %s", b.DrvPath,
			d.missingDrvs()[0]),
			"what Hydra evaluated: "+inputsOf(eval))
		if pins := findPins(ctx, d.Source, d.Settings.NixPath); len(pins) > 0 {
			lines = append(lines, "nixpkgs here: "+strings.Join(pins, "; "))
		}
		return []Cause{{Found: found + ":\n" + strings.Join(lines, "\n"), Change: take}}
	}
	return []Cause{{Sure: true, Found: found + ":\n" + strings.Join(lines, "\n"), Change: take}}
}

func outputNames(b hydra.Build) []string {
	var names []string
	for _, p := range b.Outputs {
		names = append(names, p.Base())
	}
	slices.Sort(names)
	return names
}

// inputsOf lists an evaluation's inputs, revision by revision.
func inputsOf(e hydra.Eval) string {
	if e.Flake != "" {
		return Redact(e.Flake)
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
	return strings.Join(shortList(inputs), " ")
}

// deepClone looks whether the jobset has the source cloned with its history: then what Hydra evaluated has a .git, and
// no second checkout has the same one.
func (d *diagnosis) deepClone(ctx context.Context, client *hydra.Client, b hydra.Build, source hydra.Source) (Cause, bool) {
	inputs, err := client.JobsetInputs(ctx, b.Project, b.Jobset)
	if err != nil {
		return Cause{}, false
	}
	input, ok := inputs[source.Input]
	if !ok || !input.DeepClone() || !d.graph.copiesSource(d.missingDrvs()) {
		return Cause{}, false
	}
	return Cause{Sure: true,
		Found: fmt.Sprintf("input %s of the jobset is a deep clone (%q): Hydra leaves its .git in the source, which no "+
			"second checkout has alike, and the output is made from the whole source", source.Input, Redact(input.Value)),
		Change: fmt.Sprintf("take Hydra's build without evaluating: BP_NIX_HYDRA_JOB=%s/%s/%s\nor take the third word out "+
			"of the jobset's input", b.Project, b.Jobset, b.Job)}, true
}

// compareDerivations compares the derivations themselves, if Hydra's can be had: its own store serves it where Hydra is
// a binary cache, too. A cause is given where the difference is one of the source's files.
func (d *diagnosis) compareDerivations(ctx context.Context, b hydra.Build) ([]string, *Cause) {
	theirs, err := storepath.Parse(b.DrvPath)
	if err != nil {
		return nil, nil
	}
	sets := []*cache.Set{d.caches}
	if own, err := d.ownCache(ctx); err == nil {
		defer own.Close()
		sets = append(sets, own)
	}
	read := func(p storepath.Path) (*nixinstall.Drv, error) {
		if drv, err := d.nix.ReadDrv(p); err == nil {
			return drv, nil
		}
		return fetchDrv(ctx, sets, p)
	}
	// Of the names that were tried the one that comes nearest tells most.
	var best []nixinstall.Difference
	for _, a := range d.tried {
		for _, der := range a.result.Derivations {
			if der.Drv.Name() != theirs.Name() {
				continue
			}
			differences, err := nixinstall.DiffDerivations(der.Drv, theirs, read)
			if err == nil && (best == nil || len(differences) < len(best)) {
				best = differences
			}
		}
	}
	var lines []string
	for i, difference := range best {
		if i == listed {
			lines = append(lines, fmt.Sprintf("and %d more differences", len(best)-i))
			break
		}
		lines = append(lines, difference.String())
	}
	return lines, d.compareSources(ctx, sets, best)
}

// compareSources looks into a source that differs, file by file.
func (d *diagnosis) compareSources(ctx context.Context, sets []*cache.Set, differences []nixinstall.Difference) *Cause {
	for _, difference := range differences {
		theirs, err := storepath.Parse(difference.Theirs)
		if err != nil || !strings.HasPrefix(difference.What, "source ") {
			continue
		}
		dir, err := os.MkdirTemp("", "nix-hydra-source-")
		if err != nil {
			return nil
		}
		defer func() { _ = nar.RemoveAll(dir) }()
		tree := filepath.Join(dir, "source")
		if err := fetchTree(ctx, sets, theirs, tree); err != nil {
			continue
		}
		ours := d.Source
		if info, err := os.Stat(tree); err != nil || !info.IsDir() {
			continue // a single file, named in the difference
		}
		diff, err := compareTrees(ctx, ours, tree)
		if err != nil || diff.isZero() {
			continue
		}
		text := strings.NewReplacer("in git", "in what Hydra has", "not in git",
			"not in what Hydra has").Replace(diff.String())
		return &Cause{Sure: true, Found: "the source itself is another one\n" + text, Change: diff.change()}
	}
	return nil
}
