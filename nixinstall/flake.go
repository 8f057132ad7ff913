package nixinstall

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// flakeSource is the name that Nix gives to the source of every flake. It takes a flake out of a chroot store only
// under this name; under another it looks for the real /nix/store.
const flakeSource = "source"

// flakeRef is the locked reference of the flake in the source, and the fragment after "#". It is locked by the
// source's NAR hash, so that Nix evaluates it purely and writes no lock file.
func (t Toolchain) flakeRef(ctx context.Context, r *Request) (ref, fragment string, err error) {
	place, fragment, _ := strings.Cut(r.Flake, "#")
	place = strings.TrimPrefix(place, "path:")
	if strings.ContainsAny(place, "?:") {
		return "", "", fmt.Errorf("evaluating flake %s: want a folder of the source, for example .#default", r.Flake)
	}
	dir := "."
	if place != "" {
		if dir, err = inSource(place); err != nil {
			return "", "", err
		}
	}
	folder := t.settings.physical(r.Source.String())
	if r.Source.Name() != flakeSource {
		if r.Source, err = t.AddSource(ctx, folder, SourceOptions{Name: flakeSource, Rule: GitKept}); err != nil {
			return "", "", err
		}
	}
	hash, err := narHash(ctx, folder, keepAll)
	if err != nil {
		return "", "", fmt.Errorf("evaluating flake %s: %w", r.Flake, err)
	}
	query := url.Values{"narHash": {"sha256-" + base64.StdEncoding.EncodeToString(hash[:])}}
	if dir != "." {
		query.Set("dir", dir)
	}
	if r.Rev != "" {
		query.Set("rev", r.Rev)
	}
	if r.LastModified > 0 {
		query.Set("lastModified", strconv.FormatInt(r.LastModified, 10))
	}
	if r.RevCount > 0 {
		query.Set("revCount", strconv.FormatInt(r.RevCount, 10))
	}
	return "path:" + r.Source.String() + "?" + query.Encode(), fragment, nil
}
