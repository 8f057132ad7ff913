package nixproot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// sourceName is one way in which Hydra may have put the source into the store.
type sourceName struct {
	name string
	rule nixinstall.GitRule
}

// sourceNames are the names to try, the likeliest first. A flake's source is always "source".
func (f rootFinder) sourceNames() []sourceName {
	if f.entry.Flake != "" {
		return []sourceName{{name: "source"}}
	}
	if f.config.SourceName != "" {
		return []sourceName{{name: f.config.SourceName}}
	}
	var names []sourceName
	for _, name := range nixinstall.SourceNames(f.gitURL(), f.revision(), "") {
		names = append(names, sourceName{name: name})
	}
	return append(names, sourceName{name: "git-export", rule: nixinstall.GitPrefixed})
}

// attempt is one evaluation: the source under one name, and what came of it.
type attempt struct {
	sourceName
	source storepath.Path
	result nixinstall.Result
	// missing are the outputs that no cache has.
	missing []storepath.Path
}

// evaluate has Nix evaluate the source under the likeliest name, and takes the first name under which the caches have
// every output. What the other names would give is computed from the derivations where that is possible, and
// evaluated anew where it is not. Nothing is built: when no name helps, the error says what would have to be.
func (f rootFinder) evaluate(ctx context.Context) (Roots, error) {
	toolchain, err := f.toolchain()
	if err != nil {
		return Roots{}, err
	}
	caches, err := f.caches()
	if err != nil {
		return Roots{}, err
	}
	var tried []attempt
	for _, name := range f.sourceNames() {
		a, err := f.attempt(ctx, toolchain, name, tried)
		if err != nil {
			return Roots{}, err
		}
		if a == nil {
			continue
		}
		if a.missing, err = lacking(ctx, caches, outputPaths(a.result)); err != nil {
			return Roots{}, err
		}
		if len(a.missing) == 0 {
			f.log("Evaluated %s in a source named %q; the caches have what it gives", f.entryName(), a.source.Name())
			f.keep(a.result.Used)
			return rootsOf(*a), nil
		}
		tried = append(tried, *a)
		if len(tried) == 1 {
			f.log("No cache has what %s gives in a source named %q; trying the other names that Hydra may have given it",
				f.entryName(), a.name)
		}
	}
	return Roots{}, f.whyNot(ctx, toolchain, caches, tried)
}

// attempt finds what the source gives under one name; nil says that the name makes no difference to those already
// tried.
func (f rootFinder) attempt(ctx context.Context, toolchain nixinstall.Toolchain, name sourceName, tried []attempt) (*attempt, error) {
	options := nixinstall.SourceOptions{Name: name.name, Rule: name.rule}
	source, err := nixinstall.SourcePath(ctx, f.source, options)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(tried, func(a attempt) bool { return a.source == source }) {
		return nil, nil
	}
	a := &attempt{sourceName: name, source: source}
	if a.result, err = f.ask(ctx, toolchain, options, source, tried); err != nil {
		return nil, err
	}
	outputs := outputPaths(a.result)
	if len(outputs) == 0 {
		return nil, fmt.Errorf("evaluating %s: it gives no derivation to put into the image; name one with BP_NIX_ATTRS",
			f.entryName())
	}
	if slices.ContainsFunc(tried, func(t attempt) bool { return slices.Equal(outputPaths(t.result), outputs) }) {
		return nil, nil
	}
	return a, nil
}

// ask computes the outputs from an evaluation of the same files under another name, or evaluates.
func (f rootFinder) ask(ctx context.Context, toolchain nixinstall.Toolchain, options nixinstall.SourceOptions,
	source storepath.Path, tried []attempt) (nixinstall.Result, error) {
	for _, t := range tried {
		if t.rule == options.Rule {
			if result, err := toolchain.RenameSource(ctx, t.result, t.source, source); err == nil {
				return result, nil
			}
		}
	}
	if _, err := toolchain.AddSource(ctx, f.source, options); err != nil {
		return nixinstall.Result{}, err
	}
	result, err := toolchain.Evaluate(ctx, nixinstall.Request{
		Source: source, File: f.entry.File, Flake: f.entry.Flake,
		Attrs: f.config.Attrs, Args: f.config.Args, Rev: f.identity.Rev,
	})
	for _, note := range result.Notes {
		f.log("%s", note)
	}
	return result, err
}

