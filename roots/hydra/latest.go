package hydra

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// findLatest answers the two words. For one job Hydra knows the build itself; for several, or a whole jobset, the
// newest evaluation that has them all is looked for among the newest 20, as they must be of one evaluation.
func (c *Client) findLatest(ctx context.Context, q Query) (*Resolution, error) {
	if len(q.Jobs) == 1 && !isListedOnly(q.Jobs[0]) {
		return c.latestOfOne(ctx, q)
	}
	return c.latestOfAll(ctx, q)
}

func (c *Client) latestOfOne(ctx context.Context, q Query) (*Resolution, error) {
	job := q.Jobs[0]
	for _, name := range q.spellings(job) {
		b, err := c.latestBuild(ctx, &q, name)
		var none *missing
		if errors.As(err, &none) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if q.System != "" && b.System != q.System {
			return nil, &SystemError{Job: job, System: q.System, Have: []string{text.Clip(b.System, 40)}, URL: b.URL}
		}
		return c.withEval(ctx, b)
	}
	return c.latestByList(ctx, q)
}

// latestBuild asks for the newest successful build of a job by its name (Base/Controller/ListBuilds.pm), and again
// under the jobset's new name where it was renamed.
func (c *Client) latestBuild(ctx context.Context, q *Query, name string) (Build, error) {
	for range maxRedirects {
		path := fmt.Sprintf("/job/%s/%s/%s/", escape(q.Project), escape(q.Jobset), escape(name)) + q.Revision
		if q.Revision == Latest && q.System != "" {
			path += "-for/" + escape(q.System)
		}
		var renamed string
		b, elsewhere, err := c.buildAt(ctx, path, func(to *url.URL) bool {
			renamed = c.renamed(to, q.Project, q.Jobset)
			return renamed != ""
		})
		if err != nil || elsewhere == nil {
			return b, err
		}
		q.Jobset = renamed
	}
	return Build{}, c.renamedTooOften(q.Project, q.Jobset)
}

// latestByList finds out why Hydra has no latest build under the names tried: another name, another system, no
// such job, no success yet.
func (c *Client) latestByList(ctx context.Context, q Query) (*Resolution, error) {
	evals, err := c.latestEvals(ctx, q.Project, q.Jobset, 1)
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

func (c *Client) withEval(ctx context.Context, b Build) (*Resolution, error) {
	if len(b.Evals) == 0 {
		return &Resolution{Builds: []Build{b}}, nil
	}
	eval, err := c.Evaluation(ctx, slices.Max(b.Evals))
	if err != nil {
		return nil, err
	}
	return &Resolution{Eval: eval, Builds: []Build{b}}, nil
}

// latestOfAll looks for the newest evaluation that has all that is wanted, successfully built. One that lacks a job is
// passed over; where all of them lack one, the newest says what is wrong.
func (c *Client) latestOfAll(ctx context.Context, q Query) (*Resolution, error) {
	evals, err := c.latestEvals(ctx, q.Project, q.Jobset, pageSize)
	if err != nil {
		return nil, err
	}
	none := &NoBuildError{What: q.what(), Word: q.Revision, Looked: len(evals),
		URL: c.link("/jobset/%s/%s", escape(q.Project), escape(q.Jobset))}
	var lacking error
	for _, e := range evals {
		builds, all, err := c.wanted(ctx, q, e)
		if isLacking(err) {
			if lacking == nil {
				lacking = err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if bad := slices.IndexFunc(all, func(b Build) bool { return b.Status != Succeeded }); bad >= 0 {
			if none.Problem == "" {
				none.Problem = "in the newest that has it, " + e.URL + ", " + text.Clip(all[bad].Job, clipped) + " is " + all[bad].state()
			}
			continue
		}
		return &Resolution{Eval: e, Builds: builds}, nil
	}
	if none.Problem == "" && lacking != nil {
		return nil, lacking
	}
	return nil, none
}

// wanted gives the wanted builds of an evaluation, and all that have to have succeeded.
func (c *Client) wanted(ctx context.Context, q Query, e Eval) (builds, all []Build, err error) {
	if q.Revision == Latest {
		builds, err = c.builds(ctx, q, e)
		return builds, builds, err
	}
	if all, err = c.allBuilds(ctx, e.ID); err != nil {
		return nil, nil, err
	}
	builds, err = c.pick(ctx, q, e, all)
	return builds, append(slices.Clone(builds), unfinishedOf(all)...), err
}

// isLacking reports whether an evaluation lacks a wanted job, or has it for another system only.
func isLacking(err error) bool {
	var job *JobNotFoundError
	var system *SystemError
	return errors.As(err, &job) || errors.As(err, &system)
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
