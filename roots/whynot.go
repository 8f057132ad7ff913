package roots

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// diagnosis looks for the reason why no cache has what an evaluation found.
type diagnosis struct {
	evaluation
	tried   []attempt
	nearest attempt
	err     *NotCachedError
	graph   *graph
}

// whyNot makes the error for outputs that no cache has under any name.
func (e evaluation) whyNot(ctx context.Context, tried []attempt) error {
	d := &diagnosis{evaluation: e, tried: tried, nearest: tried[0]}
	for _, a := range tried {
		if a.nearer(d.nearest) {
			d.nearest = a
		}
	}
	d.graph = newGraph(ctx, e.nix.ReadDrv, e.Source, d.nearest.source)
	e.Log("No cache has what %s gives under any name; looking for the reason", e.entryName())
	d.err = &NotCachedError{
		Entry: e.entryName(), Missing: d.nearest.missing, Asked: d.nearest.why[d.nearest.missing[0]].Asked,
		Have: len(outputPaths(d.nearest.result)) - len(d.nearest.missing),
	}
	for _, a := range tried {
		if !slices.Contains(d.err.Names, a.name) {
			d.err.Names = append(d.err.Names, a.name)
		}
	}
	if plan, err := e.nix.WouldBuild(ctx, d.missingDrvs()); err == nil {
		d.err.Build, d.err.Fetch = plan.Build, plan.Fetch
	}
	d.look(ctx)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("looking for the reason: %w", context.Cause(ctx))
	}
	return d.err
}

// nearer reports whether an attempt tells more about the reason than another: a cache has all of it and is not
// trusted, or it lacks less.
func (a attempt) nearer(other attempt) bool {
	if a.untrusted() != other.untrusted() {
		return a.untrusted()
	}
	return len(a.missing) < len(other.missing)
}

func (a attempt) untrusted() bool {
	for _, why := range a.why {
		for _, answer := range why.Asked {
			if answer.Reason == cache.Untrusted {
				return true
			}
		}
	}
	return false
}

// missingDrvs are the derivations of the missing outputs.
func (d *diagnosis) missingDrvs() []storepath.Path {
	var drvs []storepath.Path
	for _, o := range d.nearest.result.Outputs {
		if slices.Contains(d.nearest.missing, o.Path) && !slices.Contains(drvs, o.Drv) {
			drvs = append(drvs, o.Drv)
		}
	}
	return drvs
}

// look asks one question after the other. What is sure ends it: the questions are in the order of their cost.
func (d *diagnosis) look(ctx context.Context) {
	questions := []func(context.Context) []Cause{
		d.cacheAnswers, d.ofHydra, d.upload, d.otherSystem, d.impurity, d.dependencies, d.notBuilt,
	}
	var causes []Cause
	for _, question := range questions {
		found := question(ctx)
		sure := slices.DeleteFunc(slices.Clone(found), func(c Cause) bool { return !c.Sure })
		if len(sure) > 0 {
			d.err.Causes = sure
			return
		}
		causes = append(causes, found...)
	}
	d.err.Causes = causes
}

func (d *diagnosis) ruleOut(format string, args ...any) {
	d.err.RuledOut = append(d.err.RuledOut, fmt.Sprintf(format, args...))
}

// cacheAnswers looks at what the caches said: a path that is there under a key nobody trusts, a cache that did not
// answer.
func (d *diagnosis) cacheAnswers(context.Context) []Cause {
	return causesOf(d.err.Asked)
}

// otherSystem looks whether the caches have the same for another system.
func (d *diagnosis) otherSystem(ctx context.Context) []Cause {
	for _, der := range d.nearest.result.Derivations {
		if der.System != "" && der.System != d.Settings.System && slices.Contains(d.missingDrvs(), der.Drv) {
			return []Cause{{Found: fmt.Sprintf("%s is for %s, this image is for %s: the expression does not use "+
				"builtins.currentSystem, or names a system", der.Name, der.System, d.Settings.System),
				Change: "take the system from builtins.currentSystem, or name the attribute for " + d.Settings.System +
					" in BP_NIX_ATTRS"}}
		}
	}
	for _, system := range otherSystems(d.Settings.System) {
		if d.Flake != "" && strings.Contains(d.Flake, d.Settings.System) {
			continue
		}
		other := d.evaluation
		other.nix = d.nix.ForSystem(system)
		found, _, err := other.search(ctx, files{dir: d.Source}, silent)
		if err == nil && found != nil && !slices.Equal(outputPaths(found.result), outputPaths(d.nearest.result)) {
			return []Cause{{Sure: true,
				Found: fmt.Sprintf("the caches have it for %s, and this image is for %s: Hydra does not build it for %s",
					system, d.Settings.System, d.Settings.System),
				Change: fmt.Sprintf("let the jobset build it for %s too (in release.nix: supportedSystems), or build the image "+
					"for %s", d.Settings.System, platformOf(system))}}
		}
	}
	return nil
}

func silent(string, ...any) {}

func otherSystems(own string) []string {
	return slices.DeleteFunc([]string{"x86_64-linux", "aarch64-linux"}, func(s string) bool { return s == own })
}

func platformOf(system string) string {
	if strings.HasPrefix(system, "aarch64") {
		return "linux/arm64"
	}
	return "linux/amd64"
}

// notBuilt is what remains.
func (d *diagnosis) notBuilt(context.Context) []Cause {
	if d.Settings.HydraURL != "" {
		return nil
	}
	return []Cause{{
		Found: "Hydra may not build this at all, or may not have finished building this revision, or does not upload to " +
			"the caches that were asked",
		Change: "set BP_NIX_HYDRA_URL=https://your.hydra to have it asked, and BP_NIX_HYDRA_JOB=project/jobset/job and " +
			"BP_NIX_HYDRA_WAIT=30m to take its build without evaluating",
	}}
}
