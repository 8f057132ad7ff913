package hydra

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const (
	pageSize   = 20 // Controller/Jobset.pm, evals_GET
	listedSeen = 5
)

// latestEvals gives the newest n evaluations of a jobset that changed a build, newest first; fewer where there are
// fewer. It costs a request per 20.
func (c *Client) latestEvals(ctx context.Context, project, jobset string, n int) ([]Eval, error) {
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
	got, at, err := p.read(ctx, page)
	if err != nil {
		return nil, err
	}
	p.page = page
	listed := nextPage(string(got.Next)) > page && len(got.Evals) > 0
	p.all = !listed
	p.more = listed && page < p.limit
	var evals []Eval
	for _, j := range got.Evals {
		if j.ID <= 0 {
			return nil, &AnswerError{URL: at, Status: http.StatusOK, Attempts: 1,
				Problem: `its JSON is not what Hydra's API promises: it has an evaluation without "id"`}
		}
		if !p.seen[int64(j.ID)] {
			p.seen[int64(j.ID)] = true
			evals = append(evals, c.eval(j))
		}
	}
	return evals, nil
}

// read asks for a page, under the jobset's new name where it was renamed.
func (p *pager) read(ctx context.Context, page int) (evalsJSON, string, error) {
	c := p.client
	for range maxRedirects {
		path := fmt.Sprintf("/jobset/%s/%s/evals?page=%d", escape(p.project), escape(p.jobset), page)
		var renamed string
		var list evalsJSON
		at, err := c.askJSON(ctx, question{path: path, stop: func(to *url.URL) bool {
			renamed = c.renamed(to, p.project, p.jobset)
			return renamed != ""
		}}, func(s *stream) error {
			list = evalsJSON{}
			return list.read(s)
		})
		var none *missing
		switch {
		case errors.As(err, &none):
			return evalsJSON{}, "", c.noSuchJobset(ctx, p.project, p.jobset, none)
		case err != nil:
			return evalsJSON{}, "", err
		case renamed != "":
			p.jobset = renamed
			continue
		}
		return list, shown(at), nil
	}
	return evalsJSON{}, "", c.renamedTooOften(p.project, p.jobset)
}

// jobsetPath is a page of a jobset or of one of its jobs.
var jobsetPath = regexp.MustCompile(`/(?:jobset|job)/([^/]+)/([^/]+)(?:/|$)`)

// renamed is the new name of a jobset, to which Hydra redirects from the old one (Controller/Jobset.pm, jobsetChain;
// Controller/Job.pm, job); "" where a redirect is another. The redirect itself is of no use: it leaves out what follows
// an action's name, such as the system behind latest-for, and its host is the one that Hydra believes to be.
func (c *Client) renamed(to *url.URL, project, jobset string) string {
	found := jobsetPath.FindStringSubmatch(to.Path)
	if found == nil || found[1] != project || found[2] == jobset || !jobsetName.MatchString(found[2]) {
		return ""
	}
	c.log("Hydra has renamed jobset %s to %s", jobset, found[2])
	return found[2]
}

func (c *Client) renamedTooOften(project, jobset string) error {
	return &AnswerError{URL: c.link("/jobset/%s/%s", escape(project), escape(jobset)), Attempts: 1,
		Problem: fmt.Sprintf("it has renamed the jobset more than %d times", maxRedirects)}
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
	var newest []Eval // as many as are listed
	var looked lookedAt
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
		newest = append(newest, firstOf(evals, listedSeen-len(newest))...)
		looked.add(evals)
	}
	return Eval{}, c.notFound(ctx, q, newest, looked, pages)
}

// lookedAt is how many evaluations were looked at, and when the oldest of them was made.
type lookedAt struct {
	count  int
	oldest time.Time
}

func (l *lookedAt) add(evals []Eval) {
	if len(evals) > 0 {
		l.count, l.oldest = l.count+len(evals), evals[len(evals)-1].Time
	}
}

func (c *Client) notFound(ctx context.Context, q Query, evals []Eval, looked lookedAt, pages *pager) error {
	e := &RevisionNotFoundError{
		Project: q.Project, Jobset: pages.jobset, Revision: q.Revision, Looked: looked.count, Oldest: looked.oldest,
		All: pages.all, URL: c.link("/jobset/%s/%s", escape(q.Project), escape(pages.jobset)),
	}
	e.Hint, e.Disabled = c.jobsetHint(ctx, q.Project, pages.jobset)
	if len(evals) > 0 {
		e.Repositories = evals[0].repositories(q)
	}
	for _, eval := range evals {
		e.Seen = append(e.Seen, SeenRevision{Eval: eval.ID, Time: eval.Time, Revisions: eval.revisions(q)})
	}
	return e
}

