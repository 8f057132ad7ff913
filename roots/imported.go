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
	n := &NotCachedError{
		Entry: "the evaluation of " + e.entryName() + ", which has to read " + text.List(unread.Names(), listed),
		Build: unread.Drvs, HydraAsked: e.Settings.HydraURL != "",
	}
	imported := Imported{Names: unread.Names()}
	for _, p := range unread.Drvs {
		drv, err := e.nix.ReadDrv(p)
		if err != nil {
			return unread
		}
		if isFetched(drv) {
			url, name := redact.Text(addressOf(drv)), strings.TrimSuffix(p.Name(), ".drv")
			if url != "" {
				name += " from " + url
			}
			imported.Fetched = append(imported.Fetched, name)
			if o := drv.Outputs["out"]; strings.HasSuffix(url, ".tar.gz") && o.HashAlgo == "r:sha256" {
				imported.Tarball, imported.SHA256 = url, o.Hash
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
	if !n.add(cacheFindings(n.Asked)) {
		n.Findings = append(append(n.Findings, imported), e.configured(n.Asked)...)
	}
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

// isFetched reports whether a derivation only fetches something whose hash is known.
func isFetched(d *nixinstall.Drv) bool { return len(d.Outputs) == 1 && d.Outputs["out"].Hash != "" }
