package closure

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// OriginsLabel is the image's label that says which caches its store paths came from. It is a word and no proof.
const OriginsLabel = "io.nixproot.nix-hydra.caches"

// Origins are the caches that store paths came from: their URLs without credentials.
type Origins map[storepath.Path]string

// origin is one cache in a label. That of most paths names none: it has all those that no other one names.
type origin struct {
	URL   string   `json:"url,omitempty"` // "" where the cache is not known
	Paths []string `json:"paths,omitempty"`
}

// Label is the text of the label, the same for the same origins; "" where none is known.
func (o Origins) Label() (string, error) {
	byCache := map[string][]string{}
	for p, url := range o {
		byCache[url] = append(byCache[url], p.HashPart())
	}
	if len(byCache) == 0 || len(byCache) == 1 && byCache[""] != nil {
		return "", nil
	}
	urls := slices.SortedFunc(maps.Keys(byCache), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(byCache[b]), len(byCache[a])), cmp.Compare(a, b))
	})
	var all []origin
	for i, url := range urls {
		next := origin{URL: url, Paths: slices.Sorted(slices.Values(byCache[url]))}
		if i == 0 {
			next.Paths = nil
		}
		all = append(all, next)
	}
	text, err := json.Marshal(all)
	return string(text), err
}

// ReadOrigins reads a label for the paths of its image. A path whose cache is not known is left out.
func ReadOrigins(label string, paths []storepath.Path) (Origins, error) {
	var all []origin
	if err := json.Unmarshal([]byte(label), &all); err != nil {
		return nil, fmt.Errorf("reading the label %s: %w", OriginsLabel, err)
	}
	byHash := map[string]string{}
	most := ""
	for _, o := range all {
		if len(o.Paths) == 0 {
			most = o.URL
		}
		for _, hash := range o.Paths {
			byHash[hash] = o.URL
		}
	}
	origins := Origins{}
	for _, p := range paths {
		url, named := byHash[p.HashPart()]
		if !named {
			url = most
		}
		if url != "" {
			origins[p] = url
		}
	}
	return origins, nil
}
