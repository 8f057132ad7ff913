package nixproot

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/boundedtoml"
	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// groupFile is where the lifecycle keeps which buildpacks take part in a build, in their order (CNB Platform
// specification, group.toml).
const groupFile = "group.toml"

const maxGroupFile = 1 << 20

// procfileBuildpacksAfter are the buildpacks that come after the one of that id in this build's order and read the
// Procfile too: their process types replace those of the same name. It is empty where the platform does not say.
func procfileBuildpacksAfter(ctx context.Context, layers, id string) []string {
	var file struct {
		Group []struct{ ID string }
	}
	text, err := regularfile.Read(ctx, filepath.Join(layers, groupFile), maxGroupFile)
	if err == nil {
		_, err = boundedtoml.Decode(text, &file)
	}
	if err != nil {
		return nil
	}
	var after []string
	found := false
	for _, buildpack := range file.Group {
		switch {
		case buildpack.ID == id:
			found = true
		case found && readsProcfile(buildpack.ID) && !slices.Contains(after, buildpack.ID):
			after = append(after, buildpack.ID)
		}
	}
	return after
}

// readsProcfile reports whether a buildpack makes process types of a Procfile, by its name: heroku/procfile,
// paketo-buildpacks/procfile, and Google's, which has another.
func readsProcfile(id string) bool {
	return strings.Contains(strings.ToLower(id), "procfile") || id == "google.config.entrypoint"
}
