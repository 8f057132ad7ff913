package hydra

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const (
	// listedWhole is the size up to which all builds of an evaluation are asked for at once: Hydra makes several
	// database queries for each, so a single job of a large evaluation is looked up by name.
	listedWhole = 200
	// listedToExplain is the size up to which they are listed to say which jobs there are.
	listedToExplain = 5000
	lookupsAtOnce   = 4
)

// builds gives the wanted builds of an evaluation, in the order they were asked for.
func (c *Client) builds(ctx context.Context, q Query, e Eval) ([]Build, error) {
	if len(q.Jobs) == 0 || e.Builds <= listedWhole || slices.ContainsFunc(q.Jobs, isListedOnly) {
		all, err := c.allBuilds(ctx, e.ID)
		if err != nil {
			return nil, err
		}
		return c.pick(ctx, q, e, all)
	}
	found, err := c.lookUp(ctx, q, e)
	if err != nil || found != nil {
		return found, err
	}
	if e.Builds > listedToExplain {
		none := &JobNotFoundError{Job: strings.Join(q.Jobs, " "), URL: e.URL, EvalError: c.evalError(ctx, q, e, q.Jobs[0])}
		if err := c.otherSystems(ctx, q, e); err != nil && none.EvalError == "" {
			return nil, err
		}
		return nil, none
	}
	all, err := c.allBuilds(ctx, e.ID)
	if err != nil {
		return nil, err
	}
	return c.pick(ctx, q, e, all)
}

// commonSystems are those that a jobset is likely to build for.
func commonSystems() []string { return []string{"x86_64-linux", "aarch64-linux", "aarch64-darwin"} }

// otherSystems looks in an evaluation that is too large to be listed whether a wanted job is there for other systems.
func (c *Client) otherSystems(ctx context.Context, q Query, e Eval) error {
	for _, job := range q.Jobs {
		found := &SystemError{Job: job, System: q.System, URL: e.URL}
		for _, system := range commonSystems() {
			if system == q.System {
				continue
			}
			name := cmp.Or(forSystem(job, q.System, system), job)
			other := Query{Project: q.Project, Jobset: q.Jobset, Jobs: []string{name}, System: system}
			if b, err := c.lookUpOne(ctx, other, e, name); err == nil && b.System != "" {
				found.Have = appendUnique(found.Have, text.Clip(b.System, 40))
			}
		}
		if len(found.Have) > 0 && q.System != "" {
			return found
		}
	}
	return nil
}

// allBuilds is one request: each build comes with its outputs.
func (c *Client) allBuilds(ctx context.Context, eval int64) ([]Build, error) {
	path := fmt.Sprintf("/eval/%d/builds", eval)
	builds, err := c.listBuilds(ctx, path)
	for _, b := range builds {
		if len(b.Evals) > 0 && !slices.Contains(b.Evals, eval) {
			return nil, c.another(path, fmt.Sprintf("build %d, which is not of evaluation %d", b.ID, eval))
		}
	}
	return builds, err
}

// another is an answer to another question, as a proxy that mixes them up gives.
func (c *Client) another(path, what string) error {
	return &AnswerError{URL: c.link("%s", path), Status: http.StatusOK, Attempts: 1, Problem: "it answers with " + what}
}

func (c *Client) listBuilds(ctx context.Context, path string) ([]Build, error) {
	var builds []Build
	_, err := c.askJSON(ctx, question{path: path}, func(s *stream) error {
		builds = nil
		return c.readBuilds(s, func(b Build) { builds = append(builds, b) })
	})
	return builds, err
}

// Build asks for one build.
func (c *Client) Build(ctx context.Context, id int64) (Build, error) {
	var j buildJSON
	err := c.getJSON(ctx, fmt.Sprintf("/build/%d", id), &j)
	var none *missing
	if errors.As(err, &none) {
		return Build{}, &BuildDeletedError{ID: id, URL: c.link("/build/%d", id), Message: none.message}
	}
	switch {
	case err != nil:
		return Build{}, err
	case int64(j.ID) != id:
		return Build{}, c.another(fmt.Sprintf("/build/%d", id), fmt.Sprintf("build %d", j.ID))
	}
	return c.build(j), nil
}

// constituents are the builds that an aggregate build stands for, none for any other build.
func (c *Client) constituents(ctx context.Context, id int64) ([]Build, error) {
	return c.listBuilds(ctx, fmt.Sprintf("/build/%d/constituents", id))
}

var buildPath = regexp.MustCompile(`/build/([0-9]+)(/|$)`)

func buildID(u *url.URL) int64 {
	found := buildPath.FindStringSubmatch(u.Path)
	if found == nil {
		return 0
	}
	id, err := strconv.ParseInt(found[1], 10, 64)
	if err != nil {
		return 0
	}
	return id
}

// buildAt follows a redirect that Hydra answers a build by. Only the number is taken from it: behind a proxy, Hydra's
// idea of its own address is often wrong. stop may end it at another redirect, which is given then.
func (c *Client) buildAt(ctx context.Context, path string, stop func(*url.URL) bool) (Build, *url.URL, error) {
	got, err := c.ask(ctx, question{path: path, accept: jsonType,
		stop: func(to *url.URL) bool { return buildID(to) > 0 || stop != nil && stop(to) }})
	switch {
	case err != nil:
		return Build{}, nil, err
	case got.location == nil:
		return Build{}, nil, &AnswerError{URL: shown(got.url), Status: 200, Attempts: 1,
			Problem: "it does not redirect to a build, as Hydra's API promises"}
	case buildID(got.location) == 0:
		return Build{}, got.location, nil
	}
	b, err := c.Build(ctx, buildID(got.location))
	return b, nil, err
}

