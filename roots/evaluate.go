package roots

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// sourceName is one way in which Hydra may have put the source into the store.
type sourceName struct {
	name string
	rule nixinstall.GitRule
}

// sourceNames are the names to try, the likeliest first, in batches that are tried one after the other: the first name
// alone, then what costs no second evaluation, then the oldest rule. They are those of the nix-prefetch-git that comes
// with Hydra and goes before any other on its PATH (NixOS/hydra: subprojects/hydra/script/nix-prefetch-git, and its
// history): "source" since December 2017, whatever the address, branch or commit; "git-export" before; everything that
// begins with ".git" left out until April 2017, and from then on what is named exactly so. A flake's source is always
// "source".
func (f Finder) sourceNames() [][]sourceName {
	const oldName = "git-export"
	first := sourceName{name: nixinstall.DefaultSourceName}
	switch configured := f.Settings.SourceName; {
	case f.Flake != "":
		return [][]sourceName{{first}}
	case configured != "" && configured != first.name:
		return [][]sourceName{
			{{name: configured}}, {first, {name: oldName}}, {{name: configured, rule: nixinstall.GitPrefixed}},
		}
	}
	return [][]sourceName{{first}, {{name: oldName}}, {{name: oldName, rule: nixinstall.GitPrefixed}}}
}

// attempt is one evaluation: the source under one name, and what came of it.
type attempt struct {
	sourceName
	source storepath.Path
	result nixinstall.Result
	// lacks says which outputs no cache has for us; nil where they have all.
	lacks *NotCachedError
}

// files are what is evaluated: the source as it was sent, or what it may have been where Hydra had it.
type files struct {
	dir     string
	exclude []string
}

// evaluation has what it takes to try a source under several names.
type evaluation struct {
	Finder
	nix    nixinstall.Toolchain
	caches *cache.Set
	// revCount is the number of commits, 0 where nothing asks for it or it is not known.
	revCount int64
}

// evaluate has Nix evaluate the source under the likeliest name, and takes the first name under which the caches have
// every output. What the other names would give is computed from the derivations where that is possible, and
// evaluated anew where it is not. Nothing is built: when no name helps, the error says what would have to be.
func (f Finder) evaluate(ctx context.Context) (Result, error) {
	e := evaluation{Finder: f}
	var err error
	if e.nix, err = f.Toolchain(); err != nil {
		return Result{}, err
	}
	if e.caches, err = f.Caches(); err != nil {
		return Result{}, err
	}
	if f.Flake != "" && nixinstall.UsesRevCount(ctx, f.Source, f.Exclude) {
		if e.revCount, err = nixinstall.RevCount(ctx, f.Source, f.Identity.Rev); err != nil {
			if ctx.Err() != nil {
				return Result{}, err
			}
			f.Log("self.revCount is not known, as the history in .git cannot be read: %s", err)
		}
	}
	found, tried, err := e.search(ctx, files{dir: f.Source, exclude: f.Exclude}, f.Log)
	var unread *nixinstall.WouldBuildError
	if errors.As(err, &unread) {
		return Result{}, e.notImported(ctx, unread)
	}
	if err != nil {
		return Result{}, err
	}
	if found == nil {
		return Result{}, e.whyNot(ctx, tried)
	}
	f.Log("Evaluated %s in a source named %q; the caches have what it gives", f.entryName(), found.source.Name())
	roots := rootsOf(*found)
	roots.SourceNames = namesUpTo(tried, found.sourceName)
	return roots, nil
}

// namesUpTo are the names of the attempts up to one of them.
func namesUpTo(tried []attempt, last sourceName) []string {
	var names []string
	for _, a := range tried {
		names = append(names, a.name)
		if a.sourceName == last {
			break
		}
	}
	return names
}

// search tries the source's names batch by batch and stops at the first whose outputs the caches have.
func (e evaluation) search(ctx context.Context, files files, log func(string, ...any)) (*attempt, []attempt, error) {
	var tried []attempt
	for i, names := range e.sourceNames() {
		before := len(tried)
		for _, name := range names {
			a, err := e.attempt(ctx, files, name, tried, log)
			if err != nil && len(tried) > 0 && ctx.Err() == nil {
				continue // an expression may read .gitignore, which the rule of 2016 leaves out
			}
			if err != nil {
				return nil, nil, err
			}
			if a != nil {
				tried = append(tried, *a)
			}
		}
		found, err := e.firstComplete(ctx, tried[before:])
		if err != nil || found != nil {
			return found, tried, err
		}
		if i == 0 && e.Flake == "" {
			log("No cache has what %s gives in a source named %q; trying the other names that Hydra may have given it",
				e.entryName(), names[0].name)
		}
	}
	return nil, tried, nil
}

