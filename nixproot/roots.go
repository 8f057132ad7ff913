package nixproot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/hydra"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// hookName is the attribute, or the executable in an output's bin, that runs once at build time.
const hookName = "heroku-compile-hook"

// Roots are the store paths an image is made of, before their closures are known.
type Roots struct {
	// Paths are the outputs, the app's own first.
	Paths []storepath.Path `json:"paths"`
	// MainProgram is meta.mainProgram of the first one, "" where nobody says.
	MainProgram string `json:"mainProgram,omitempty"`
	// Hook is the output of the attribute heroku-compile-hook, "" where there is none.
	Hook storepath.Path `json:"hook,omitempty"`
}

// All are the outputs and the hook's.
func (r Roots) All() []storepath.Path {
	all := slices.Clone(r.Paths)
	if r.Hook != "" && !slices.Contains(all, r.Hook) {
		all = append(all, r.Hook)
	}
	return all
}

// rootFinder finds the roots of one source. What costs time is opened only when it is asked for.
type rootFinder struct {
	config    Config
	entry     Entry
	source    string
	identity  nixinstall.Identity
	toolchain func() (nixinstall.Toolchain, error)
	caches    func() (*cache.Set, error)
	logins    []CacheBinding
	// conditions are what an answer depends on besides source and settings: the caches that have to have it, and this
	// program.
	conditions []string
	// keep is told which store paths the next evaluation will want again.
	keep func([]storepath.Path)
	log  func(format string, args ...any)
}

// find asks whoever the settings name: nobody, Hydra, or Nix.
func (f rootFinder) find(ctx context.Context) (Roots, error) {
	switch {
	case len(f.config.StorePaths) > 0:
		return Roots{Paths: f.config.StorePaths}, nil
	case f.config.HydraJob != "":
		return f.askHydra(ctx)
	}
	return f.evaluate(ctx)
}

// key identifies everything that find's answer depends on; "" says that the answer may change by itself.
func (f rootFinder) key(ctx context.Context, toolchain string) (string, error) {
	if f.config.HydraJob != "" && !isRevision(f.revision()) {
		return "", nil
	}
	if f.entry.File != "" { // a flake is locked
		mutable, err := f.mutable(ctx)
		if err != nil {
			return "", err
		}
		if mutable != "" {
			f.log("Every build evaluates this source anew, as it reads what may change by itself: %s", mutable)
			return "", nil
		}
	}
	tree, err := nixinstall.SourcePath(ctx, f.source, nixinstall.SourceOptions{Name: "source"})
	if err != nil {
		return "", err
	}
	inputs, err := json.Marshal([]any{
		tree, f.entry.File, f.entry.Flake, f.config.Attrs, f.config.Args, f.config.NixPath, f.config.StorePaths,
		f.config.HydraURL, f.config.HydraJob, f.revision(), f.commit(), f.gitURL(), f.config.SourceName, f.config.System,
		toolchain, f.conditions,
	})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(inputs)
	return hex.EncodeToString(sum[:]), nil
}

// mutable is what an evaluation reads that may be another in the next build, "" where it reads nothing of the kind.
func (f rootFinder) mutable(ctx context.Context) (string, error) {
	for _, entry := range f.config.NixPath {
		if !pinnedEntry(entry) {
			return "BP_NIX_PATH has " + redact(entry), nil
		}
	}
	place, found, err := nixinstall.FirstMutable(ctx, f.source)
	if err != nil || !found {
		return "", err
	}
	return place.String(), nil
}

// pinnedAddress finds what says of an address which content it has: a whole commit, or a hash.
var pinnedAddress = regexp.MustCompile(`\b(?:[0-9a-f]{40}|[0-9a-f]{64})\b|[?&]narHash=`)

// pinnedEntry reports whether an entry of a search path, "name=place" or "place", cannot change by itself: it is in the
// source, in the store, or an address that says which content it has.
func pinnedEntry(entry string) bool {
	_, place, named := strings.Cut(entry, "=")
	if !named {
		place = entry
	}
	return place == "." || strings.HasPrefix(place, "./") || strings.HasPrefix(place, storepath.Dir+"/") ||
		pinnedAddress.MatchString(place)
}

