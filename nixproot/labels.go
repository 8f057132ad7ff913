package nixproot

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// The image's labels: those of the OCI image specification (annotations.md), and this buildpack's own.
const (
	sourceLabel   = "org.opencontainers.image.source"
	revisionLabel = "org.opencontainers.image.revision"
	rootsLabel    = "io.nixproot.nix-hydra.roots"
	engineLabel   = "io.nixproot.nix-hydra.engine"
)

// labels say what an image is made of to whoever lists images: the source's repository and revision, as far as they are
// known, the roots, separated by spaces, the engine, and the caches that the paths came from. They are the same for the same build.
func (in *inputs) labels(c *contents) ([]libcnb.Label, error) {
	urls, err := c.CacheURLs.Label()
	if err != nil {
		return nil, fmt.Errorf("writing the label %s: %w", closure.CachesLabel, err)
	}
	var roots []string
	for _, p := range c.Roots.Paths {
		roots = append(roots, p.String())
	}
	var labels []libcnb.Label
	for _, label := range []libcnb.Label{
		{Key: sourceLabel, Value: redact.Text(cmp.Or(nixinstall.WithoutCredentials(in.config.GitURL), in.identity.URL))},
		{Key: revisionLabel, Value: in.commit(c)},
		{Key: rootsLabel, Value: strings.Join(roots, " ")},
		{Key: engineLabel, Value: c.Engine}, {Key: closure.CachesLabel, Value: urls},
	} {
		if label.Value != "" {
			labels = append(labels, label)
		}
	}
	return labels, nil
}

// commit is the whole commit that an image is made from, "" where none is known: BP_NIX_GIT_REV may be short for one, or a word such
// as latest, and then it is the evaluation's that Hydra gave, or the source's own.
func (in *inputs) commit(c *contents) string {
	given, own := strings.ToLower(in.config.GitRev), in.identity.Rev
	switch {
	case given == "":
		return own
	case hydra.IsCommit(given):
		return given
	case hydra.IsCommit(c.Roots.Revision):
		return c.Roots.Revision
	case strings.HasPrefix(own, given):
		return own
	}
	return ""
}
