package roots

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// listed is how many names a line lists before it counts.
const listed = 10

// Finding is something that was seen while looking for the reason why no cache has an output. Its text is what was
// seen, in one line or several; what to do about it is said by whoever shows it.
type Finding interface{ fmt.Stringer }

// Proven reports whether a finding is the reason for certain: without it the caches have the output, or Hydra says so.
func Proven(f Finding) bool {
	switch f := f.(type) {
	case CacheAnswer:
		return f.Reason == cache.Untrusted
	case OtherSystem, HydraBuild:
		return true
	case UploadDiffers:
		return len(f.Restored) > 0
	case Impure:
		return f.Changed
	}
	return false // others may have it, build it, or leave the difference out
}

// CacheAnswer is what a cache said that may have the output and did not give it.
type CacheAnswer struct{ cache.Answer }

func (a CacheAnswer) String() string {
	if a.Reason == cache.Down {
		return a.URL + " could not be asked, and may have it: " + a.Why
	}
	return a.URL + ": " + a.Why
}

// cacheFindings are those answers that say more than that the path is not there.
func cacheFindings(asked []cache.Answer) []Finding {
	var findings []Finding
	for _, a := range asked {
		if a.Reason != cache.Absent {
			findings = append(findings, CacheAnswer{a})
		}
	}
	return findings
}

// HydraSilent is a Hydra that did not answer.
type HydraSilent struct{ Err error }

func (s HydraSilent) String() string { return "Hydra could not be asked: " + s.Err.Error() }

// NeverBuilt is a Hydra in which no build has an output of this name; File is what was evaluated.
type NeverBuilt struct{ Hydra, Name, File string }

func (n NeverBuilt) String() string {
	return fmt.Sprintf("%s has never built anything named %s: no job gives it", n.Hydra, n.Name)
}

// OtherSystem is an output that is there for other systems only: Who is "Hydra builds" or "the caches have", Have are the
// systems, and At is one of the builds, or the store path.
type OtherSystem struct {
	Who, Name, System, At string
	Have                  []string
}

func (o OtherSystem) String() string {
	return fmt.Sprintf("%s %s for %s, not for %s: %s", o.Who, o.Name, strings.Join(o.Have, ", "), o.System, o.At)
}

// HydraBuild is Hydra's build of the very output that no cache has.
type HydraBuild struct {
	Build hydra.Build
	// Failure is what Hydra knows of a build that did not succeed.
	Failure error
	// Store is what Hydra itself has of what it built, nil where it is no binary cache or does not answer.
	Store *HydraStore
}

func (b HydraBuild) String() string {
	switch {
	case !b.Build.Finished:
		return "Hydra has not finished building it: " + pageOf(b.Build)
	case b.Failure != nil:
		return "Hydra could not build it: " + b.Failure.Error()
	}
	return fmt.Sprintf("Hydra has built it, but no cache that was asked has it (%s)%s", pageOf(b.Build), b.Store)
}

// HydraStore is what Hydra itself, at URL, has of an output that it built: nothing any more, or what Keys signed, none
// where nobody did.
type HydraStore struct {
	URL       string
	Collected bool
	Keys      []string
}

func (s *HydraStore) String() string {
	switch {
	case s == nil:
		return ""
	case s.Collected:
		return fmt.Sprintf("; it has been garbage-collected from Hydra's own store (%s)", s.URL)
	case len(s.Keys) == 0:
		return fmt.Sprintf("; Hydra serves it itself, without a signature (%s)", s.URL)
	}
	return fmt.Sprintf("; Hydra serves it itself, signed by %s (%s)", strings.Join(s.Keys, ", "), s.URL)
}

// OtherBuild is Hydra's build of the output's name that has another path: of this revision, or the newest.
type OtherBuild struct {
	Build hydra.Build
	Name  string
	// Inputs are what Hydra evaluated, Ours is the derivation that was evaluated here.
	Inputs string
	Ours   storepath.Path
	// Commit is this source's, "" where it is not known; OfCommit says that the build is of it.
	Commit   string
	OfCommit bool
	// DeepClone says which input of the jobset is one, "" where none is: then Hydra's source has its .git.
	DeepClone string
}

