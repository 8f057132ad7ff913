package nixproot

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
)

// dependencyAdvice is for a closure of which a cache has the root and lacks a reference.
func dependencyAdvice(missing *closure.MissingError, why *cache.NotFoundError) []string {
	for _, a := range why.Asked {
		if a.Reason != cache.Absent {
			return cacheAdvice(why.Asked) // the reference may be there, but not for us
		}
	}
	needed, by := missing.Chain[len(missing.Chain)-1], missing.Chain[len(missing.Chain)-2]
	fixes := []string{fmt.Sprintf("the caches have %s and not %s, which it refers to: whoever uploaded it has not uploaded all "+
		"of its closure, or not yet; upload it whole (nix copy --to …)", by.Name(), needed.Name())}
	if !slices.ContainsFunc(why.Asked, func(a cache.Answer) bool { return strings.Contains(a.URL, "cache.nixos.org") }) {
		fixes = append(fixes, "what comes from nixpkgs unchanged is often in the default cache only, which "+
			"BP_NIX_SUBSTITUTERS leaves out here: NIX_EXTRA_BINARY_CACHE="+defaultCache)
	}
	return fixes
}