// revision is what Hydra is asked for: a commit, or a word such as latest.
func (f rootFinder) revision() string {
	if f.config.GitRev == "" {
		return f.identity.Rev
	}
	if lower := strings.ToLower(f.config.GitRev); isRevision(lower) {
		return lower
	}
	return f.config.GitRev
}

// commit is the source's, "" where it is not known.
func (f rootFinder) commit() string {
	if revision := f.revision(); isRevision(revision) {
		return revision
	}
	return f.identity.Rev
}

func (f rootFinder) gitURL() string {
	if f.config.GitURL != "" {
		return f.config.GitURL
	}
	return f.identity.URL
}

// isRevision reports whether s is a commit, which always has the same outputs, and not a word such as latest.
func isRevision(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

// askHydra takes the outputs of the builds that Hydra made of this revision.
func (f rootFinder) askHydra(ctx context.Context) (Roots, error) {
	target, err := hydra.ParseJob(f.config.HydraJob)
	if err != nil {
		return Roots{}, fmt.Errorf("BP_NIX_HYDRA_JOB: %w", err)
	}
	if f.revision() == "" {
		return Roots{}, errors.New("asking Hydra: the revision of this source is not known, as it has no .git; set " +
			"BP_NIX_GIT_REV to the commit, or to latest or latest-finished")
	}
	client, err := f.hydraClient()
	if err != nil {
		return Roots{}, err
	}
	resolution, err := client.Resolve(ctx, hydra.Query{
		Project: target.Project, Jobset: target.Jobset, Jobs: target.Jobs,
		Revision: f.revision(), System: f.config.System, GitURL: f.gitURL(), Wait: f.config.HydraWait,
	})
	if err != nil {
		return Roots{}, err
	}
	roots := Roots{}
	for _, build := range resolution.Builds {
		f.log("%s: build %d, %s", build.Job, build.ID, build.NixName)
		for _, output := range installedOutputs(build.Outputs) {
			if slices.Contains(strings.Split(build.Job, "."), hookName) {
				roots.Hook = output
				continue
			}
			if !slices.Contains(roots.Paths, output) {
				roots.Paths = append(roots.Paths, output)
			}
		}
	}
	if len(roots.Paths) == 0 {
		return Roots{}, fmt.Errorf("asking Hydra: evaluation %d has no outputs for %s", resolution.Eval, f.config.HydraJob)
	}
	return roots, f.checkServed(ctx, client, resolution, roots)
}

// checkServed looks whether the caches have what Hydra has built. What is found is remembered for the closure, so
// that this costs no request.
func (f rootFinder) checkServed(ctx context.Context, client *hydra.Client, r *hydra.Resolution, roots Roots) error {
	caches, err := f.caches()
	if err != nil {
		return err
	}
	absent, err := lookUp(ctx, caches, roots.All())
	if err != nil || len(absent) == 0 {
		return err
	}
	e := &NotCachedError{Entry: fmt.Sprintf("evaluation %d of %s", r.Eval, redact(client.URL()))}
	for _, p := range roots.All() {
		if absent[p] != nil {
			e.Missing = append(e.Missing, p)
		} else {
			e.Have++
		}
	}
	e.Asked = absent[e.Missing[0]].Asked
	e.Causes = causesOf(e.Asked)
	if len(e.Causes) == 0 || !e.Causes[0].Sure {
		e.Causes = []Cause{{Sure: true, Found: "Hydra has built it, but no cache that was asked has it",
			Change: f.whoServes(ctx, client, e.Missing[0])}}
	}
	return e
}

// installedOutputs chooses among a build's outputs, whose meta.outputsToInstall Hydra does not tell: what a user
// environment gets when nothing is said, the programs and else the default output.
func installedOutputs(outputs map[string]storepath.Path) []storepath.Path {
	for _, name := range []string{"bin", "out"} {
		if p, ok := outputs[name]; ok {
			return []storepath.Path{p}
		}
	}
	names := slices.Sorted(maps.Keys(outputs))
	if len(names) == 0 {
		return nil
	}
	return []storepath.Path{outputs[names[0]]}
}

// loginFor finds the service binding for a URL's host.
func loginFor(logins []CacheBinding, url string) (CacheBinding, bool) {
	for _, login := range logins {
		if hostOf(login.URL) != "" && hostOf(login.URL) == hostOf(url) {
			return login, true
		}
	}
	return CacheBinding{}, false
}
