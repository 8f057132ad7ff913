package roots

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// configured looks for caches and keys that the source lists for Nix, or the build's NIX_CONFIG. They are not obeyed:
// whoever can write to a source could say with them whom to trust.
func (e evaluation) configured(ctx context.Context) []Finding {
	first := e.sourceNames()[0][0]
	source, err := nixinstall.SourcePath(ctx, e.Source, nixinstall.SourceOptions{Name: first.name, Rule: first.rule,
		Exclude: e.Exclude})
	if err != nil {
		return nil
	}
	listed, err := e.nix.ListedCaches(ctx, e.Source, source, e.Flake)
	if err != nil || len(listed) == 0 {
		return nil
	}
	return []Finding{configuredBy(listed)}
}

// written is what configured finds where no toolchain is opened, less the caches that were asked.
func (f Finder) written(asked []cache.Answer) []Finding {
	getenv := f.Servers.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	all := configuredBy(nixinstall.WrittenCaches(f.Source, getenv("NIX_CONFIG")))
	all.Substituters = slices.DeleteFunc(all.Substituters, func(url string) bool {
		address, _, _ := strings.Cut(strings.TrimRight(redact.Text(url), "/"), "?")
		return slices.ContainsFunc(asked, func(a cache.Answer) bool { return strings.TrimRight(a.URL, "/") == address })
	})
	if len(all.Substituters) == 0 {
		return nil
	}
	return []Finding{all}
}

// configuredBy joins what several places list.
func configuredBy(listed []nixinstall.ListedCaches) ConfiguredCaches {
	var all ConfiguredCaches
	for _, one := range listed {
		all.From = append(all.From, one.From)
		for _, url := range one.Substituters {
			if !slices.Contains(all.Substituters, url) {
				all.Substituters = append(all.Substituters, url)
			}
		}
		for _, key := range one.TrustedPublicKeys {
			if !slices.Contains(all.TrustedPublicKeys, key) {
				all.TrustedPublicKeys = append(all.TrustedPublicKeys, key)
			}
		}
	}
	return all
}
