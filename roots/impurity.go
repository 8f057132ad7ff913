package roots

import (
	"context"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

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
	at := map[Impurity][]string{}
	for _, place := range places {
		kind := Unpinned
		switch {
		case strings.Contains(place.What, "currentTime"):
			kind = Clock
		case strings.Contains(place.What, "getEnv"):
			kind = Environment
		case strings.HasPrefix(place.What, "<"):
			kind = SearchPath
		}
		at[kind] = append(at[kind], place.String())
	}
	var found []Finding
	for _, kind := range []Impurity{Clock, Environment, SearchPath, Unpinned} {
		if len(at[kind]) == 0 {
			continue
		}
		found = append(found, Impure{Impurity: kind, Places: at[kind], NixPath: d.Settings.NixPath,
			Changed: kind == Clock && d.changesByItself(ctx)})
	}
	if len(places) == 0 {
		d.ruleOut("impurity: no .nix file reads the clock, the environment, a search path or anything that is not pinned")
	}
	return found
}

// changesByItself evaluates again, when the clock shows another second.
func (d *diagnosis) changesByItself(ctx context.Context) bool {
	for _, a := range d.tried {
		if a.source != d.nearest.source {
			continue
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(1100 * time.Millisecond):
		}
		if _, err := d.nix.AddSource(ctx, d.Source, nixinstall.SourceOptions{Name: a.name, Rule: a.rule}); err != nil {
			return false
		}
		again, err := d.nix.Evaluate(ctx, d.request(a.source))
		if err != nil {
			return false
		}
		before := outputPaths(a.result)
		for i, p := range outputPaths(again) {
			if i < len(before) && before[i] != p {
				return true
			}
		}
	}
	return false
}
