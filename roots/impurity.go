package roots

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

var selfUse = regexp.MustCompile(`\bself\.(?:rev|shortRev|dirtyRev|lastModified|lastModifiedDate|revCount)\b`)

// maxUses bounds the places that are listed.
const maxUses = 20

// asksForCount reports whether an expression wants to know how many commits there are, which takes long to count.
func asksForCount(dir string) bool {
	return slices.ContainsFunc(selfUses(dir), func(use string) bool { return strings.HasSuffix(use, "revCount") })
}

// selfUses are the places where a source's expressions look at their own commit, a few at most.
func selfUses(dir string) []string {
	var uses []string
	_ = filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || len(uses) >= maxUses || entry.Name() == ".git" {
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() || !strings.HasSuffix(entry.Name(), ".nix") {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return nil
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, found := range selfUse.FindAllString(line, -1) {
				uses = append(uses, fmt.Sprintf("%s:%d: %s", filepath.ToSlash(rel), i+1, found))
			}
		}
		return nil
	})
	return uses
}