// attempt finds what the source gives under one name; nil says that the name makes no difference to those already
// tried.
func (e evaluation) attempt(ctx context.Context, files files, name sourceName, tried []attempt,
	log func(string, ...any)) (*attempt, error) {
	options := nixinstall.SourceOptions{Name: name.name, Rule: name.rule, Exclude: files.exclude}
	source, err := nixinstall.SourcePath(ctx, files.dir, options)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(tried, func(a attempt) bool { return a.source == source }) {
		return nil, nil
	}
	a := &attempt{sourceName: name, source: source}
	if a.result, err = e.evaluateAs(ctx, files.dir, options, source, tried, log); err != nil {
		return nil, err
	}
	outputs := outputPaths(a.result)
	if len(outputs) == 0 {
		return nil, &NoDerivationError{Entry: e.entryName()}
	}
	if slices.ContainsFunc(tried, func(t attempt) bool { return slices.Equal(outputPaths(t.result), outputs) }) {
		return nil, nil
	}
	return a, nil
}

// evaluateAs computes the outputs from an evaluation of the same files under another name, or evaluates.
func (e evaluation) evaluateAs(ctx context.Context, dir string, options nixinstall.SourceOptions, source storepath.Path,
	tried []attempt, log func(string, ...any)) (nixinstall.Result, error) {
	for _, t := range tried {
		if t.rule == options.Rule {
			if result, err := e.nix.RenameSource(ctx, t.result, t.source, source); err == nil {
				return result, nil
			}
		}
	}
	if _, err := e.nix.AddSource(ctx, dir, options); err != nil {
		return nixinstall.Result{}, err
	}
	result, err := e.nix.Evaluate(ctx, e.request(source))
	e.Keep(result.Used)
	for _, note := range result.Notes {
		log("%s", note)
	}
	return result, err
}

// request is the one question that is put to Nix: the attributes, and the hook where there is one.
func (e evaluation) request(source storepath.Path) nixinstall.Request {
	f := e.Finder
	request := nixinstall.Request{
		Source: source, File: f.File, Flake: f.Flake, Attrs: f.Settings.Attrs, Optional: []string{HookName},
		Args: f.Settings.Args, ArgExprs: f.Settings.ArgExprs,
	}
	if request.Rev = f.commit(); len(request.Rev) < 40 {
		request.Rev = "" // an abbreviation is no revision to a flake
	}
	if request.Rev == f.Identity.Rev {
		request.LastModified, request.RevCount = f.Identity.LastModified, e.revCount
	}
	return request
}

// firstComplete looks the outputs of several attempts up, all at once, and gives the first attempt that lacks none. What is
// found is remembered by the caches for the closure.
func (e evaluation) firstComplete(ctx context.Context, attempts []attempt) (*attempt, error) {
	var wanted []storepath.Path
	for _, a := range attempts {
		wanted = append(wanted, outputPaths(a.result)...)
	}
	slices.Sort(wanted)
	absent, err := lookUp(ctx, e.caches.Lookup, slices.Compact(wanted))
	if err != nil {
		return nil, err
	}
	var first *attempt
	for i := range attempts {
		a := &attempts[i]
		if a.lacks = lacking(e.entryName(), outputPaths(a.result), absent); first == nil && a.lacks == nil {
			first = a
		}
	}
	return first, nil
}

// lookUp says of which paths no cache has a trusted narinfo, and why; lookup asks the caches for one.
func lookUp(ctx context.Context, lookup func(context.Context, storepath.Path) (*cache.Found, error), paths []storepath.Path) (
	map[storepath.Path]*cache.NotFoundError, error) {
	var mu sync.Mutex
	absent := map[storepath.Path]*cache.NotFoundError{}
	group := errgroup.Group{}
	group.SetLimit(cache.LookupsAtOnce)
	for _, p := range paths {
		group.Go(func() error {
			_, err := lookup(ctx, p)
			var why *cache.NotFoundError
			if !errors.As(err, &why) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			absent[p] = why
			return nil
		})
	}
	return absent, group.Wait()
}

// NoDerivationError is an evaluation that gives nothing to put into an image.
type NoDerivationError struct{ Entry string }

func (e *NoDerivationError) Error() string {
	return fmt.Sprintf("evaluating %s: it gives no derivation", e.Entry)
}

// entryName is what is evaluated, in the user's words.
func (f Finder) entryName() string {
	if f.Flake != "" {
		return "the flake " + f.Flake
	}
	return f.File
}

func outputPaths(r nixinstall.Result) []storepath.Path {
	var paths []storepath.Path
	for _, o := range r.Outputs {
		if !slices.Contains(paths, o.Path) {
			paths = append(paths, o.Path)
		}
	}
	return paths
}

// rootsOf separates the hook from the app.
func rootsOf(a attempt) Result {
	roots := Result{}
	for _, o := range a.result.Outputs {
		if isHook(o.Attr) {
			roots.Hook = o.Path
			continue
		}
		if slices.Contains(roots.Paths, o.Path) {
			continue
		}
		if len(roots.Paths) == 0 {
			roots.MainProgram = o.MainProgram
		}
		roots.Paths = append(roots.Paths, o.Path)
		if ids := licenseIDs(o.Licenses); len(ids) > 0 {
			if roots.Licenses == nil {
				roots.Licenses = map[storepath.Path][]string{}
			}
			roots.Licenses[o.Path] = ids
		}
	}
	return roots
}

// isHook reports whether an attribute path is the hook's: at the top, or where a flake has its packages.
func isHook(attr string) bool { return attr == HookName || strings.HasSuffix(attr, "."+HookName) }
