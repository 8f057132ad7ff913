package roots

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// graph is what derivations are made from, and how much of it is the source.
type graph struct {
	read   func(storepath.Path) (*nixinstall.Drv, error)
	source storepath.Path
	// copied reports whether a store path is a file or folder of the source that an expression copied by itself.
	copied func(storepath.Path) bool
	named  map[storepath.Path]bool
	uses   map[storepath.Path]bool
}

func newGraph(ctx context.Context, read func(storepath.Path) (*nixinstall.Drv, error), dir string,
	source storepath.Path) *graph {
	return &graph{
		read: read, source: source, copied: copies(ctx, dir),
		named: map[storepath.Path]bool{}, uses: map[storepath.Path]bool{},
	}
}

// copiesSource reports whether one of the derivations is made from the whole source, whose name in the store it has.
func (g *graph) copiesSource(drvs []storepath.Path) bool {
	return slices.ContainsFunc(drvs, func(p storepath.Path) bool {
		return g.any(g.named, p, func(d *nixinstall.Drv) bool { return strings.Contains(d.String(), g.source.Base()) })
	})
}

// isOwn reports whether a derivation is made from the source or a part of it, under whatever name.
func (g *graph) isOwn(p storepath.Path) bool {
	return g.any(g.uses, p, func(d *nixinstall.Drv) bool {
		return strings.Contains(d.String(), g.source.Base()) || slices.ContainsFunc(d.InputSrcs, g.copied)
	})
}

// any reports whether a derivation or one that it is made from is such a one; known remembers the answers.
func (g *graph) any(known map[storepath.Path]bool, p storepath.Path, such func(*nixinstall.Drv) bool) bool {
	if answer, ok := known[p]; ok {
		return answer
	}
	known[p] = false
	drv, err := g.read(p)
	if err != nil {
		return false
	}
	answer := such(drv)
	for input := range drv.InputDrvs {
		answer = g.any(known, input, such) || answer
	}
	known[p] = answer
	return answer
}

// maxCopies bounds how many files of a source are compared with store paths.
const maxCopies = 100_000

// copies makes a function that recognises copies of a source's files and folders.
func copies(ctx context.Context, dir string) func(storepath.Path) bool {
	byName := sync.OnceValue(func() map[string][]string {
		names, count := map[string][]string{}, 0
		_ = filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
			if count++; err != nil || count > maxCopies || entry.Name() == ".git" {
				return filepath.SkipDir
			}
			names[entry.Name()] = append(names[entry.Name()], file)
			return nil
		})
		return names
	})
	known := map[storepath.Path]bool{}
	return func(p storepath.Path) bool {
		if answer, ok := known[p]; ok {
			return answer
		}
		known[p] = slices.ContainsFunc(byName()[p.Name()], func(file string) bool {
			same, err := nixinstall.SourcePath(ctx, file, nixinstall.SourceOptions{Name: p.Name(), Rule: nixinstall.GitKept})
			return err == nil && same == p
		})
		return known[p]
	}
}

// dependencies looks whether it is not the project but what it is built from that the caches lack: then nixpkgs, or
// another pinned input, is not the one that Hydra has built.
func (d *diagnosis) dependencies(ctx context.Context) []Cause {
	missing := d.missingDrvs()
	own := map[storepath.Path]bool{}
	for _, p := range missing {
		own[p] = true
	}
	var lacking []string
	for _, p := range d.err.Build {
		drv, err := d.nix.ReadDrv(p)
		if err != nil || own[p] || d.graph.isOwn(p) || fetched(drv) {
			continue
		}
		lacking = append(lacking, strings.TrimSuffix(p.Name(), ".drv"))
	}
	// Those that everybody knows come first.
	slices.SortStableFunc(lacking, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	direct, there := d.directInputs(ctx, missing)
	pins := findPins(ctx, d.Source, d.Settings.NixPath)
	if len(lacking) == 0 {
		if direct > 0 {
			d.ruleOut("nixpkgs: the caches have everything that %s is built from", listOf(baseNames(d.err.Missing)))
		}
		return nil
	}
	found := fmt.Sprintf("the caches lack %s that it is built from, too: %s", Plural(len(lacking), "thing"),
		listOf(lacking))
	change := "have Hydra build them, for example as jobs of their own, or name a cache that has them in " +
		"NIX_EXTRA_BINARY_CACHE"
	if there*2 <= direct && (len(pins) > 0 || slices.ContainsFunc(lacking, isBasic)) {
		found = fmt.Sprintf("nixpkgs is not the one that Hydra built with: of %s that it is built from directly the caches "+
			"have %d; they lack %s", Plural(direct, "package"), there, listOf(lacking))
		change = "let Hydra build with this nixpkgs, or pin the one that it built with;\nor, if these caches hold only what " +
			"runs and nothing that is needed to build, look at the other reasons"
	}
	if len(pins) > 0 {
		found += "\nnixpkgs here: " + strings.Join(pins, "; ")
	}
	return []Cause{{Found: found, Change: change}}
}

// basic are packages that nearly everything in nixpkgs is built with.
var basic = regexp.MustCompile(`^(?:stdenv|bash|glibc|coreutils|bootstrap)\b`)

func isBasic(name string) bool { return basic.MatchString(name) }

func rank(name string) int {
	if isBasic(name) {
		return 0
	}
	return 1
}

// directInputs counts the derivations that the missing ones are built from directly, and those of which the caches
// have what is used.
func (d *diagnosis) directInputs(ctx context.Context, drvs []storepath.Path) (all, there int) {
	wanted := map[storepath.Path][]storepath.Path{}
	var paths []storepath.Path
	for _, p := range drvs {
		drv, err := d.nix.ReadDrv(p)
		if err != nil {
			continue
		}
		for input, outputs := range drv.InputDrvs {
			made, err := d.nix.ReadDrv(input)
			if err != nil || wanted[input] != nil || d.graph.isOwn(input) || fetched(made) {
				continue
			}
			for _, output := range outputs {
				wanted[input] = append(wanted[input], made.Outputs[output].Path)
			}
			paths = append(paths, wanted[input]...)
		}
	}
	absent, err := lookUp(ctx, d.caches, paths)
	if err != nil {
		return 0, 0
	}
	for _, outputs := range wanted {
		if !slices.ContainsFunc(outputs, func(p storepath.Path) bool { return absent[p] != nil }) {
			there++
		}
	}
	return len(wanted), there
}

// fetched reports whether a derivation only fetches something whose hash is known.
func fetched(d *nixinstall.Drv) bool { return len(d.Outputs) == 1 && d.Outputs["out"].Hash != "" }
