package roots

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// look asks one question after the other for the reason, the caches' answers before all. What is proven ends it, and
// stands alone: the questions are in the order of their cost.
func (f Finder) look(ctx context.Context, e *NotCachedError, questions ...func(context.Context) []Finding) error {
	e.Findings = cacheFindings(e.Asked)
	unasked := len(e.Findings) > 0
	proves := func(f Finding) bool { return Proven(f) && !(isBuilt(f) && unasked) } // who was not asked may have it
	for _, question := range questions {
		if slices.ContainsFunc(e.Findings, proves) {
			break
		}
		e.Findings = append(e.Findings, question(ctx)...)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("looking for the reason: %w", context.Cause(ctx))
	}
	if slices.ContainsFunc(e.Findings, proves) {
		e.Findings = slices.DeleteFunc(e.Findings, func(f Finding) bool { return !proves(f) })
		if build, ok := e.Findings[0].(HydraBuild); ok && isBuilt(build) && (build.Store == nil || !build.Store.Collected) {
			e.Findings = append(e.Findings, f.configured(e)...) // one of which may have it
		}
	}
	return e
}

// isBuilt reports whether a finding is that Hydra has built an output.
func isBuilt(f Finding) bool {
	b, ok := f.(HydraBuild)
	return ok && b.Build.Finished && b.Failure == nil
}

// diagnosis looks for the reason why no cache has what an evaluation found.
type diagnosis struct {
	evaluation
	tried   []attempt
	nearest attempt
	err     *NotCachedError // for the nearest
}

// whyNot makes the error for outputs that no cache has under any name.
func (e evaluation) whyNot(ctx context.Context, tried []attempt) error {
	nearest := slices.MinFunc(tried, func(a, b attempt) int { return cmp.Compare(a.distance(), b.distance()) })
	d := &diagnosis{evaluation: e, tried: tried, nearest: nearest, err: nearest.lacks}
	e.Log("No cache has what %s gives under any name; looking for the reason", e.entryName())
	d.err.Names = slices.Compact(namesUpTo(tried, tried[len(tried)-1].sourceName))
	d.err.Build, _ = e.nix.WouldBuild(ctx, d.missingDrvs()) // which is told besides
	return e.look(ctx, d.err, d.ofHydra, d.upload, d.otherSystem,
		func(context.Context) []Finding { return d.configured(d.err) }, d.impurity)
}

// distance is how many outputs the caches lack of what an attempt gives: none where one has it and is not trusted, which
// tells more about the reason.
func (a attempt) distance() int {
	if slices.ContainsFunc(a.lacks.Asked, func(answer cache.Answer) bool { return answer.Reason == cache.Untrusted }) {
		return 0
	}
	return len(a.lacks.Missing)
}

// missingDrvs are the derivations of the missing outputs.
func (d *diagnosis) missingDrvs() []storepath.Path {
	var drvs []storepath.Path
	for _, o := range d.nearest.result.Outputs {
		if slices.Contains(d.err.Missing, o.Path) && !slices.Contains(drvs, o.Drv) {
			drvs = append(drvs, o.Drv)
		}
	}
	return drvs
}

func (d *diagnosis) ruleOut(format string, args ...any) {
	d.err.RuledOut = append(d.err.RuledOut, fmt.Sprintf(format, args...))
}

func silent(string, ...any) {}

// otherSystem evaluates the source for the other system that images are for: where the caches have that, ours is what
// nobody builds.
func (d *diagnosis) otherSystem(ctx context.Context) []Finding {
	other := "aarch64-linux"
	if d.Settings.System == other {
		other = "x86_64-linux"
	}
	e := d.evaluation
	e.Settings.System, e.nix = other, e.nix.For(other)
	found, _, err := e.search(ctx, files{dir: d.Source, exclude: d.Exclude}, silent)
	if err != nil || found == nil { // an expression need not know the other system
		return nil
	}
	return []Finding{OtherSystem{Who: "the caches have", Name: d.err.Missing[0].Name(), System: d.Settings.System,
		Have: []string{other}, At: outputPaths(found.result)[0].String()}}
}

// configured looks for caches that the source lists for Nix, or the build's NIX_CONFIG, and that were not asked. They
// are not obeyed: whoever can write to a source could say with them whom to trust.
func (f Finder) configured(e *NotCachedError) []Finding {
	getenv := f.Servers.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	all := nixinstall.ReadListedCaches(f.Source, f.Flake, getenv("NIX_CONFIG"))
	all.Substituters = slices.DeleteFunc(all.Substituters, func(url string) bool {
		address, _, _ := strings.Cut(strings.TrimRight(redact.Text(url), "/"), "?")
		return slices.ContainsFunc(e.Asked, func(a cache.Answer) bool { return strings.TrimRight(a.URL, "/") == address })
	})
	if len(all.Substituters) == 0 {
		return nil
	}
	return []Finding{ConfiguredCaches{all}}
}

// impurity looks for expressions that give something else at another time or on another machine. The clock is proven
// by evaluating again; the rest is a hint with its place.
func (d *diagnosis) impurity(ctx context.Context) []Finding {
	if d.Flake != "" {
		return nil // which is evaluated purely
	}
	places, err := nixinstall.Impurities(ctx, d.Source)
	if err != nil {
		return nil
	}
	at := map[nixinstall.ImpurityKind][]string{}
	for _, place := range places {
		at[place.Kind()] = append(at[place.Kind()], place.String())
	}
	var found []Finding
	for kind := nixinstall.Clock; kind <= nixinstall.Unpinned; kind++ {
		if len(at[kind]) > 0 {
			found = append(found, Impure{Kind: kind, Places: at[kind], NixPath: d.Settings.NixPath,
				Changed: kind == nixinstall.Clock && d.changesByItself(ctx)})
		}
	}
	if len(places) == 0 {
		d.ruleOut("impurity: no .nix file reads the clock, the environment, a search path or anything that is not pinned")
	}
	return found
}

// changesByItself evaluates again, when the clock shows another second.
func (d *diagnosis) changesByItself(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(1100 * time.Millisecond):
	}
	options := nixinstall.SourceOptions{Name: d.nearest.name, Rule: d.nearest.rule, Exclude: d.Exclude}
	again, err := d.evaluateAs(ctx, d.Source, options, d.nearest.source, nil, silent)
	return err == nil && !slices.Equal(outputPaths(again), outputPaths(d.nearest.result))
}
