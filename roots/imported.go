package roots

import (
	"context"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// notImported makes the error for what evaluation itself has to read, as an expression imported from a derivation, and
// no cache has. Mostly it is nixpkgs, fetched by a revision that was changed.
func (e evaluation) notImported(ctx context.Context, unread *nixinstall.WouldBuildError) error {
	// Nix names what those are built with, too.
	unread = &nixinstall.WouldBuildError{Drvs: outermost(unread.Drvs, e.nix.ReadDrv), Warnings: unread.Warnings}
	names := text.List(unread.Names(), listed)
	found := Finding{Kinds: []Kind{Imported}, Facts: []string{"names", names},
		Text: "the expression imports " + names + ", which has to be built or fetched by a builder first"}
	var outputs []storepath.Path
	var fetched []string
	for _, p := range unread.Drvs {
		drv, err := e.nix.ReadDrv(p)
		if err != nil {
			return unread
		}
		for _, o := range drv.Outputs {
			outputs = append(outputs, o.Path)
		}
		if !drv.IsFixedOutput() {
			continue
		}
		name, url := strings.TrimSuffix(p.Name(), ".drv"), ""
		if urls := strings.Fields(drv.Env["url"] + " " + drv.Env["urls"]); len(urls) > 0 {
			url = redact.Text(urls[0])
			name += " from " + url
		}
		fetched = append(fetched, name)
		if o := drv.Outputs["out"]; strings.HasSuffix(url, ".tar.gz") && o.HashAlgo == "r:sha256" {
			found.Facts = append(found.Facts, "url", text.Printable(url), "hash", o.Hash)
		}
	}
	if len(fetched) > 0 {
		found.Kinds = []Kind{Fetched}
		found.Text = "the expression imports what a builder has to fetch first: " + text.List(fetched, listed)
	}
	slices.Sort(outputs)
	absent, err := lookUp(ctx, e.caches.Lookup, outputs)
	if err != nil {
		return err
	}
	n := lacking("the evaluation of "+e.entryName()+", which has to read "+names, outputs, absent)
	if n == nil {
		return unread
	}
	n.Build, n.Have = unread.Names(), 0 // these are not the outputs that are wanted
	return e.look(ctx, n, func(context.Context, *NotCachedError) []Finding { return []Finding{found} }, e.configured)
}

// outermost are the derivations that none of the others is made from.
func outermost(drvs []storepath.Path, read func(storepath.Path) (*nixinstall.Drv, error)) []storepath.Path {
	inner, unread := map[storepath.Path]bool{}, slices.Clone(drvs)
	for ; len(unread) > 0; unread = unread[1:] {
		drv, err := read(unread[0])
		if err != nil {
			continue
		}
		for input := range drv.InputDrvs {
			if !inner[input] {
				inner[input], unread = true, append(unread, input)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(drvs), func(p storepath.Path) bool { return inner[p] })
}
