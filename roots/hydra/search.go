package hydra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// searchText is what Hydra accepts in a search (Controller/Root.pm, search).
var searchText = regexp.MustCompile(`^[a-zA-Z0-9_\-/.]+`)

// searchLimit is how many builds of either kind are asked for; Hydra gives at most 50.
const searchLimit = 50

// searchJSON is Controller/Root.pm, search; projects and jobsets are of no interest here.
type searchJSON struct {
	Builds *[]buildJSON `json:"builds"`
	ByDrv  []buildJSON  `json:"buildsdrv"`
}

// FindOutput gives the builds that have an output p, newest first; none where Hydra never queued one. It costs a
// request, in which Hydra searches all of its builds.
func (c *Client) FindOutput(ctx context.Context, p storepath.Path) ([]Build, error) {
	return c.findBuilds(ctx, p.HashPart(), func(b Build) bool {
		for _, output := range b.Outputs {
			if output == p {
				return true
			}
		}
		return false
	})
}

// FindNamed gives the newest builds, at most 50, that have an output of p's name under whatever hash.
func (c *Client) FindNamed(ctx context.Context, p storepath.Path) ([]Build, error) {
	// What cannot be searched for is compared below.
	text := searchText.FindString("-" + p.Name())
	return c.findBuilds(ctx, text, func(b Build) bool {
		for _, output := range b.Outputs {
			if output.Name() == p.Name() {
				return true
			}
		}
		return false
	})
}

func (c *Client) findBuilds(ctx context.Context, text string, fits func(Build) bool) ([]Build, error) {
	var got searchJSON
	path := fmt.Sprintf("/search?limit=%d&query=%s", searchLimit, url.QueryEscape(text))
	at, err := c.askJSON(ctx, path, largeBody, &got)
	var none *missing
	if errors.As(err, &none) {
		return nil, &AnswerError{URL: none.url, Status: http.StatusNotFound, Attempts: 1,
			Problem: "it has no search: " + clip(none.message)}
	}
	if err != nil {
		return nil, err
	}
	if got.Builds == nil {
		return nil, &AnswerError{URL: shown(at), Status: http.StatusOK, Attempts: 1,
			Problem: `its JSON is not what Hydra's API promises: a search without "builds"`}
	}
	var found []Build
	for _, j := range *got.Builds {
		if b := c.build(j); fits(b) {
			found = append(found, b)
		}
	}
	return found, nil
}

// Explain says of builds that did not succeed what Hydra knows: the steps that failed, with their logs.
func (c *Client) Explain(ctx context.Context, failed ...Build) error { return c.explain(ctx, failed) }

// Evaluation gives an evaluation by its number.
func (c *Client) Evaluation(ctx context.Context, id int64) (Eval, error) {
	var j evalJSON
	if _, err := c.askJSON(ctx, fmt.Sprintf("/eval/%d", id), largeBody, &j); err != nil {
		return Eval{}, err
	}
	return c.eval(j), nil
}

// Source is a repository at a commit that an evaluation was made from.
type Source struct {
	// Input is the jobset's name for it, or "flake"; URI is as the jobset has it, Revision the full commit.
	Input, URI, Revision string
}

// Sources are the repositories of an evaluation, by name.
func (e Eval) Sources() []Source {
	var all []Source
	for _, s := range e.sources(false) {
		all = append(all, Source{Input: s.name, URI: s.uri, Revision: s.revision})
	}
	return all
}

// RepositoryURL is what Hydra clones of an input's URI, which may be followed by a branch and options: the text whose
// hash is in the source's name.
func (s Source) RepositoryURL() string {
	if fields := strings.Fields(s.URI); len(fields) > 0 {
		return fields[0]
	}
	return ""
}
