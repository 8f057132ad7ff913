package rig

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// sample gives the packages that are wanted, others until there are as many as the choice says, and what all of them
// need. Which others follows from a hash of their names, so a suite of another day gives much the same ones; those that
// take more room than the choice allows, with what else would have to be taken for them, are passed over.
func (r *Rig) sample(ctx context.Context, c *choice, want []string, suite string) ([]Deb, error) {
	a, err := r.available(ctx, suite)
	if err != nil {
		return nil, err
	}
	drop, err := regexp.Compile(c.Drop)
	if err != nil {
		return nil, err
	}
	needs := dependencies(a.debs, a.providers)
	taken := map[string]bool{}
	// reach gives what has to be taken for a package, and its size.
	reach := func(name string) (names []string, size int64) {
		seen := map[string]bool{name: true}
		for todo := []string{name}; len(todo) > 0; {
			next := todo[0]
			todo = todo[1:]
			names, size = append(names, next), size+a.debs[next].Installed
			for _, other := range needs[next] {
				if !seen[other] && !taken[other] && !drop.MatchString(other) {
					seen[other], todo = true, append(todo, other)
				}
			}
		}
		return names, size
	}
	take := func(names []string) {
		for _, name := range names {
			taken[name] = true
		}
	}
	for _, name := range want {
		names, _ := reach(name)
		take(names)
	}
	var others []string
	for name := range a.debs {
		if !drop.MatchString(name) {
			others = append(others, name)
		}
	}
	order := func(name string) string { sum := sha256.Sum256([]byte(name)); return string(sum[:]) }
	slices.SortFunc(others, func(x, y string) int { return cmp.Compare(order(x), order(y)) })
	for _, name := range others {
		if len(taken) >= c.Sample {
			break
		}
		if names, size := reach(name); !taken[name] && size <= c.Largest {
			take(names)
		}
	}
	var debs []Deb
	for name := range taken {
		if d, ok := a.debs[name]; ok {
			debs = append(debs, d)
		}
	}
	slices.SortFunc(debs, func(x, y Deb) int { return cmp.Compare(x.Name, y.Name) })
	return debs, nil
}

// Survey gives a directory with a signed binary cache of more than two thousand of Debian's packages as store paths, and
// the paths that are in it. Real Nix builds them, some hundred at a time, which takes most of an hour the first time; a
// package that cannot be made into a store path is left out, and said. done is told after each of these steps, and may
// end the work, which a later call goes on with.
func (r *Rig) Survey(ctx context.Context, key *Key, done func(made, all int) error) (dir string, paths []string, err error) {
	n, err := r.standIn(ctx, surveyStandIn, Suite)
	if err != nil {
		return "", nil, fmt.Errorf("making the survey's packages: %w", err)
	}
	const step = 100
	expression := fmt.Sprintf("builtins.attrValues (import %s/debian.nix { lib = import %s/lib.nix; "+
		"universe = builtins.fromJSON (builtins.readFile %s/universe.json); }).packages", n.Source, n.Source, n.Source)
	drvs, err := n.Store.Lines(ctx, "nix-instantiate", "--quiet", "--expr", expression)
	if err != nil {
		return "", nil, fmt.Errorf("making the survey's packages: %w", err)
	}
	dir = filepath.Join(r.dir, "survey-cache", filepath.Base(n.dir))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	if _, err := n.supply(ctx, drvs); err != nil {
		return "", nil, fmt.Errorf("making the survey's packages: %w", err)
	}
	if err := done(0, len(drvs)); err != nil {
		return "", nil, err
	}
	for begin := 0; begin < len(drvs); begin += step {
		made, err := n.whatCanBeBuilt(ctx, drvs[begin:min(begin+step, len(drvs))])
		if err == nil && len(made) > 0 {
			err = n.Store.Cache(ctx, dir, CacheOptions{Key: key, Level: 1}, made...)
		}
		if err != nil {
			return "", nil, fmt.Errorf("making the survey's packages: %w", err)
		}
		paths = append(paths, made...)
		if err := done(len(paths), len(drvs)); err != nil {
			return "", nil, err
		}
	}
	slices.Sort(paths)
	return dir, slices.Compact(paths), nil
}

// whatCanBeBuilt builds derivations and gives the outputs of those that can be built.
func (n *Nixpkgs) whatCanBeBuilt(ctx context.Context, drvs []string) ([]string, error) {
	_, err := n.Store.Run(ctx, "nix-store", append([]string{"--realise", "--keep-going"}, drvs...)...)
	var failed *CommandError
	if err != nil && !errors.As(err, &failed) {
		return nil, err
	}
	outs, err := n.Store.Lines(ctx, "nix-store", append([]string{"--query", "--outputs"}, drvs...)...)
	if err != nil {
		return nil, err
	}
	invalid, err := n.Store.Run(ctx, "nix-store", append([]string{"--check-validity", "--print-invalid"}, outs...)...)
	if err != nil {
		return nil, err
	}
	for _, path := range strings.Fields(invalid) {
		n.rig.log("left out, as it cannot be built: %s", path)
	}
	return slices.DeleteFunc(outs, func(out string) bool { return strings.Contains(invalid, out) }), nil
}
