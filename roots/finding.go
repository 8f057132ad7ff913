package roots

import (
	"fmt"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// listed is how many names a line lists before it counts.
const listed = 10

// Finding is something that was seen while looking for the reason why no cache has an output. Its text is what was
// seen, in one line or several; what to do about it is said by whoever shows it.
type Finding interface {
	fmt.Stringer
	// Proven reports whether it is the reason for certain: without it the caches have the output, or Hydra says so.
	Proven() bool
}

// CacheAnswer is what a cache said that may have the output and did not give it.
type CacheAnswer struct{ cache.Answer }

// Proven is true of a path that is there and lacks a signature by a trusted key.
func (a CacheAnswer) Proven() bool { return a.Reason == cache.Untrusted }

func (a CacheAnswer) String() string {
	switch a.Reason {
	case cache.Untrusted:
		return fmt.Sprintf("%s has it, but it cannot be taken: %s", a.URL, a.Why)
	case cache.Invalid:
		return fmt.Sprintf("%s has something for it that cannot be used: %s", a.URL, a.Why)
	case cache.Login:
		return fmt.Sprintf("%s wants a login: %s", a.URL, a.Why)
	}
	return fmt.Sprintf("%s could not be asked, and may have it: %s", a.URL, a.Why)
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

// Proven is false: nothing is known.
func (HydraSilent) Proven() bool { return false }

func (s HydraSilent) String() string { return "Hydra could not be asked: " + s.Err.Error() }

// Unwrap is the client's error.
func (s HydraSilent) Unwrap() error { return s.Err }

// NeverBuilt is a Hydra in which no build has an output of this name.
type NeverBuilt struct {
	Hydra, Name string
	// File is what was evaluated.
	File string
}

// Proven is false: another Hydra may build it.
func (NeverBuilt) Proven() bool { return false }

func (n NeverBuilt) String() string {
	return fmt.Sprintf("%s has never built anything named %s: no job gives it", n.Hydra, n.Name)
}

// OtherSystem is an output that Hydra builds for other systems only.
type OtherSystem struct {
	Name, System string
	// Have are the systems for which it is there, Build one of the builds.
	Have  []string
	Build hydra.Build
}

// Proven is true.
func (OtherSystem) Proven() bool { return true }

func (o OtherSystem) String() string {
	return fmt.Sprintf("Hydra builds %s for %s, not for %s: %s", o.Name, strings.Join(o.Have, ", "), o.System, o.Build.URL)
}

// HydraBuild is Hydra's build of the very output that no cache has.
type HydraBuild struct {
	Build hydra.Build
	// Path is the output; Failure what Hydra knows of a build that did not succeed.
	Path    storepath.Path
	Failure error
	// Store says whether Hydra serves the output itself, where it was built.
	Store HydraStore
}

// Proven is true: Hydra says so.
func (HydraBuild) Proven() bool { return true }

func (b HydraBuild) String() string {
	build := fmt.Sprintf("build %d of %s: %s", b.Build.ID, jobOf(b.Build), b.Build.URL)
	switch {
	case !b.Build.Finished:
		return "Hydra has not finished building it: " + build
	case b.Failure != nil:
		return "Hydra could not build it: " + b.Failure.Error()
	}
	return fmt.Sprintf("Hydra has built it (%s), but no cache that was asked has %s%s", build, b.Path.Base(), b.Store)
}

// Job is "project/jobset/job", as it is set.
func (b HydraBuild) Job() string { return jobOf(b.Build) }

func jobOf(b hydra.Build) string { return hydra.WriteJob(b.Project, b.Jobset, b.Job) }

// StoreState is whether Hydra serves an output from its own store.
type StoreState int

// What a Hydra's own store may be.
const (
	StoreUnknown   StoreState = iota // it is no binary cache, or did not answer
	StoreServes                      // it serves the output
	StoreCollected                   // it is a binary cache, and the output has been garbage-collected
)

// HydraStore is what a Hydra's own store has of an output that it built.
type HydraStore struct {
	// URL is Hydra's.
	URL   string
	State StoreState
	// Keys are the names of the keys that signed it, none where nobody did.
	Keys []string
}

func (s HydraStore) String() string {
	switch {
	case s.State == StoreCollected:
		return fmt.Sprintf("; it has been garbage-collected from Hydra's own store (%s)", s.URL)
	case s.State == StoreServes && len(s.Keys) == 0:
		return fmt.Sprintf("; Hydra serves it itself, without a signature (%s)", s.URL)
	case s.State == StoreServes:
		return fmt.Sprintf("; Hydra serves it itself, signed by %s (%s)", strings.Join(s.Keys, ", "), s.URL)
	}
	return ""
}

// NotServed are outputs of a Hydra job that no cache has.
type NotServed struct{ Store HydraStore }

// Proven is true: Hydra says that it has built them.
func (NotServed) Proven() bool { return true }

func (n NotServed) String() string {
	return "Hydra has built it, but no cache that was asked has it" + n.Store.String()
}

// OtherRevision is a build of the same name from other commits than this source's.
type OtherRevision struct {
	Build   hydra.Build
	Name    string
	Sources []hydra.Source
	// Commit is this source's.
	Commit string
}

// Proven is false: the commit may build the same.
func (OtherRevision) Proven() bool { return false }

func (o OtherRevision) String() string {
	var revisions []string
	for _, source := range o.Sources {
		revisions = append(revisions, fmt.Sprintf("%s=%s", source.Input, source.Revision))
	}
	return fmt.Sprintf("Hydra has built %s, last from %s (build %d: %s), not from %s", o.Name, strings.Join(revisions, " "),
		o.Build.ID, o.Build.URL, o.Commit)
}

// Job is "project/jobset/job", as it is set.
func (o OtherRevision) Job() string { return jobOf(o.Build) }

// OtherDerivation is a build whose derivation is another than what was evaluated here.
type OtherDerivation struct {
	Build hydra.Build
	// OfRevision says that it is of this very commit; otherwise it is the newest of its name.
	OfRevision bool
	// Ours is the derivation here, Inputs what Hydra evaluated.
	Ours   storepath.Path
	Inputs string
}

// Proven is false: why they differ is not known.
func (OtherDerivation) Proven() bool { return false }

func (o OtherDerivation) String() string {
	which := "Hydra's newest build of it differs from what was evaluated here"
	if o.OfRevision {
		which = "Hydra has built this revision, and the two differ"
	}
	return fmt.Sprintf("%s (build %d of %s: %s):\nHydra's derivation is %s, here it is %s\nwhat Hydra evaluated: %s", which,
		o.Build.ID, jobOf(o.Build), o.Build.URL, o.Build.DrvPath, o.Ours, o.Inputs)
}

// Job is "project/jobset/job", as it is set.
func (o OtherDerivation) Job() string { return jobOf(o.Build) }

// DeepClone is a source that Hydra has with its .git.
type DeepClone struct {
	Build hydra.Build
	// Input is the jobset's name for it, Value what it is told to fetch.
	Input, Value string
}

// Proven is false: the expression may leave .git out.
func (DeepClone) Proven() bool { return false }

func (c DeepClone) String() string {
	return fmt.Sprintf("input %s of the jobset is a deep clone (%s): Hydra's source has its .git, which no other checkout has alike",
		c.Input, redact.Text(c.Value))
}

// Job is "project/jobset/job", as it is set.
func (c DeepClone) Job() string { return jobOf(c.Build) }

// NestedSubmodules are submodules of submodules that the upload has, of which Hydra has empty directories.
type NestedSubmodules struct{ Paths []string }

// Proven is false: the expression may leave them out.
func (NestedSubmodules) Proven() bool { return false }

func (n NestedSubmodules) String() string {
	return "the upload has submodules of submodules, " + text.List(n.Paths, listed) +
		": Hydra checks submodules out one level deep, and has empty directories in their place"
}

// Restored is what the caches have where a difference is taken away; "" where they do not have it.
type Restored struct {
	Outputs []storepath.Path
	// Name is the source's name in the store.
	Name string
}

func (r Restored) String() string {
	return fmt.Sprintf("%s, in a source named %s, and the caches have it", pathList(r.Outputs), r.Name)
}

// UploadDiffers is an upload that is not what git has.
type UploadDiffers struct {
	Files FileDiff
	// From says what of git it was compared with.
	From string
	// Restored is what git's files give, Complete that all of them were there to be evaluated.
	Restored *Restored
	Complete bool
}

// Proven is true where the caches have what git's files give.
func (u UploadDiffers) Proven() bool { return u.Restored != nil }

func (u UploadDiffers) String() string {
	s := fmt.Sprintf("the upload is not what git has (%s):\n%s\n", u.From, u.Files.as("git"))
	switch {
	case u.Restored != nil:
		return s + "Without that difference it is " + u.Restored.String()
	case u.Complete:
		return s + "The caches do not have what " + u.From + " gives, either, so there is another reason, too"
	}
	return s + "(What git has could not be restored completely from .git, so that this is not proven)"
}

// Impurity is what makes an expression give something else at another time or on another machine.
type Impurity int

// The impurities.
const (
	Clock       Impurity = iota // builtins.currentTime
	Environment                 // builtins.getEnv
	SearchPath                  // <nixpkgs> and the like
	Unpinned                    // something is fetched without a hash
)

// Impure are places with one kind of impurity.
type Impure struct {
	Impurity
	Places []string
	// Changed says that evaluating again gave another path.
	Changed bool
	// NixPath is the search path.
	NixPath []string
}

// Proven is true where evaluating again gave another path.
func (i Impure) Proven() bool { return i.Changed }

func (i Impure) String() string {
	places := strings.Join(i.Places, ", ")
	switch i.Impurity {
	case Clock:
		if i.Changed {
			return "evaluating it again a second later gives another path: it depends on the clock, at " + places
		}
		return "the clock is read at " + places
	case Environment:
		return "variables of the environment are read at " + places + "; they are empty here, and Hydra's may not be"
	case SearchPath:
		from := "empty"
		if len(i.NixPath) > 0 {
			from = redact.Text(strings.Join(i.NixPath, " "))
		}
		return fmt.Sprintf("the search path is used at %s; here it is %s, and Hydra's is the jobset's inputs of these names",
			places, from)
	}
	return "something is fetched whose content is not pinned, at " + places
}

// ConfiguredCaches are caches and keys that the source, or the build's NIX_CONFIG, lists for Nix, and that were not asked.
type ConfiguredCaches struct {
	// From are the places that list them.
	From              []string
	Substituters      []string
	TrustedPublicKeys []string
}

// Proven is false: whether they have the output was not asked.
func (ConfiguredCaches) Proven() bool { return false }

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

// Proven is false: a cache may have had it.
func (Imported) Proven() bool { return false }

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
