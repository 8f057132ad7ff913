package hydra

import (
	"context"
	"errors"
	"fmt"
)

// Resolution is what Hydra has for a query.
type Resolution struct {
	Eval   Eval    // the zero one where Hydra does not tell it
	Builds []Build // in the order of the query's jobs; of a whole jobset, by name
	// Revision is the commit of the source that was evaluated, "" where that may be one of several.
	Revision string
}

// Resolve finds the evaluation of a revision and takes the wanted jobs' builds, each of which has succeeded and has
// store paths for outputs. It waits for what is not there yet as long as the query allows.
func (c *Client) Resolve(ctx context.Context, q Query) (*Resolution, error) {
	q, err := q.check()
	if err != nil {
		return nil, err
	}
	w := c.newWait(q.Wait)
	r, err := c.findWaiting(ctx, q, w)
	if err != nil {
		return nil, err
	}
	if err := c.finish(ctx, r, w); err != nil {
		return nil, err
	}
	r.Revision = r.Eval.revision(q)
	for _, b := range r.Builds {
		if err := b.checkOutputs(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// find looks for a revision on the given number of pages.
func (c *Client) find(ctx context.Context, q Query, pages int) (*Resolution, error) {
	if q.wantsLatest() {
		return c.findLatest(ctx, q)
	}
	eval, err := c.search(ctx, q, pages)
	if err != nil {
		return nil, err
	}
	builds, err := c.builds(ctx, q, eval)
	if err != nil {
		return nil, err
	}
	return &Resolution{Eval: eval, Builds: builds}, nil
}

// findWaiting repeats find while what is missing may still come.
func (c *Client) findWaiting(ctx context.Context, q Query, w *wait) (*Resolution, error) {
	pages := c.maxPages
	var first *RevisionNotFoundError
	for {
		r, err := c.find(ctx, q, pages)
		if err == nil {
			return r, nil
		}
		var unseen *RevisionNotFoundError
		var unbuilt *NoBuildError
		var failed *AnswerError
		var line string
		switch {
		case errors.As(err, &unseen) && unseen.Disabled:
			return nil, err
		case errors.As(err, &unseen):
			line = fmt.Sprintf("waiting for Hydra to evaluate %s: %s", short(q.Revision), unseen.URL)
			if unseen.Hint != "" {
				line = fmt.Sprintf("waiting for Hydra to evaluate %s (%s): %s", short(q.Revision), unseen.Hint, unseen.URL)
			}
			if first == nil {
				first = unseen
			}
			unseen.Looked, unseen.All, unseen.Oldest = first.Looked, first.All, first.Oldest
			pages = 1 // whatever comes now comes on the first page
		case errors.As(err, &unbuilt):
			line = fmt.Sprintf("waiting for a successful build of %s: %s", unbuilt.What, unbuilt.URL)
		case errors.As(err, &failed) && failed.Temporary && w.started():
			line = "Hydra does not answer at the moment: " + failed.Error()
		default:
			return nil, err
		}
		if w.limit <= 0 {
			return nil, err
		}
		if !w.again(line) {
			return nil, &NotFinishedError{Waited: w.waited(), Cause: err}
		}
		if err := w.pause(ctx); err != nil {
			return nil, fmt.Errorf("waiting for Hydra's evaluation: %w", err)
		}
	}
}

// finish waits for unfinished builds and refuses failed ones.
func (c *Client) finish(ctx context.Context, r *Resolution, w *wait) error {
	for {
		if failed := failedOf(r.Builds); len(failed) > 0 {
			return c.Explain(ctx, failed...)
		}
		unfinished := unfinishedOf(r.Builds)
		if len(unfinished) == 0 {
			return nil
		}
		if w.limit <= 0 || !w.again(c.buildLine(ctx, w, unfinished, len(r.Builds))) {
			return &NotFinishedError{Waited: w.waited(), Builds: unfinished}
		}
		if err := w.pause(ctx); err != nil {
			return fmt.Errorf("waiting for Hydra's build: %w", err)
		}
		if err := c.refresh(ctx, r, unfinished); err != nil {
			var failed *AnswerError
			if !errors.As(err, &failed) || !failed.Temporary {
				return err
			}
			w.say("Hydra does not answer at the moment: " + failed.Error())
		}
	}
}

// refresh asks for the unfinished builds again: a few one by one, many by their evaluation.
func (c *Client) refresh(ctx context.Context, r *Resolution, unfinished []Build) error {
	fresh := map[int64]Build{}
	if len(unfinished) > 4 && len(unfinished)*10 > r.Eval.Builds {
		all, err := c.allBuilds(ctx, r.Eval.ID)
		if err != nil {
			return err
		}
		for _, b := range all {
			fresh[b.ID] = b
		}
	} else {
		for _, old := range unfinished {
			b, err := c.Build(ctx, old.ID)
			if err != nil {
				return err
			}
			fresh[b.ID] = b
		}
	}
	for i, old := range r.Builds {
		if b, ok := fresh[old.ID]; ok {
			r.Builds[i] = b
		}
	}
	return nil
}

func failedOf(builds []Build) []Build {
	var failed []Build
	for _, b := range builds {
		if b.Finished && b.Status != Succeeded {
			failed = append(failed, b)
		}
	}
	return failed
}

func unfinishedOf(builds []Build) []Build {
	var unfinished []Build
	for _, b := range builds {
		if !b.Finished {
			unfinished = append(unfinished, b)
		}
	}
	return unfinished
}