// jobsetJSON is what explains a missing evaluation. "errormsg" is only filled in at …/errors.
type jobsetJSON struct {
	ErrorMessage message   `json:"errormsg"`
	FetchError   message   `json:"fetcherrormsg"`
	Enabled      number    `json:"enabled"`
	StartTime    number    `json:"starttime"`
	TriggerTime  number    `json:"triggertime"`
	LastChecked  number    `json:"lastcheckedtime"`
	Name         looseText `json:"name"`
}

func (c *Client) jobset(ctx context.Context, project, jobset string) (jobsetJSON, bool) {
	var j jobsetJSON
	err := c.getJSON(ctx, fmt.Sprintf("/jobset/%s/%s/errors", escape(project), escape(jobset)), &j)
	return j, err == nil && j.Name != ""
}

// jobsetHint explains in a clause why a revision may be missing, "" when Hydra gives no reason. disabled says that no
// evaluation will come.
func (c *Client) jobsetHint(ctx context.Context, project, jobset string) (hint string, disabled bool) {
	j, ok := c.jobset(ctx, project, jobset)
	switch {
	case !ok:
		return "", false
	case j.Enabled == 0:
		return "the jobset is disabled, so Hydra does not evaluate it", true
	case c.isDisabled(ctx, project):
		return "the project is disabled, so Hydra does not evaluate its jobsets", true
	case j.FetchError != "":
		return "Hydra could not fetch an input: " + text.Clip(string(j.FetchError), 300), false
	case j.StartTime > 0:
		return "Hydra is evaluating it at the moment", false
	case j.TriggerTime > 0:
		return "an evaluation is queued", false
	case j.ErrorMessage != "":
		return "Hydra's last evaluation had errors: " + text.Clip(string(j.ErrorMessage), 300), false
	case j.LastChecked > 0:
		return "Hydra looked for changes last at " + unix(j.LastChecked).Format("2006-01-02 15:04Z"), false
	}
	return "", false
}

// isDisabled reports whether an administrator has switched a project off (Schema/Result/Projects.pm, as_json).
func (c *Client) isDisabled(ctx context.Context, project string) bool {
	var one struct {
		Enabled *number `json:"enabled"`
	}
	return c.getJSON(ctx, "/project/"+escape(project), &one) == nil && one.Enabled != nil && *one.Enabled == 0
}

// evalError finds what Hydra said of one job in an evaluation: paragraphs that begin "in job ‘NAME’:"
// (hydra-eval-jobset). An evaluation's errors are on its page for people only: its JSON leaves them out
// (Controller/JobsetEval.pm, errors_GET; Schema/Result/JobsetEvals.pm, json_hint; root/eval-error.tt).
func (c *Client) evalError(ctx context.Context, q Query, e Eval, job string) string {
	var said string
	_, err := c.ask(ctx, question{path: fmt.Sprintf("/eval/%d/errors", e.ID), accept: htmlType,
		read: func(page io.Reader) (err error) {
			said, err = preformatted(io.LimitReader(page, thingLimit))
			return err
		}})
	if err != nil {
		return ""
	}
	for _, name := range q.spellings(job) {
		if _, after, found := strings.Cut(said, "in job ‘"+name+"’:"); found {
			own, _, _ := strings.Cut(after, "\nin job ‘")
			return text.Clip(own, 300)
		}
	}
	return ""
}

// noSuchJobset finds out whether the project or only the jobset is missing, and what there is instead.
func (c *Client) noSuchJobset(ctx context.Context, project, jobset string, said *missing) error {
	if said.message == noSuchPage {
		if err := c.checkFront(ctx, said.url); err != nil {
			return err
		}
	}
	e := &JobsetNotFoundError{Project: project, Jobset: jobset, What: "jobset"}
	var one struct {
		Jobsets []looseText `json:"jobsets"`
	}
	err := c.getJSON(ctx, "/project/"+escape(project), &one)
	var none *missing
	if err == nil {
		e.Have, e.More = nearest(jobset, toStrings(one.Jobsets))
		return e
	}
	if !errors.As(err, &none) {
		return e
	}
	e.What = "project"
	if names, err := c.projects(ctx); err == nil {
		e.Have, e.More = nearest(project, names)
	}
	return e
}

// projects are the names of all that Hydra has.
func (c *Client) projects(ctx context.Context) ([]string, error) {
	var names []string
	_, err := c.askJSON(ctx, question{path: "/"}, func(s *stream) error {
		names = nil
		return s.list(func() error {
			var one struct {
				Name looseText `json:"name"`
			}
			if err := s.value(buildLimit, &one); err != nil {
				return err
			}
			names = append(names, string(one.Name))
			return s.keep(len(one.Name) + valueSize)
		})
	})
	return names, err
}

func toStrings(texts []looseText) []string {
	names := make([]string, 0, len(texts))
	for _, t := range texts {
		names = append(names, string(t))
	}
	return names
}

func appendUnique(s []string, v string) []string {
	if slices.Contains(s, v) {
		return s
	}
	return append(s, v)
}
