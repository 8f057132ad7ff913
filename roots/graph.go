package roots

import (
	"context"
	"io/fs"
	"path/filepath"
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
	parts  map[storepath.Path]bool
}

func newGraph(ctx context.Context, read func(storepath.Path) (*nixinstall.Drv, error), dir string,
	source storepath.Path) *graph {
	return &graph{
		read: read, source: source, copied: copies(ctx, dir),
		parts: map[storepath.Path]bool{},
	}
}

// hasPart reports whether one of the derivations is made from the source or a part of it, under whatever name.
func (g *graph) hasPart(drvs []storepath.Path) bool {
	return slices.ContainsFunc(drvs, func(p storepath.Path) bool {
		return g.any(g.parts, p, func(d *nixinstall.Drv) bool {
			return g.namesSource(d) || slices.ContainsFunc(d.InputSrcs, g.copied)
		})
	})
}

func (g *graph) namesSource(d *nixinstall.Drv) bool {
	return strings.Contains(d.String(), g.source.Base())
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

// isFetched reports whether a derivation only fetches something whose hash is known.
func isFetched(d *nixinstall.Drv) bool { return len(d.Outputs) == 1 && d.Outputs["out"].Hash != "" }
