package roots

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// HookName is the attribute, or the executable in an output's bin, that runs once at build time.
const HookName = "heroku-compile-hook"

// Result is the store paths an image is made of, before their closures are known.
type Result struct {
	// Paths are the outputs, the app's own first.
	Paths []storepath.Path `json:"paths"`
	// MainProgram is meta.mainProgram of the first one, "" where nobody says.
	MainProgram string `json:"mainProgram,omitempty"`
	// Licenses are the SPDX identifiers that meta.license gives, by output; what gives none is left out.
	Licenses map[storepath.Path][]string `json:"licenses,omitempty"`
	// Hook is the output of the attribute heroku-compile-hook, "" where there is none.
	Hook storepath.Path `json:"hook,omitempty"`
	// Revision is the commit of the source that Hydra evaluated, "" where that is not known or Hydra was not asked.
	Revision string `json:"revision,omitempty"`
	// SourceNames are the names under which the source was evaluated, the one that gave these paths last; none where
	// nothing was evaluated.
	SourceNames []string `json:"-"`
}

// All are the outputs and the hook's.
func (r Result) All() []storepath.Path {
	all := slices.Clone(r.Paths)
	if r.Hook != "" && !slices.Contains(all, r.Hook) {
		all = append(all, r.Hook)
	}
	return all
}

// Settings are what the person who deploys has said about the store paths.
type Settings struct {
	// StorePaths are the roots themselves: nothing is evaluated.
	StorePaths []storepath.Path

	// HydraURL, HydraJob and HydraWait say whom to ask instead of evaluating. The URL alone is for finding out why an
	// output is in no cache.
	HydraURL  string
	HydraJob  string
	HydraWait time.Duration

	// Attrs, Args, ArgExprs and NixPath say what of an expression to evaluate, and with what.
	Attrs    []string
	Args     map[string]string
	ArgExprs map[string]string
	NixPath  []string

	// GitURL and GitRev are the source's identity where .git does not tell it, SourceName what Hydra calls it in its store
	// where that is none of the usual names.
	GitURL     string
	GitRev     string
	SourceName string

	// System is Nix's name for the platform the image is for, for example "x86_64-linux".
	System string
}

// Finder finds the roots of one source. What costs time is opened only when it is asked for.
type Finder struct {
	Settings Settings
	// Source is the directory with the source. File is the expression in it to evaluate, relative to it, or Flake the flake
	// reference; both are empty where nothing is evaluated.
	Source      string
	File, Flake string
	// Exclude are entries of Source that are no part of it, relative to it: what is mounted there.
	Exclude []string
	// Identity is what the source's .git tells.
	Identity nixinstall.Identity
	// Toolchain and Caches open what they name.
	Toolchain func() (nixinstall.Toolchain, error)
	Caches    func() (*cache.Set, error)
	// Servers says how servers are reached: by which logins, certificate authorities and proxies. Its Getenv has to be
	// there; its caches and keys do not count.
	Servers cache.Options
	// Conditions are what an answer depends on besides source and settings: the caches that have to have it, and this
	// program.
	Conditions []string
	// Keep is told which store paths the next evaluation will want again.
	Keep func([]storepath.Path)
	// Log writes a line for the person who builds.
	Log func(format string, args ...any)
}

// Find asks whoever the settings name: nobody, Hydra, or Nix. Where no cache has what they say, the error is a
// NotCachedError with the reason.
func (f Finder) Find(ctx context.Context) (Result, error) {
	switch {
	case len(f.Settings.StorePaths) > 0:
		return Result{Paths: f.Settings.StorePaths}, nil
	case f.Settings.HydraJob != "":
		return f.askHydra(ctx)
	}
	return f.evaluate(ctx)
}

// Key identifies everything that Find's answer depends on, toolchain by its identity; "" says that the answer may
// change by itself.
func (f Finder) Key(ctx context.Context, toolchain string) (string, error) {
	if f.Settings.HydraJob != "" && !isRevision(f.revision()) {
		return "", nil
	}
	if f.File != "" { // a flake is locked
		mutable, err := f.mutable(ctx)
		if err != nil {
			return "", err
		}
		if mutable != "" {
			f.Log("Every build evaluates this source anew, as it reads what may change by itself: %s", mutable)
			return "", nil
		}
	}
	var tree storepath.Path // of a source that is evaluated; else nothing depends on it
	if f.File != "" || f.Flake != "" {
		var err error
		options := nixinstall.SourceOptions{Exclude: f.Exclude}
		if tree, err = nixinstall.SourcePath(ctx, f.Source, options); err != nil {
			return "", err
		}
	}
	inputs, err := json.Marshal([]any{
		tree, f.File, f.Flake, f.Settings.Attrs, f.Settings.Args, f.Settings.ArgExprs, f.Settings.NixPath, f.Settings.StorePaths,
		f.Settings.HydraURL, f.Settings.HydraJob, f.revision(), f.commit(), f.gitURL(), f.Settings.SourceName, f.Settings.System,
		toolchain, f.Conditions,
	})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(inputs)
	return hex.EncodeToString(sum[:]), nil
}

// mutable is what an evaluation reads that may be another in the next build, "" where it reads nothing of the kind.
func (f Finder) mutable(ctx context.Context) (string, error) {
	for _, entry := range f.Settings.NixPath {
		if !pinnedEntry(entry) {
			return "the search path has " + redact.Text(entry), nil
		}
	}
	place, found, err := nixinstall.FirstMutable(ctx, f.Source, f.Exclude)
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
	return nixinstall.IsInSource(place) || strings.HasPrefix(place, storepath.Dir+"/") || pinnedAddress.MatchString(place)
}

// revision is what Hydra is asked for: a commit, or a word such as latest.
func (f Finder) revision() string {
	if f.Settings.GitRev == "" {
		return f.Identity.Rev
	}
	if lower := strings.ToLower(f.Settings.GitRev); isRevision(lower) {
		return lower
	}
	return f.Settings.GitRev
}

// commit is the source's, "" where it is not known.
func (f Finder) commit() string {
	if revision := f.revision(); isRevision(revision) {
		return revision
	}
	return f.Identity.Rev
}

func (f Finder) gitURL() string {
	if f.Settings.GitURL != "" {
		return f.Settings.GitURL
	}
	return f.Identity.URL
}

// isRevision reports whether s is a commit or short for one, of which the outputs are always the same, and not a word such as
// latest.
func isRevision(s string) bool {
	return s != hydra.Latest && s != hydra.LatestFinished && hydra.CheckRevision(s) == nil
}