// lacking are the paths that no cache has.
func lacking(ctx context.Context, caches *cache.Set, paths []storepath.Path) ([]storepath.Path, error) {
	has, err := caches.Has(ctx, paths)
	if err != nil {
		return nil, err
	}
	var missing []storepath.Path
	for _, p := range paths {
		if !has[p] {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

// entryName is what is evaluated, in the user's words.
func (f rootFinder) entryName() string {
	if f.entry.Flake != "" {
		return "the flake " + f.entry.Flake
	}
	return f.entry.File
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
func rootsOf(a attempt) Roots {
	roots := Roots{From: fmt.Sprintf("evaluation of the source as %s", a.source.Base())}
	for _, o := range a.result.Outputs {
		if o.Attr == hookName {
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
	}
	return roots
}

// NotCachedError says that the caches lack outputs which evaluation found, and what was looked at to find out why.
type NotCachedError struct {
	// Missing are the outputs that no cache has, under the first name tried.
	Missing []storepath.Path
	// Names are the source names that were tried.
	Names []string
	// Build and Fetch are what Nix would compile and what the caches have, were it allowed to.
	Build, Fetch []storepath.Path
	// Asked are the caches and what each said of the first missing output.
	Asked []cache.Answer
	// Causes are the nearest reasons found, most likely first, each with what to change.
	Causes []string
}

func (e *NotCachedError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "no binary cache has %s, and nothing is compiled here\n", strings.Join(rootNames(e.Missing), ", "))
	if len(e.Build) > 0 {
		fmt.Fprintf(&s, "\nThese %d would have to be built:\n", len(e.Build))
		for i, p := range e.Build {
			if i == 20 {
				fmt.Fprintf(&s, "  … and %d more\n", len(e.Build)-i)
				break
			}
			fmt.Fprintf(&s, "  %s\n", strings.TrimSuffix(p.Name(), ".drv"))
		}
	}
	s.WriteString("\nThe caches asked:\n")
	for _, a := range e.Asked {
		fmt.Fprintf(&s, "  %s: %s\n", a.URL, a.Why)
	}
	fmt.Fprintf(&s, "\nThe source was tried under the names %s.\n", strings.Join(e.Names, ", "))
	s.WriteString("\nWhat may be the reason:\n")
	for i, cause := range e.Causes {
		fmt.Fprintf(&s, "  %d. %s\n", i+1, cause)
	}
	return strings.TrimRight(s.String(), "\n")
}

// whyNot makes the error for outputs that no cache has under any name.
func (f rootFinder) whyNot(ctx context.Context, toolchain nixinstall.Toolchain, caches *cache.Set, tried []attempt) error {
	first := tried[0]
	e := &NotCachedError{Missing: first.missing}
	for _, a := range tried {
		e.Names = append(e.Names, a.name)
	}
	var drvs []storepath.Path
	for _, d := range first.result.Derivations {
		drvs = append(drvs, d.Drv)
	}
	if plan, err := toolchain.WouldBuild(ctx, drvs); err == nil {
		e.Build, e.Fetch = plan.Build, plan.Fetch
	}
	var absent *cache.NotFoundError
	if _, err := caches.Lookup(ctx, first.missing[0]); errors.As(err, &absent) {
		e.Asked = absent.Asked
	}
	e.Causes = f.causes(first, e)
	return e
}

// causes looks for the nearest reasons.
func (f rootFinder) causes(first attempt, e *NotCachedError) []string {
	var causes []string
	for _, a := range e.Asked {
		if a.Reason == cache.Untrusted {
			causes = append(causes, fmt.Sprintf("%s has it, signed by a key that is not trusted: %s", a.URL, a.Why))
		}
		if a.Reason == cache.Down || a.Reason == cache.Login {
			causes = append(causes, fmt.Sprintf("%s could not be asked: %s", a.URL, a.Why))
		}
	}
	if f.gitURL() == "" && f.config.SourceName == "" {
		causes = append(causes, "Hydra names a source after its repository's URL and revision, and this one has no .git that "+
			"tells them: set BP_NIX_GIT_URL as the Hydra input has it, and BP_NIX_GIT_REV")
	}
	for _, d := range first.result.Derivations {
		if d.System != f.config.System && d.System != "" {
			causes = append(causes, fmt.Sprintf("%s is for %s, this image for %s", d.Name, d.System, f.config.System))
		}
	}
	return append(causes,
		"Hydra may not have finished building this revision: set BP_NIX_HYDRA_URL and BP_NIX_HYDRA_JOB to ask it, and "+
			"BP_NIX_HYDRA_WAIT to wait for it",
		"the upload may differ from what is in git (an untracked file, or one that .gitignore or .dockerignore leaves out), "+
			"which changes every hash made from ./.")
}

// plural counts things in words: "1 path", "2 paths".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
