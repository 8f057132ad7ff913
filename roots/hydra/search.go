package hydra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// searchText is what Hydra accepts in a search (Controller/Root.pm, search).
var searchText = regexp.MustCompile(`^[a-zA-Z0-9_\-/.]+`)

// searchLimit is how many builds of either kind are asked for; Hydra gives at most 50.
const searchLimit = 50

// searchJSON is Controller/Root.pm, search; projects and jobsets are of no interest here.
type searchJSON struct {
	Builds, ByDrv []Build

	given bool // there is a list of builds
}

func (j *searchJSON) read(c *Client, s *stream) error {
	return s.object(func(name string) error {
		switch name {
		case "builds":
			j.given = true
			return c.readBuilds(s, func(b Build) { j.Builds = append(j.Builds, b) })
		case "buildsdrv":
			return c.readBuilds(s, func(b Build) { j.ByDrv = append(j.ByDrv, b) })
		}
		return s.skip()
	})
}

// FindDerivation gives the builds of a derivation, newest first; none where Hydra never queued one. Of all that a search
// looks through only derivations have an index (sql/hydra.sql, IndexTrgmBuildsOnDrvpath).
func (c *Client) FindDerivation(ctx context.Context, drv storepath.Path) ([]Build, error) {
	got, err := c.searchFor(ctx, searchText.FindString(drv.Base())) // its hash is enough
	if err != nil {
		return nil, err
	}
	return fitting(got.ByDrv, func(b Build) bool { return b.DrvPath == drv.String() }), nil
}

// FindNamed gives the newest builds, at most 50, that have an output of p's name under whatever hash. It costs Hydra a
// look at every output of every build, for which it may take too long: a SearchTimeoutError.
func (c *Client) FindNamed(ctx context.Context, p storepath.Path) ([]Build, error) {
	// What cannot be searched for is compared below.
	got, err := c.searchFor(ctx, searchText.FindString("-"+p.Name()))
	if err != nil {
		return nil, err
	}
	return fitting(got.Builds, func(b Build) bool {
		for _, output := range b.Outputs {
			if output.Name() == p.Name() {
				return true
			}
		}
		return false
	}), nil
}

func fitting(list []Build, fits func(Build) bool) []Build {
	return slices.DeleteFunc(list, func(b Build) bool { return !fits(b) })
}

// searchFor puts one question, once: what took Hydra too long would take it as long again, and costs all of its users.
func (c *Client) searchFor(ctx context.Context, text string) (searchJSON, error) {
	var got searchJSON
	if err := c.restSearch(); err != nil {
		return got, err
	}
	at, err := c.askJSON(ctx, question{
		path: fmt.Sprintf("/search?limit=%d&query=%s", searchLimit, url.QueryEscape(text)), once: true,
	}, func(s *stream) error {
		got = searchJSON{}
		return got.read(c, s)
	})
	var none *missing
	var failed *AnswerError
	switch {
	case errors.As(err, &none) && none.message == noSuchPage:
		if err := c.checkFront(ctx, none.url); err != nil {
			return got, err
		}
		fallthrough
	case errors.As(err, &none):
		return got, &AnswerError{URL: none.url, Status: http.StatusNotFound, Attempts: 1,
			Problem: "it has no search: " + none.message}
	case errors.As(err, &failed) && tookTooLong(failed):
		return got, c.searchTimedOut(&SearchTimeoutError{Text: text, Problem: failed.Problem})
	case err != nil:
		return got, err
	case !got.given:
		return got, &AnswerError{URL: shown(at), Status: http.StatusOK, Attempts: 1,
			Problem: `its JSON is not what Hydra's API promises: a search without "builds"`}
	}
	return got, nil
}

// tookTooLong reports whether a search was given up: by the database, by a proxy, or by us.
func tookTooLong(e *AnswerError) bool {
	return timedOutThere(e) || e.Status == http.StatusGatewayTimeout || e.Status == 0 && e.Problem == noAnswer
}

// restSearch is the last search's timeout, for a minute.
func (c *Client) restSearch() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastTimeout != nil && time.Since(c.lastTimeoutAt) < searchRest {
		return c.lastTimeout
	}
	return nil
}

func (c *Client) searchTimedOut(e *SearchTimeoutError) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastTimeout, c.lastTimeoutAt = e, time.Now()
	return e
}

// Evaluation gives an evaluation by its number.
func (c *Client) Evaluation(ctx context.Context, id int64) (Eval, error) {
	var j evalJSON
	_, err := c.askJSON(ctx, question{path: fmt.Sprintf("/eval/%d", id)}, func(s *stream) error {
		j = evalJSON{}
		return s.value(thingLimit, &j)
	})
	switch {
	case err != nil:
		return Eval{}, err
	case int64(j.ID) != id:
		return Eval{}, c.another(fmt.Sprintf("/eval/%d", id), fmt.Sprintf("evaluation %d", j.ID))
	}
	return c.eval(j), nil
}

// DeepClone gives what an input of a jobset is told to fetch, where that is a clone with its history, which keeps its .git: a
// git input whose value has a third word that is no option (NixOS/hydra: Plugin/GitInput.pm, _parseValue). ok is false of
// every other input.
func (c *Client) DeepClone(ctx context.Context, project, jobset, input string) (value string, ok bool, err error) {
	var j struct {
		Inputs map[string]struct {
			Type  looseText `json:"type"`
			Value looseText `json:"value"`
		} `json:"inputs"`
	}
	if err := c.getJSON(ctx, fmt.Sprintf("/jobset/%s/%s", escape(project), escape(jobset)), &j); err != nil {
		return "", false, err
	}
	value = string(j.Inputs[input].Value)
	words := strings.Fields(value)
	return value, j.Inputs[input].Type == "git" && len(words) > 2 && !strings.Contains(words[2], "="), nil
}
