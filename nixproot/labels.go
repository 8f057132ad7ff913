package nixproot

import (
	"cmp"
	"strings"

	"github.com/buildpacks/libcnb/v2"

	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// The image's labels: those of the OCI image specification (annotations.md), and this buildpack's own.
const (
	sourceLabel   = "org.opencontainers.image.source"
	revisionLabel = "org.opencontainers.image.revision"
	rootsLabel    = "io.nixproot.nix-hydra.roots"
	engineLabel   = "io.nixproot.nix-hydra.engine"
)

// labels say what an image is made of to whoever lists images: the source's repository and revision, as far as they are
// known, the roots, separated by spaces, and the engine. They are the same for the same build.
func (in *inputs) labels(c *contents) []libcnb.Label {
	var roots []string
	for _, p := range c.Roots.Paths {
		roots = append(roots, p.String())
	}
	var labels []libcnb.Label
	for _, label := range []libcnb.Label{
		{Key: sourceLabel, Value: redact.Text(cmp.Or(nixinstall.WithoutCredentials(in.config.GitURL), in.identity.URL))},
		{Key: revisionLabel, Value: cmp.Or(in.config.GitRev, in.identity.Rev)},
		{Key: rootsLabel, Value: strings.Join(roots, " ")},
		{Key: engineLabel, Value: c.Engine},
	} {
		if label.Value != "" {
			labels = append(labels, label)
		}
	}
	return labels
}
