package hydra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

const (
	pageSize   = 20 // Controller/Jobset.pm, evals_GET
	listedSeen = 5
)

// LatestEvals gives the newest n evaluations of a jobset that changed a build, newest first; fewer where there are
// fewer. It costs a request per 20.
func (c *Client) LatestEvals(ctx context.Context, project, jobset string, n int) ([]Eval, error) {
	q := Query{Project: project, Jobset: jobset}
	if err := q.checkNames(); err != nil {
		return nil, err
	}
	var evals []Eval
	pages := c.pages(q, c.maxPages)
	for pages.more && len(evals) < n {
		page, err := pages.next(ctx)
		if err != nil {
			return nil, err
		}
		evals = append(evals, page...)
	}
	return firstOf(evals, n), nil
}

// pager reads the evaluations of a jobset page by page, newest first, each evaluation once.
type pager struct {
	client          *Client
	project, jobset string
	limit, page     int  // pages to read at most, and read last
	more, all       bool // another page may be read; there is none
	seen            map[int64]bool
}

func (c *Client) pages(q Query, limit int) *pager {
	return &pager{client: c, limit: limit, project: q.Project, jobset: q.Jobset, more: true, seen: map[int64]bool{}}
}

// next reads a page. While it is read, new evaluations may push known ones onto it: those are left out.
func (p *pager) next(ctx context.Context) ([]Eval, error) {
	c, page := p.client, p.page+1
	var got evalsJSON
	at, err := c.askJSON(ctx, fmt.Sprintf("/jobset/%s/%s/evals?page=%d", escape(p.project), escape(p.jobset), page),
		largeBody, &got)
	var none *missing
	if errors.As(err, &none) {
		return nil, c.noSuchJobset(ctx, p.project, p.jobset, none.message)
	}
	if err != nil {
		return nil, err
	}
	p.follow(at)
	p.page = page
	listed := nextPage(string(got.Next)) > page && len(*got.Evals) > 0
	p.all = !listed
	p.more = listed && page < p.limit
	var evals []Eval
	for _, j := range *got.Evals {
		if j.ID <= 0 {
			return nil, &AnswerError{URL: shown(at), Status: http.StatusOK, Attempts: 1,
				Problem: `its JSON is not what Hydra's API promises: it has an evaluation without "id"`}
		}
		if !p.seen[int64(j.ID)] {
			p.seen[int64(j.ID)] = true
			evals = append(evals, c.eval(j))
		}
	}
	return evals, nil
}

var evalsPath = regexp.MustCompile(`/jobset/([^/]+)/([^/]+)/evals$`)

// follow keeps to a jobset's new name, to which Hydra redirects, so that it redirects once only.
func (p *pager) follow(at *url.URL) {
	found := evalsPath.FindStringSubmatch(at.Path)
	if found == nil || found[1] != p.project || found[2] == p.jobset || !jobsetName.MatchString(found[2]) {
		return
	}
	p.client.log("Hydra has renamed jobset %s to %s", p.jobset, found[2])
	p.jobset = found[2]
}

// nextPage reads the number out of "?page=2"; everything else about a next page is made here, so that an answer
// cannot send the client elsewhere.
func nextPage(next string) int {
	u, err := url.Parse(next)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(u.Query().Get("page"))
	if err != nil {
		return 0
	}
	return n
}

// search finds the newest evaluation of a revision.
func (c *Client) search(ctx context.Context, q Query, limit int) (Eval, error) {
	pages := c.pages(q, limit)
	var all []Eval
	for pages.more {
		evals, err := pages.next(ctx)
		if err != nil {
			return Eval{}, err
		}
		var found []Eval
		var full []string
		for _, e := range evals {
			if revision := e.matches(q); revision != "" {
				found = append(found, e)
				full = appendUnique(full, revision)
			}
		}
		if len(full) > 1 {
			return Eval{}, &AmbiguousRevisionError{Revision: q.Revision, Have: full}
		}
		if len(found) > 0 {
			return found[0], nil
		}
		all = append(all, evals...)
	}
	return Eval{}, c.notFound(ctx, q, all, pages)
}

