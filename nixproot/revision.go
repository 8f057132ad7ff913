package nixproot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/boundedtoml"
	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// projectMetadata is where a platform says in the layers directory what the source is (CNB Platform specification,
// project-metadata.toml).
const projectMetadata = "project-metadata.toml"

const (
	maxProjectMetadata = 1 << 20
	maxRepositoryURL   = 2048
)

// provenance is what one origin says about where a source comes from.
type provenance struct {
	nixinstall.Identity
	// origin is a file or a variable, as it stands in the log.
	origin string
}

// platformVariable is a variable in which a platform says which commit it builds, and those of which the repository's
// address is made, the first that are all set.
type platformVariable struct {
	platform, revision string
	repository         []string // templates, with ${NAME} for a variable
}

// platformVariables are looked at in this order. Who runs a build on one of these hands them on: the lifecycle gives
// buildpacks no more of its own environment than the platform directory says.
var platformVariables = []platformVariable{
	{platform: "Heroku", revision: "SOURCE_VERSION"},
	{platform: "GitHub Actions", revision: "GITHUB_SHA", repository: []string{
		"${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}", "https://github.com/${GITHUB_REPOSITORY}",
	}},
	{platform: "GitLab CI", revision: "CI_COMMIT_SHA", repository: []string{"${CI_PROJECT_URL}", "${CI_REPOSITORY_URL}"}},
}

// findIdentity finds out which commit of which repository the source is: as .git says, else as the platform says in
// project-metadata.toml or in its variables. None of them is trusted: what is no commit is passed
// over, with a line in the log. BP_NIX_GIT_REV and BP_NIX_GIT_URL, which come before all of them, are package
// roots' to apply.
func (b Build) findIdentity(ctx context.Context, in *inputs, lookup Lookup) (nixinstall.Identity, error) {
	if len(in.config.StorePaths) > 0 {
		return nixinstall.Identity{}, nil // where the source is from does not matter
	}
	origins := []func() (provenance, error){
		func() (provenance, error) {
			id, _, err := nixinstall.GitIdentity(ctx, in.source)
			if err != nil {
				err = fmt.Errorf("the source's .git cannot be read, and so its revision is not known: %w", err)
			}
			return provenance{Identity: id, origin: ".git"}, err
		},
		func() (provenance, error) { return readProjectMetadata(ctx, in.layersRoot) },
	}
	for _, v := range platformVariables {
		origins = append(origins, func() (provenance, error) { return v.read(lookup) })
	}
	var found provenance
	for _, origin := range origins {
		next, err := origin()
		switch {
		case ctx.Err() != nil:
			return nixinstall.Identity{}, ctx.Err()
		case err != nil:
			b.Logger.Bodyf("%s", capitalized(oneLine(err)))
		case found.Rev == "":
			found = next
		case found.URL == "" && next.Rev == found.Rev:
			found.URL = next.URL
		}
	}
	b.logIdentity(in.config.Settings, found)
	return found.Identity, nil
}

// logIdentity says which revision is taken, and from where.
func (b Build) logIdentity(settings roots.Settings, found provenance) {
	revision, origin, repository := found.Rev, found.origin, found.URL
	if settings.GitRev != "" {
		revision, origin = settings.GitRev, "BP_NIX_GIT_REV"
	}
	if settings.GitURL != "" {
		repository = settings.GitURL
	}
	if revision == "" {
		return
	}
	if repository != "" {
		repository = " of " + redact.Text(repository)
	}
	b.Logger.Bodyf("Revision %s%s, as %s says", revision, repository, origin)
}

// readProjectMetadata reads what a platform says in the layers directory; nothing where it says nothing of git.
func readProjectMetadata(ctx context.Context, layers string) (provenance, error) {
	o := provenance{origin: projectMetadata}
	text, err := regularfile.Read(ctx, filepath.Join(layers, projectMetadata), maxProjectMetadata)
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return o, fmt.Errorf("the platform's %s cannot be read: %w", projectMetadata, err)
	}
	var file struct {
		Source struct {
			Version  struct{ Commit string }
			Metadata struct{ Repository, URL, Revision string }
		}
	}
	if _, err := boundedtoml.Decode(text, &file); err != nil {
		return o, fmt.Errorf("the platform's %s cannot be read: %w", projectMetadata, err)
	}
	version, metadata := file.Source.Version, file.Source.Metadata
	if version.Commit == "" && hydra.IsCommit(metadata.Revision) {
		version.Commit = metadata.Revision
	}
	if version.Commit == "" {
		return o, nil // of an image or an archive, whose addresses are no repository's
	}
	if metadata.Repository == "" {
		metadata.Repository = metadata.URL // pack
	}
	return o.of(version.Commit, metadata.Repository)
}

// read asks one platform's variables.
func (v platformVariable) read(lookup Lookup) (provenance, error) {
	o := provenance{origin: v.revision + " (" + v.platform + ")"}
	revision, _ := lookup(v.revision)
	if revision = strings.TrimSpace(revision); revision == "" {
		return o, nil
	}
	for _, template := range v.repository {
		if repository, ok := expand(template, lookup); ok {
			return o.of(revision, repository)
		}
	}
	return o.of(revision, "")
}

// expand puts variables into a template; ok is false where one is not set.
func expand(template string, lookup Lookup) (text string, ok bool) {
	for {
		before, rest, found := strings.Cut(template, "${")
		text += before
		if !found {
			return text, true
		}
		name, after, _ := strings.Cut(rest, "}")
		value, _ := lookup(name)
		if value = strings.TrimSpace(value); value == "" {
			return "", false
		}
		text, template = text+value, after
	}
}

// of checks what an origin says: a whole commit, and an address without its login.
func (o provenance) of(revision, repository string) (provenance, error) {
	if revision = strings.ToLower(revision); !hydra.IsCommit(revision) {
		return provenance{}, fmt.Errorf("the revision in %s is passed over, as %s is no commit", o.origin,
			strconv.Quote(revision[:min(len(revision), 80)]))
	}
	o.Rev = revision
	if repository = strings.TrimSpace(repository); isAddress(repository) {
		o.URL = nixinstall.WithoutCredentials(repository)
	}
	return o, nil
}

// isAddress reports whether s may be the address of a repository.
func isAddress(s string) bool {
	return s != "" && len(s) <= maxRepositoryURL && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == 0x7f || c > 0xff })
}

// capitalized begins a text with a capital, as lines of the log do.
func capitalized(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
