package hydra

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// findLatest answers the two words. For one job Hydra knows the build itself; for several, or a whole jobset, the
// newest evaluation that has them all is looked for among the newest 20, as they must be of one evaluation.
func (c *Client) findLatest(ctx context.Context, q Query) (*Resolution, error) {
	if len(q.Jobs) == 1 {
		return c.latestOfOne(ctx, q)
	}
	return c.latestOfAll(ctx, q)
}

func (c *Client) latestOfOne(ctx context.Context, q Query) (*Resolution, error) {
	job := q.Jobs[0]
	for _, name := range q.spellings(job) {
		path := fmt.Sprintf("/job/%s/%s/%s/", escape(q.Project), escape(q.Jobset), escape(name)) + q.Revision
		if q.Revision == Latest && q.System != "" {
			path += "-for/" + escape(q.System)
		}
		b, err := c.buildAt(ctx, path)
		var none *missing
		if errors.As(err, &none) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if q.System != "" && b.System != q.System {
			return nil, &SystemError{Job: job, System: q.System, Have: []string{clipTo(b.System, 40)}, URL: b.URL}
		}
		return c.withEval(ctx, q, b)
	}
	return c.latestByList(ctx, q)
}

// latestByList finds out why Hydra has no latest build under the names tried: another name, another system, no
// such job, no success yet.
func (c *Client) latestByList(ctx context.Context, q Query) (*Resolution, error) {
	evals, err := c.LatestEvals(ctx, q.Project, q.Jobset, 1)
	if err != nil {
		return nil, err
	}
	none := &NoBuildError{What: q.what(), Word: q.Revision,
		URL: c.link("/jobset/%s/%s", escape(q.Project), escape(q.Jobset))}
	if len(evals) == 0 {
		none.Problem = "Hydra lists no evaluation of the jobset"
		return nil, none
	}
	builds, err := c.builds(ctx, q, evals[0])
	if err != nil {
		return nil, err
	}
	if b := builds[0]; !slices.Contains(q.spellings(q.Jobs[0]), b.Job) {
		q.Jobs = []string{b.Job}
		return c.latestOfOne(ctx, q)
	}
	none.Problem = "the newest, " + builds[0].URL + ", is " + builds[0].state()
	return nil, none
}

func (c *Client) withEval(ctx context.Context, q Query, b Build) (*Resolution, error) {
	r := &Resolution{Builds: []Build{b}}
	if len(b.Evals) == 0 {
		return r, nil
	}
	var j evalJSON
	if _, err := c.askJSON(ctx, fmt.Sprintf("/eval/%d", slices.Max(b.Evals)), largeBody, &j); err != nil {
		return nil, err
	}
	r.Evaluation = c.eval(j)
	r.Eval, r.Revision = int(j.ID), r.Evaluation.Revision(q.GitURL)
	return r, nil
}

func (c *Client) latestOfAll(ctx context.Context, q Query) (*Resolution, error) {
	evals, err := c.LatestEvals(ctx, q.Project, q.Jobset, pageSize)
	if err != nil {
		return nil, err
	}
	none := &NoBuildError{What: q.what(), Word: q.Revision, Looked: len(evals),
		URL: c.link("/jobset/%s/%s", escape(q.Project), escape(q.Jobset))}
	for i, e := range evals {
		all, err := c.allBuilds(ctx, e.ID)
		if err != nil {
			return nil, err
		}
		builds, err := c.pick(ctx, q, e, all)
		if err != nil && i == 0 {
			return nil, err
		}
		if err != nil {
			continue // an older evaluation may lack a job
		}
		wanted := builds
		if q.Revision == LatestFinished {
			wanted = append(slices.Clone(builds), unfinishedOf(all)...)
		}
		if bad := slices.IndexFunc(wanted, func(b Build) bool { return b.Status != Succeeded }); bad >= 0 {
			if i == 0 {
				none.Problem = "in the newest, " + e.URL + ", " + clip(wanted[bad].Job) + " is " + wanted[bad].state()
			}
			continue
		}
		return &Resolution{Eval: int(e.ID), Evaluation: e, Revision: e.Revision(q.GitURL), Builds: builds}, nil
	}
	return nil, none
}

func (q Query) what() string {
	name := q.Project + "/" + q.Jobset
	if len(q.Jobs) > 0 {
		name += "/" + strings.Join(q.Jobs, " ")
	}
	return name
}

// state is the build's state in words that follow "is".
func (b Build) state() string {
	if b.Finished {
		return "finished (" + b.Status.String() + ")"
	}
	return Unfinished.String()
}
