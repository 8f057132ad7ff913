package hydra

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/url"
	"path"
	"strings"
)

// maxParents bounds how many directories above a wrong address are looked at for the front page.
const maxParents = 4

// checkFront looks whether the address is that of Hydra's front page, as the one below which Hydra has no page we ask
// for is not: a project's page, a jobset's, or no page at all. Its front page is a list of projects
// (Controller/Root.pm, index).
func (c *Client) checkFront(ctx context.Context, asked string) error {
	base := c.baseURL()
	problem, err := c.notFront(ctx, base)
	if problem == "" || err != nil {
		return err
	}
	e := &NotFrontPageError{URL: shown(base), Asked: asked, Problem: problem}
	for parent := range parents(base) {
		if problem, err := c.notFront(ctx, parent); err == nil && problem == "" {
			e.Front = shown(parent)
			break
		}
	}
	if e.Front == "" && problem == emptyList {
		return nil // a Hydra without projects
	}
	return e
}

// emptyList is what is at the front page of a Hydra without projects, and at its queue while nothing is built.
const emptyList = "there is an empty list, and not of projects"

// parents are the addresses above one, a few at most, the nearest first.
func parents(base *url.URL) iter.Seq[*url.URL] {
	return func(yield func(*url.URL) bool) {
		parent := *base
		for range maxParents {
			if parent.Path == "" {
				return
			}
			above := parent
			if above.Path = strings.TrimRight(path.Dir(parent.Path), "/."); !yield(&above) {
				return
			}
			parent = above
		}
	}
}

// notFront says what is at an address in place of a front page, "" where it is one. An error is not to know.
func (c *Client) notFront(ctx context.Context, base *url.URL) (string, error) {
	problem := ""
	_, err := c.ask(ctx, question{path: "/", base: base, accept: jsonType, read: func(page io.Reader) error {
		problem = "there is the page of something in Hydra, not its list of projects"
		decoder := json.NewDecoder(io.LimitReader(page, buildLimit))
		begins, err := decoder.Token()
		if err != nil || begins != json.Delim('[') {
			return nil
		}
		if !decoder.More() {
			problem = emptyList
			return nil
		}
		var first struct { // Hydra has lists of builds and evaluations, too
			Name    *looseText `json:"name"`
			Jobsets *any       `json:"jobsets"`
		}
		if decoder.Decode(&first) == nil && first.Name != nil && first.Jobsets != nil {
			problem = ""
		}
		return nil
	}})
	var none *missing
	var failed *AnswerError
	switch {
	case errors.As(err, &none):
		return "Hydra answers there: " + none.message, nil
	case errors.As(err, &failed) && failed.Status >= 400 && !failed.Temporary:
		return failed.Problem, nil
	}
	return problem, err
}
