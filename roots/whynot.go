package roots

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// diagnosis looks for the reason why no cache has what an evaluation found.
type diagnosis struct {
	evaluation
	tried   []attempt
	nearest attempt
	err     *NotCachedError
}

// whyNot makes the error for outputs that no cache has under any name.
func (e evaluation) whyNot(ctx context.Context, tried []attempt) error {
	d := &diagnosis{evaluation: e, tried: tried, nearest: tried[0]}
	for _, a := range tried {
		if a.nearer(d.nearest) {
			d.nearest = a
		}
	}
	e.Log("No cache has what %s gives under any name; looking for the reason", e.entryName())
	d.err = &NotCachedError{
		Entry: e.entryName(), Missing: d.nearest.missing, Asked: d.nearest.why[d.nearest.missing[0]].Asked,
		Have: len(outputPaths(d.nearest.result)) - len(d.nearest.missing), HydraAsked: d.Settings.HydraURL != "",
	}
	for _, a := range tried {
		if !slices.Contains(d.err.Names, a.name) {
			d.err.Names = append(d.err.Names, a.name)
		}
	}
	d.err.Build, _ = e.nix.WouldBuild(ctx, d.missingDrvs()) // which is told besides
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
	return slices.ContainsFunc(slices.Collect(maps.Values(a.why)), func(why *cache.NotFoundError) bool {
		return slices.ContainsFunc(why.Asked, func(answer cache.Answer) bool { return answer.Reason == cache.Untrusted })
	})
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

// look asks one question after the other. What is proven ends it: the questions are in the order of their cost.
func (d *diagnosis) look(ctx context.Context) {
	for _, question := range []func(context.Context) []Finding{
		func(context.Context) []Finding { return cacheFindings(d.err.Asked) },
		d.ofHydra, d.upload, d.otherSystem,
		func(context.Context) []Finding { return d.configured(d.err.Asked) },
		d.impurity,
	} {
		if d.err.add(question(ctx)) {
			if slices.ContainsFunc(d.err.Findings, isElsewhere) {
				d.err.Findings = append(d.err.Findings, d.configured(d.err.Asked)...)
			}
			return
		}
	}
}

// isElsewhere reports whether a finding is that Hydra has built an output, and that some cache may have it which was not
// asked.
func isElsewhere(f Finding) bool {
	b, ok := f.(HydraBuild)
	return ok && b.Build.Finished && b.Failure == nil && b.Store.State != StoreCollected
}

func (d *diagnosis) ruleOut(format string, args ...any) {
	d.err.RuledOut = append(d.err.RuledOut, fmt.Sprintf(format, args...))
}

func silent(string, ...any) {}
