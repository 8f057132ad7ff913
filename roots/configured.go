package roots

import (
	"os"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// configured looks for caches that the source lists for Nix, or the build's NIX_CONFIG, and that were not asked. They
// are not obeyed: whoever can write to a source could say with them whom to trust.
func (f Finder) configured(asked []cache.Answer) []Finding {
	getenv := f.Servers.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	all := nixinstall.ReadListedCaches(f.Source, f.Flake, getenv("NIX_CONFIG"))
	all.Substituters = slices.DeleteFunc(all.Substituters, func(url string) bool {
		address, _, _ := strings.Cut(strings.TrimRight(redact.Text(url), "/"), "?")
		return slices.ContainsFunc(asked, func(a cache.Answer) bool { return strings.TrimRight(a.URL, "/") == address })
	})
	if len(all.Substituters) == 0 {
		return nil
	}
	return []Finding{ConfiguredCaches{all}}
}