func (c *Client) notFound(ctx context.Context, q Query, evals []Eval, pages *pager) error {
	e := &RevisionNotFoundError{
		Project: q.Project, Jobset: pages.jobset, Revision: q.Revision, Looked: len(evals),
		All: pages.all, URL: c.link("/jobset/%s/%s", escape(q.Project), escape(pages.jobset)),
		Hint: c.jobsetHint(ctx, q.Project, pages.jobset),
	}
	if len(evals) > 0 {
		e.Oldest = evals[len(evals)-1].Time
		e.Repository, e.Repositories = evals[0].repositories(q)
	}
	for _, eval := range firstOf(evals, listedSeen) {
		e.Seen = append(e.Seen, SeenRevision{Eval: eval.ID, Time: eval.Time, URL: eval.URL, Revisions: eval.revisions(q)})
	}
	return e
}

// jobsetJSON is what explains a missing evaluation. "errormsg" is only filled in at …/errors.
type jobsetJSON struct {
	ErrorMessage text   `json:"errormsg"`
	FetchError   text   `json:"fetcherrormsg"`
	Enabled      number `json:"enabled"`
	StartTime    number `json:"starttime"`
	TriggerTime  number `json:"triggertime"`
	LastChecked  number `json:"lastcheckedtime"`
	Name         text   `json:"name"`
}

func (c *Client) jobset(ctx context.Context, project, jobset string) (jobsetJSON, bool) {
	var j jobsetJSON
	_, err := c.askJSON(ctx, fmt.Sprintf("/jobset/%s/%s/errors", escape(project), escape(jobset)), smallBody, &j)
	return j, err == nil && j.Name != ""
}

// jobsetHint explains in a clause why a revision may be missing, "" when Hydra gives no reason.
func (c *Client) jobsetHint(ctx context.Context, project, jobset string) string {
	j, ok := c.jobset(ctx, project, jobset)
	switch {
	case !ok:
		return ""
	case j.FetchError != "":
		return "Hydra could not fetch an input: " + clipTo(string(j.FetchError), 300)
	case j.Enabled == 0:
		return "the jobset is disabled, so Hydra does not evaluate it"
	case j.StartTime > 0:
		return "Hydra is evaluating it at the moment"
	case j.TriggerTime > 0:
		return "an evaluation is queued"
	case j.ErrorMessage != "":
		return "Hydra's last evaluation had errors: " + clipTo(string(j.ErrorMessage), 300)
	case j.LastChecked > 0:
		return "Hydra looked for changes last at " + unix(&j.LastChecked).Format("2006-01-02 15:04Z")
	}
	return ""
}

// evalError finds what Hydra said of one job when it evaluated the jobset: paragraphs that begin "in job ‘NAME’:".
func (c *Client) evalError(ctx context.Context, q Query, job string) string {
	j, ok := c.jobset(ctx, q.Project, q.Jobset)
	if !ok {
		return ""
	}
	for _, name := range []string{job, job + "." + q.System, q.System + "." + job} {
		for _, quotes := range [][2]string{{"‘", "’"}, {"'", "'"}, {`"`, `"`}} {
			_, after, found := strings.Cut(string(j.ErrorMessage), "in job "+quotes[0]+name+quotes[1]+":")
			if found {
				said, _, _ := strings.Cut(after, "in job ")
				return clipTo(said, 300)
			}
		}
	}
	return ""
}

// noSuchJobset finds out whether the project or only the jobset is missing, and what there is instead.
func (c *Client) noSuchJobset(ctx context.Context, project, jobset, message string) error {
	e := &JobsetNotFoundError{Project: project, Jobset: jobset, Message: message, What: "jobset"}
	var one struct {
		Jobsets []text `json:"jobsets"`
	}
	_, err := c.askJSON(ctx, "/project/"+escape(project), smallBody, &one)
	var none *missing
	if err == nil {
		e.Have, e.More = nearest(jobset, toStrings(one.Jobsets))
		return e
	}
	if !errors.As(err, &none) {
		return e
	}
	e.What = "project"
	var all []struct {
		Name text `json:"name"`
	}
	if _, err := c.askJSON(ctx, "/", smallBody, &all); err == nil {
		names := make([]text, len(all))
		for i, p := range all {
			names[i] = p.Name
		}
		e.Have, e.More = nearest(project, toStrings(names))
	}
	return e
}

func toStrings(texts []text) []string {
	names := make([]string, 0, len(texts))
	for _, t := range texts {
		names = append(names, string(t))
	}
	return names
}

func appendUnique(s []string, v string) []string {
	for _, have := range s {
		if have == v {
			return s
		}
	}
	return append(s, v)
}
