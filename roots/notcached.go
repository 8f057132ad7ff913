package roots

import (
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// NotCachedError says that the caches lack outputs that evaluation or Hydra named, and what was found when the reason
// was looked for.
type NotCachedError struct {
	// Entry is what was evaluated.
	Entry string
	// Missing are the outputs that no cache has, under the name that came nearest; Have is how many outputs they have.
	Missing []storepath.Path
	Have    int
	// Names are the source names that were tried.
	Names []string
	// Build are the names of what Nix would compile, were it allowed to.
	Build []string
	// Asked are the caches and what each said of the first missing output.
	Asked []cache.Answer
	// Findings are the nearest reasons, the likeliest first: those that are proven alone where there are any.
	Findings []Finding
}

func (e *NotCachedError) Error() string { return "no binary cache has " + pathList(e.Missing) }

// Proven reports whether the reason is certain.
func (e *NotCachedError) Proven() bool { return slices.ContainsFunc(e.Findings, isProven) }

// lacking is the error for those of the paths wanted that are absent from all caches, nil where none is.
func lacking(entry string, wanted []storepath.Path, absent map[storepath.Path]*cache.NotFoundError) *NotCachedError {
	e := &NotCachedError{Entry: entry}
	for _, p := range wanted {
		why := absent[p]
		if why == nil {
			e.Have++
			continue
		}
		if e.Missing = append(e.Missing, p); e.Asked == nil {
			e.Asked = why.Asked
		}
	}
	if len(e.Missing) == 0 {
		return nil
	}
	return e
}
