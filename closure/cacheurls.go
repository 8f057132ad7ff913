package closure

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// CachesLabel is the image's label that says which caches its store paths came from. It is a word and no proof.
const CachesLabel = "io.nixproot.nix-hydra.caches"

// CacheURLs are the caches that store paths came from: their URLs without credentials.
type CacheURLs map[storepath.Path]string

// cacheEntry is one cache in a label. That of most paths names none: it has all those that no other one names.
type cacheEntry struct {
	URL   string   `json:"url,omitempty"` // "" where the cache is not known
	Paths []string `json:"paths,omitempty"`
}

// Label is the text of the label, the same for the same caches; "" where none is known.
func (u CacheURLs) Label() (string, error) {
	byCache := map[string][]string{}
	for p, url := range u {
		byCache[url] = append(byCache[url], p.HashPart())
	}
	if len(byCache) == 0 || len(byCache) == 1 && byCache[""] != nil {
		return "", nil
	}
	urls := slices.SortedFunc(maps.Keys(byCache), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(byCache[b]), len(byCache[a])), cmp.Compare(a, b))
	})
	var entries []cacheEntry
	for i, url := range urls {
		next := cacheEntry{URL: url, Paths: slices.Sorted(slices.Values(byCache[url]))}
		if i == 0 {
			next.Paths = nil
		}
		entries = append(entries, next)
	}
	text, err := json.Marshal(entries)
	return string(text), err
}

// ReadCacheURLs reads a label for the paths of its image. A path whose cache is not known is left out.
func ReadCacheURLs(label string, paths []storepath.Path) (CacheURLs, error) {
	var entries []cacheEntry
	if err := json.Unmarshal([]byte(label), &entries); err != nil {
		return nil, fmt.Errorf("reading the label %s: %w", CachesLabel, err)
	}
	byHash := map[string]string{}
	most := ""
	for _, e := range entries {
		if len(e.Paths) == 0 {
			most = e.URL
		}
		for _, hash := range e.Paths {
			byHash[hash] = e.URL
		}
	}
	urls := CacheURLs{}
	for _, p := range paths {
		url, named := byHash[p.HashPart()]
		if !named {
			url = most
		}
		if url != "" {
			urls[p] = url
		}
	}
	return urls, nil
}
