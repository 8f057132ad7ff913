package roots

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// question looks for one reason why no cache has an output.
type question func(context.Context, *NotCachedError) []Finding

// look asks one question after the other, in the order of their cost, the caches' answers before all. What is proven ends
// it, and stands alone.
func (f Finder) look(ctx context.Context, e *NotCachedError, questions ...question) error {
	e.Findings = cacheFindings(e.Asked)
	for _, question := range questions {
		if !slices.ContainsFunc(e.Findings, isProven) {
			e.Findings = append(e.Findings, question(ctx, e)...)
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("looking for the reason: %w", context.Cause(ctx))
	case slices.ContainsFunc(e.Findings, isProven):
		e.Findings = slices.DeleteFunc(e.Findings, func(f Finding) bool { return !f.Proven })
	case f.Settings.HydraURL == "":
		e.Findings = append(e.Findings, Finding{Kinds: []Kind{HydraUnknown}, Text: "Hydra may not build this at all, or may not have " +
			"finished building this revision, or does not upload to the caches that were asked"})
	}
	return e
}

// diagnosis looks for the reason why no cache has what an evaluation found.
type diagnosis struct {
	evaluation
	tried   []attempt
	nearest attempt
	drvs    []storepath.Path // of the outputs that the nearest lacks
}

// whyNot makes the error for outputs that no cache has under any name.
func (e evaluation) whyNot(ctx context.Context, tried []attempt) error {
	nearest := slices.MinFunc(tried, func(a, b attempt) int { return cmp.Compare(a.distance(), b.distance()) })
	d := diagnosis{evaluation: e, tried: tried, nearest: nearest}
	e.Log("No cache has what %s gives under any name; looking for the reason", e.entryName())
	for _, o := range nearest.result.Outputs {
		if slices.Contains(nearest.lacks.Missing, o.Path) && !slices.Contains(d.drvs, o.Drv) {
			d.drvs = append(d.drvs, o.Drv)
		}
	}
	nearest.lacks.Names = slices.Compact(namesUpTo(tried, tried[len(tried)-1].sourceName))
	built, _ := e.nix.WouldBuild(ctx, d.drvs) // which the report can do without
	nearest.lacks.Build = (&nixinstall.WouldBuildError{Drvs: built}).Names()
	return e.look(ctx, nearest.lacks, d.ofHydra, d.upload, d.otherSystem, d.configured, d.impurity)
}

// distance is how many outputs the caches lack of what an attempt gives: none where one has it and is not trusted, which
// tells more about the reason.
func (a attempt) distance() int {
	if slices.ContainsFunc(a.lacks.Asked, func(answer cache.Answer) bool { return answer.Reason == cache.Untrusted }) {
		return 0
	}
	return len(a.lacks.Missing)
}

func silent(string, ...any) {}

// otherSystem evaluates the source for the other system that images are for: where the caches have that, ours is what
// nobody builds.
func (d diagnosis) otherSystem(ctx context.Context, e *NotCachedError) []Finding {
	ours := d.Settings.System
	other := map[string]string{"x86_64-linux": "aarch64-linux", "aarch64-linux": "x86_64-linux"}[ours]
	d.Settings.System, d.nix = other, d.nix.For(other)
	found, _, err := d.search(ctx, files{dir: d.Source, exclude: d.Exclude}, silent)
	if err != nil || found == nil { // an expression need not know the other system
		return nil
	}
	return forOthers("the caches have", e.Missing[0], ours, []string{other}, outputPaths(found.result)[0].String())
}

// forOthers speaks of an output that is there for other systems only: who has it, and at which page or store path.
func forOthers(who string, missing storepath.Path, system string, have []string, at string) []Finding {
	return []Finding{{Proven: true, Err: &hydra.SystemError{System: system, Have: have, URL: at},
		Text: fmt.Sprintf("%s %s for %s, not for %s: %s", who, missing.Name(), strings.Join(have, ", "), system, at)}}
}

// configured looks for caches that the source lists for Nix, or the build's NIX_CONFIG, and that were not asked. They
// are not obeyed: whoever can write to a source could say with them whom to trust.
func (f Finder) configured(_ context.Context, e *NotCachedError) []Finding {
	all := nixinstall.ReadListedCaches(f.Source, f.Flake, f.Servers.Getenv("NIX_CONFIG"))
	caches := slices.DeleteFunc(all.Substituters, func(url string) bool {
		address, _, _ := strings.Cut(redact.Text(url), "?")
		return slices.ContainsFunc(e.Asked, func(a cache.Answer) bool {
			return strings.TrimRight(a.URL, "/") == strings.TrimRight(address, "/")
		})
	})
	if len(caches) == 0 {
		return nil
	}
	shown := func(words []string) string { return text.Printable(redact.Text(strings.Join(words, " "))) }
	return []Finding{{Text: strings.Join(all.From, ", ") + " lists what is not obeyed here", Kinds: []Kind{Configured},
		Facts: []string{"caches", shown(caches), "keys", shown(all.TrustedPublicKeys)}}}
}

// impurity looks for expressions that give something else at another time or on another machine. The clock is proven
// by evaluating again; the rest is a hint with its place.
func (d diagnosis) impurity(ctx context.Context, _ *NotCachedError) []Finding {
	if d.Flake != "" {
		return nil // which is evaluated purely
	}
	places, _ := nixinstall.Impurities(ctx, d.Source) // those that were found before what cannot be read
	found := impure(places, d.Settings.NixPath)
	if len(found) > 0 && found[0].Kinds[0] == Clock && d.changesByItself(ctx) {
		found[0].Text, found[0].Proven = "evaluating it again a second later gives another path: "+found[0].Text, true
	}
	return found
}

// impure has a finding for each kind of impurity, the clock first.
func impure(places []nixinstall.Impurity, searchPath []string) (found []Finding) {
	at := map[nixinstall.ImpurityKind][]string{}
	for _, place := range places {
		at[place.Kind] = append(at[place.Kind], place.String())
	}
	path := cmp.Or(redact.Text(strings.Join(searchPath, " ")), "empty")
	for i, is := range []struct {
		kind          Kind
		before, after string
	}{
		nixinstall.Clock:       {Clock, "the clock is read at ", ""},
		nixinstall.Environment: {Environment, "variables of the environment are read at ", "; they are empty here, and Hydra's may not be"},
		nixinstall.SearchPath: {SearchPath, "the search path is used at ", "; here it is " + path + ", and Hydra's is the jobset's inputs " +
			"of these names"},
		nixinstall.Unpinned: {Unpinned, "something is fetched whose content is not pinned, at ", ""},
	} {
		if places := at[nixinstall.ImpurityKind(i)]; len(places) > 0 {
			found = append(found, Finding{Kinds: []Kind{is.kind}, Text: is.before + strings.Join(places, ", ") + is.after})
		}
	}
	return found
}

// changesByItself evaluates again, when the clock shows another second.
func (d diagnosis) changesByItself(ctx context.Context) bool {
	if retry.Sleep(ctx, 1100*time.Millisecond) != nil {
		return false
	}
	options := nixinstall.SourceOptions{Name: d.nearest.name, Rule: d.nearest.rule, Exclude: d.Exclude}
	again, err := d.evaluateAs(ctx, d.Source, options, d.nearest.source, nil, silent)
	return err == nil && !slices.Equal(outputPaths(again), outputPaths(d.nearest.result))
}
