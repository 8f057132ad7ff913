package roots

import (
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// listed is how many names a line lists before it counts.
const listed = 10

// Finding is something that was seen while looking for the reason why no cache has an output. What to do about it is said
// by whoever shows it.
type Finding struct {
	// Text is what was seen, in one line or several.
	Text string
	// Proven says that it is the reason for certain: without it the caches have the output, or Hydra says so.
	Proven bool
	// Err is the error that it would be by itself. It is nil where Kinds say what it is.
	Err   error
	Kinds []Kind
	// Facts are what is known of it: the words that its kinds name, each followed by what it stands for.
	Facts []string
}

func isProven(f Finding) bool { return f.Proven }

// Kind is a kind of finding.
type Kind string

// The kinds, with the words of their facts.
const (
	HydraUnknown    Kind = "not-found"         // no Hydra is named that could be asked
	NeverBuilt      Kind = "never-built"       // no job of Hydra's gives an output of this name: name, file
	Unfinished      Kind = "unfinished-build"  // Hydra has it queued: job
	Uploaded        Kind = "uploads-elsewhere" // Hydra has built it
	HydraServes     Kind = "hydra-serves"      // and has it, signed: hydra, key
	HydraUnsigned   Kind = "hydra-unsigned"    // and has it, not signed: hydra
	Collected       Kind = "garbage-collected" // and does not have it any more
	OtherRevision   Kind = "other-revision"    // Hydra's builds are of other commits: job
	OtherDerivation Kind = "other-derivation"  // Hydra's build is of another derivation: job
	DeepClone       Kind = "deep-clone"        // the same, from a source with its .git: job
	ExtraFiles      Kind = "extra-files"       // the upload has files that Hydra has not
	MissingFiles    Kind = "missing-files"     // and the reverse
	ChangedFiles    Kind = "changed-files"     // they have other contents
	LostModes       Kind = "modes"             // they have other modes
	Submodules      Kind = "submodules"        // the upload has submodules of submodules
	Clock           Kind = "clock"             // the expression reads what may be another elsewhere
	Environment     Kind = "environment"
	SearchPath      Kind = "jobset-path"
	Unpinned        Kind = "unpinned"
	Configured      Kind = "nix-config"     // the source lists caches for Nix that were not asked: caches, keys
	Imported        Kind = "import"         // evaluation has to read what nobody has built: names
	Fetched         Kind = "import-fetched" // which only has to be fetched: names, url, hash
)

// cacheFindings are those answers of caches that say more than that the path is not there.
func cacheFindings(asked []cache.Answer) []Finding {
	var found []Finding
	for _, a := range asked {
		said := a.URL + ": " + a.Why
		switch a.Reason {
		case cache.Absent:
			continue
		case cache.Down:
			said = a.URL + " could not be asked, and may have it: " + a.Why
		}
		found = append(found, Finding{Text: said, Proven: a.Reason == cache.Untrusted,
			Err: &cache.NotFoundError{Asked: []cache.Answer{a}}})
	}
	return found
}

// pathList lists store paths by their base names.
func pathList(paths []storepath.Path) string {
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = p.Base()
	}
	return text.List(names, listed)
}