func (o OtherBuild) String() string {
	which := "Hydra's newest build of it differs from what was evaluated here"
	switch {
	case o.OfCommit:
		which = "Hydra has built this revision, and the two differ"
	case o.Commit != "":
		return fmt.Sprintf("Hydra has built %s, last from %s (%s), not from %s", o.Name, o.Inputs, pageOf(o.Build), o.Commit)
	}
	if o.DeepClone != "" {
		which += ": " + o.DeepClone + ", and its .git is in Hydra's source, which no other checkout has alike"
	}
	return fmt.Sprintf("%s (%s):\nHydra's derivation is %s, here it is %s\nwhat Hydra evaluated: %s", which, pageOf(o.Build),
		o.Build.DrvPath, o.Ours, o.Inputs)
}

func pageOf(b hydra.Build) string { return fmt.Sprintf("build %d of %s: %s", b.ID, b.JobPath(), b.URL) }

// UploadDiffers is an upload that is not what Hydra fetches: what git has, and of submodules one level.
type UploadDiffers struct {
	Files FileDiff
	// From says what of git it was compared with, "" where the upload has no .git.
	From string
	// Restored is what Hydra's files give in a source of this Name, none where the caches do not have it. Complete says that
	// all of them were there to be evaluated.
	Restored []storepath.Path
	Name     string
	Complete bool
}

func (u UploadDiffers) String() string {
	from := ""
	if u.From != "" {
		from = " (compared with " + u.From + ")"
	}
	s := fmt.Sprintf("the upload is not what Hydra fetches%s:\n%s\n", from, u.Files)
	switch {
	case len(u.Restored) > 0:
		return s + fmt.Sprintf("Without that difference it is %s, in a source named %s, and the caches have it", pathList(u.Restored), u.Name)
	case u.Complete:
		return s + "The caches do not have what that gives, either, so there is another reason, too"
	}
	return s + "(What git has could not be restored completely from .git, so that this is not proven)"
}

// Impure are places with one kind of impurity.
type Impure struct {
	Kind   nixinstall.ImpurityKind
	Places []string
	// Changed says that evaluating again gave another path.
	Changed bool
	// NixPath is the search path.
	NixPath []string
}

func (i Impure) String() string {
	places := strings.Join(i.Places, ", ")
	switch {
	case i.Changed:
		return "evaluating it again a second later gives another path: it depends on the clock, at " + places
	case i.Kind == nixinstall.Clock:
		return "the clock is read at " + places
	case i.Kind == nixinstall.Environment:
		return "variables of the environment are read at " + places + "; they are empty here, and Hydra's may not be"
	case i.Kind == nixinstall.SearchPath:
		return fmt.Sprintf("the search path is used at %s; here it is %s, and Hydra's is the jobset's inputs of these names",
			places, cmp.Or(redact.Text(strings.Join(i.NixPath, " ")), "empty"))
	}
	return "something is fetched whose content is not pinned, at " + places
}

// ConfiguredCaches are caches and keys that the source, or the build's NIX_CONFIG, lists for Nix, and that were not asked.
type ConfiguredCaches struct{ nixinstall.ListedCaches }

func (c ConfiguredCaches) String() string {
	s := strings.Join(c.From, ", ") + " lists what is not obeyed here:"
	if len(c.Substituters) > 0 {
		s += "\nsubstituters " + redact.Text(text.List(c.Substituters, listed))
	}
	if len(c.TrustedPublicKeys) > 0 {
		s += "\ntrusted-public-keys " + text.List(c.TrustedPublicKeys, listed)
	}
	return s
}

// Imported is what evaluation itself has to read, and no cache has.
type Imported struct {
	// Names are the derivations, Fetched those of them that only fetch something, with their address.
	Names, Fetched []string
	// Tarball and SHA256 are what builtins.fetchTarball would need for the same path, "" where they are not known.
	Tarball, SHA256 string
}

func (i Imported) String() string {
	if len(i.Fetched) > 0 {
		return "the expression imports what a builder has to fetch first: " + strings.Join(i.Fetched, "; ")
	}
	return fmt.Sprintf("the expression imports %s, which has to be built or fetched by a builder first",
		text.List(i.Names, listed))
}

// pathList lists store paths by their base names.
func pathList(paths []storepath.Path) string {
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = p.Base()
	}
	return text.List(names, listed)
}