// spellings are the names a job may have in Hydra, likeliest first.
func (q Query) spellings(job string) []string {
	if q.System == "" || strings.Contains("."+job+".", "."+q.System+".") {
		return []string{job}
	}
	return []string{job, job + "." + q.System, q.System + "." + job}
}

// lookUp finds jobs by name, several at once; nil without an error means that one of them is not to be found so.
func (c *Client) lookUp(ctx context.Context, q Query, e Eval) ([]Build, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	builds, errs := make([]Build, len(q.Jobs)), make([]error, len(q.Jobs))
	places := make(chan struct{}, lookupsAtOnce)
	var group sync.WaitGroup
	for i, job := range q.Jobs {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			if builds[i], errs[i] = c.lookUpOne(ctx, q, e, job); errs[i] != nil {
				cancel()
			}
		})
	}
	group.Wait()
	if err := firstCause(errs); err != nil {
		var none *missing
		if errors.As(err, &none) {
			return nil, nil
		}
		return nil, err
	}
	return unique(builds), nil
}

// firstCause prefers the error that made the others be cancelled.
func firstCause(errs []error) error {
	var first error
	for _, err := range errs {
		if err != nil && (first == nil || errors.Is(first, context.Canceled)) {
			first = err
		}
	}
	return first
}

func (c *Client) lookUpOne(ctx context.Context, q Query, e Eval, job string) (Build, error) {
	var none *missing
	var err error
	var other *Build
	for _, name := range q.spellings(job) {
		var b Build
		b, _, err = c.buildAt(ctx, fmt.Sprintf("/eval/%d/job/%s", e.ID, escape(name)), nil)
		if err == nil && (q.System == "" || b.System == q.System) {
			return b, nil
		}
		if err == nil {
			other = &b
			continue
		}
		if !errors.As(err, &none) {
			return Build{}, err
		}
	}
	if other != nil {
		return Build{}, &SystemError{Job: job, System: q.System, Have: []string{text.Clip(other.System, 40)}, URL: other.URL}
	}
	return Build{}, err
}

// stem is a job's name without the component that names its system: "app" of "app.x86_64-linux".
func (b Build) stem() string {
	parts := strings.Split(b.Job, ".")
	if i := slices.Index(parts, b.System); i >= 0 && len(parts) > 1 {
		return strings.Join(slices.Delete(parts, i, i+1), ".")
	}
	return b.Job
}

// pick chooses the wanted builds out of all.
func (c *Client) pick(ctx context.Context, q Query, e Eval, all []Build) ([]Build, error) {
	if len(q.Jobs) == 0 {
		return wholeJobset(q, e, all)
	}
	var picked []Build
	for _, job := range q.Jobs {
		b, err := pickOne(q, e, all, job)
		var none *JobNotFoundError
		if errors.As(err, &none) {
			none.EvalError = c.evalError(ctx, q, e, job)
			if have := systemsOf(q, all, job); len(have) > 0 && none.EvalError == "" {
				err = &SystemError{Job: job, System: q.System, Have: have, URL: e.URL}
			}
		}
		if err != nil {
			return nil, err
		}
		picked = append(picked, b)
	}
	return unique(picked), nil
}

// unique gives each build once, in the order of the first: a job may be named twice, or with and without its system.
func unique(builds []Build) []Build {
	var all []Build
	for _, b := range builds {
		if !slices.ContainsFunc(all, func(have Build) bool { return have.ID == b.ID }) {
			all = append(all, b)
		}
	}
	return all
}

func pickOne(q Query, e Eval, all []Build, job string) (Build, error) {
	var systems []string
	for _, name := range []func(Build) string{func(b Build) string { return b.Job }, Build.stem} {
		for _, b := range all {
			if name(b) != job {
				continue
			}
			if q.System == "" || b.System == q.System {
				return b, nil
			}
			systems = appendUnique(systems, text.Clip(b.System, 40))
		}
	}
	if len(systems) > 0 {
		slices.Sort(systems)
		return Build{}, &SystemError{Job: job, System: q.System, Have: systems, URL: e.URL}
	}
	names := make([]string, 0, len(all))
	for _, b := range all {
		names = append(names, b.Job)
	}
	near, more := nearest(job, names)
	return Build{}, &JobNotFoundError{Job: job, URL: e.URL, Have: near, More: more}
}

// systemsOf are the others for which there is a job that differs from the wanted one in the system in its name only.
func systemsOf(q Query, all []Build, job string) []string {
	var systems []string
	for _, b := range all {
		if b.System != q.System && b.Job == forSystem(job, q.System, b.System) {
			systems = appendUnique(systems, text.Clip(b.System, 40))
		}
	}
	slices.Sort(systems)
	return systems
}

// forSystem is what a job with a system in its name is called for another one, "" where it has none.
func forSystem(job, system, other string) string {
	parts := strings.Split(job, ".")
	i := slices.Index(parts, system)
	if i < 0 {
		return ""
	}
	parts[i] = other
	return strings.Join(parts, ".")
}

func wholeJobset(q Query, e Eval, all []Build) ([]Build, error) {
	var picked []Build
	var systems []string
	for _, b := range all {
		if q.System == "" || b.System == q.System {
			picked = append(picked, b)
		}
		systems = appendUnique(systems, text.Clip(b.System, 40))
	}
	if len(picked) == 0 {
		slices.Sort(systems)
		return nil, &SystemError{System: q.System, Have: systems, URL: e.URL}
	}
	sort.Slice(picked, func(i, j int) bool { return picked[i].Job < picked[j].Job })
	return picked, nil
}
