package roots

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// notImported makes the error for what evaluation itself has to read, as an expression imported from a derivation, and
// no cache has. Mostly it is nixpkgs, fetched by a revision that was changed.
func (e evaluation) notImported(ctx context.Context, unread *nixinstall.WouldBuildError) error {
	// Nix names what those are built with, too.
	unread = &nixinstall.WouldBuildError{Drvs: outermost(unread.Drvs, e.nix.ReadDrv), Message: unread.Message,
		Warnings: unread.Warnings}
	n := &NotCachedError{
		Entry: "the evaluation of " + e.entryName() + ", which has to read " + listOf(unread.Names()),
		Build: unread.Drvs,
	}
	var isFetched []string
	withoutBuilder := "builtins.fetchTarball { url = …; sha256 = …; } with the same sha256"
	for _, p := range unread.Drvs {
		drv, err := e.nix.ReadDrv(p)
		if err != nil {
			return unread
		}
		if fetched(drv) {
			url := addressOf(drv)
			isFetched = append(isFetched, strings.TrimSuffix(strings.TrimSuffix(p.Name(), ".drv")+" from "+Redact(url),
				" from "))
			if o := drv.Outputs["out"]; strings.HasSuffix(url, ".tar.gz") && o.HashAlgo == "r:sha256" {
				withoutBuilder = fmt.Sprintf("builtins.fetchTarball { url = %q; sha256 = %q; }", Redact(url), o.Hash)
			}
		}
		for _, o := range drv.Outputs {
			n.Missing = append(n.Missing, o.Path)
		}
	}
	slices.Sort(n.Missing)
	absent, err := lookUp(ctx, e.caches, n.Missing)
	if err != nil {
		return err
	}
	n.Missing = slices.DeleteFunc(n.Missing, func(p storepath.Path) bool { return absent[p] == nil })
	if len(n.Missing) == 0 {
		return unread
	}
	n.Asked = absent[n.Missing[0]].Asked
	n.Causes = causesOf(n.Asked)
	if slices.ContainsFunc(n.Asked, func(a cache.Answer) bool { return a.Reason == cache.Untrusted }) {
		return n
	}
	found := fmt.Sprintf("the expression imports %s, which has to be built or fetched by a builder first",
		listOf(unread.Names()))
	change := "have Hydra build it, too, for example as a job of its own, or name a cache that has it in " +
		"NIX_EXTRA_BINARY_CACHE"
	if len(isFetched) > 0 {
		found = "the expression imports what a builder has to fetch first: " + strings.Join(isFetched, "; ")
		if pins := findPins(ctx, e.Source, e.Settings.NixPath); len(pins) > 0 {
			found += "\nnixpkgs here: " + strings.Join(pins,
				"; ") + "\nIf that was changed, Hydra may not have built with it yet"
		}
		change = "fetch it by what needs no builder and gives the same path: " + withoutBuilder + "\nor " + change
	}
	n.Causes = append(n.Causes, Cause{Found: found, Change: change})
	return n
}

// outermost are the derivations that none of the others is made from.
func outermost(drvs []storepath.Path, read func(storepath.Path) (*nixinstall.Drv, error)) []storepath.Path {
	inner := map[storepath.Path]bool{}
	var visit func(p storepath.Path)
	visit = func(p storepath.Path) {
		drv, err := read(p)
		if err != nil {
			return
		}
		for input := range drv.InputDrvs {
			if !inner[input] {
				inner[input] = true
				visit(input)
			}
		}
	}
	for _, p := range drvs {
		visit(p)
	}
	return slices.DeleteFunc(slices.Clone(drvs), func(p storepath.Path) bool { return inner[p] })
}

// addressOf is where a derivation would fetch from, "" where it does not say.
func addressOf(d *nixinstall.Drv) string {
	for _, variable := range []string{"url", "urls"} {
		if fields := strings.Fields(d.Env[variable]); len(fields) > 0 {
			return fields[0]
		}
	}
	return ""
}
