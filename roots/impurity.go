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
func (d *diagnosis) impurity(ctx context.Context) []Cause {
	if d.Flake != "" {
		return d.flakeImpurity()
	}
	places, err := nixinstall.Impurities(ctx, d.Source)
	if err != nil {
		return nil
	}
	var clock, environment, searched, unpinned []string
	for _, place := range places {
		switch what := place.What; {
		case strings.Contains(what, "currentTime"):
			clock = append(clock, place.String())
		case strings.Contains(what, "getEnv"):
			environment = append(environment, place.String())
		case strings.HasPrefix(what, "<"):
			searched = append(searched, place.String())
		default:
			unpinned = append(unpinned, place.String())
		}
	}
	var causes []Cause
	if len(clock) > 0 {
		if d.changesByItself(ctx) {
			return []Cause{{Sure: true,
				Found: "evaluating it again a second later gives another path: it depends on the clock, at " +
					strings.Join(clock, ", "),
				Change: "take builtins.currentTime out: nobody can have built what is different every second"}}
		}
		causes = append(causes, Cause{Found: "the clock is read at " + strings.Join(clock, ", "),
			Change: "take builtins.currentTime out"})
	}
	if len(environment) > 0 {
		causes = append(causes, Cause{
			Found: "variables of the environment are read at " + strings.Join(environment, ", ") +
				"; they are empty here, and Hydra's may not be",
			Change: "make it an argument with a default, and give its value in BP_NIX_ARGS=name=value"})
	}
	if len(searched) > 0 {
		causes = append(causes, d.searchPath(searched))
	}
	if len(unpinned) > 0 {
		causes = append(causes, Cause{Found: "something is fetched whose content is not pinned, at " +
			strings.Join(unpinned, ", "),
			Change: "give it a revision and a sha256"})
	}
	if len(places) == 0 {
		d.ruleOut("impurity: no .nix file reads the clock, the environment, a search path or anything that is not pinned")
	}
	return causes
}

// searchPath speaks of <nixpkgs> and the like.
func (d *diagnosis) searchPath(places []string) Cause {
	from := "nothing, as BP_NIX_PATH is not set"
	if len(d.Settings.NixPath) > 0 {
		var entries []string
		for _, entry := range d.Settings.NixPath {
			entries = append(entries, Redact(entry))
		}
		from = strings.Join(entries, " ")
		for _, word := range []string{"channels.nixos.org", "nixos.org/channels", "nixos-unstable", "nixpkgs-unstable",
			"/master.", "/heads/"} {
			if strings.Contains(from, word) {
				from += ", a channel or branch, which moves"
				break
			}
		}
	}
	return Cause{
		Found: fmt.Sprintf("the search path is used at %s; here it is %s, and Hydra's is the jobset's inputs of these names",
			strings.Join(places, ", "), from),
		Change: "pin it in the expression, or set BP_NIX_PATH to the very revision of the jobset's input, for example\n" +
			"BP_NIX_PATH=nixpkgs=https://github.com/NixOS/nixpkgs/archive/<revision>.tar.gz",
	}
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

// flakeImpurity looks for what a flake sees of its own repository.
func (d *diagnosis) flakeImpurity() []Cause {
	uses := selfUses(d.Source)
	if d.commit() != "" && d.Identity.LastModified > 0 && (d.revCount > 0 || !asksForCount(d.Source)) {
		return nil
	}
	if len(uses) == 0 {
		return nil
	}
	return []Cause{{
		Found: fmt.Sprintf("the flake looks at its own commit, at %s, and this upload has no .git with its whole history",
			strings.Join(uses, ", ")),
		Change: "deploy with .git, or leave self.rev, self.lastModified and the like out of what is built"}}
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
