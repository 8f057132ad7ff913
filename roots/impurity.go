package roots

import (
	"context"
	"slices"
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
	if _, err := d.nix.AddSource(ctx, d.Source, options); err != nil {
		return false
	}
	again, err := d.nix.Evaluate(ctx, d.request(d.nearest.source))
	return err == nil && !slices.Equal(outputPaths(again), outputPaths(d.nearest.result))
}
