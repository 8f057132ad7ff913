package hydratest

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// session is a log-in that succeeded: 302 to the user's page with a cookie.
type session struct{ value string }

// findJobset is the chain's first part: an unknown name may be an old one, to which a redirect leads. It names the
// action by its captures, so that what follows the action's own name, its arguments, gets lost on the way
// (Controller/Job.pm, job; Controller/Jobset.pm, jobsetChain: uri_for($c->action, \@captures, $c->req->params)).
func (s *Server) findJobset(parts []string, captures int, query string, wantProject bool) (*Jobset, any) {
	p := s.projects[parts[1]]
	if p == nil {
		if wantProject {
			return nil, notFound("Project ‘%s’ doesn't exist.", parts[1])
		}
		return nil, notFound("Jobset ‘%s’ doesn't exist.", parts[2])
	}
	if j := p.jobsets[parts[2]]; j != nil {
		return j, nil
	}
	to, ok := p.renamed[parts[2]]
	if !ok {
		return nil, notFound("Jobset ‘%s’ doesn't exist.", parts[2])
	}
	parts = slices.Clone(parts[:min(len(parts), 1+captures+1)])
	parts[2] = to
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	location := "/" + strings.Join(parts, "/")
	if query != "" {
		location += "?" + query
	}
	return nil, moved{http.StatusMovedPermanently, location}
}

// jobset is Controller/Jobset.pm.
func (s *Server) jobset(r *http.Request, parts []string) any {
	switch strings.Join(parts[3:], "/") {
	case "", "errors", "evals", "latest-eval":
	default:
		return notFound("Page not found.") // no action, no chain
	}
	j, other := s.findJobset(parts, 2, r.URL.RawQuery, true)
	if j == nil {
		return other
	}
	switch strings.Join(parts[3:], "/") {
	case "errors":
		return j.json(true)
	case "evals":
		return j.page(pageNumber(r))
	case "latest-eval":
		for _, e := range slices.Backward(j.evals) {
			if !e.unlisted && e.finished() {
				return moved{http.StatusFound, fmt.Sprintf("/eval/%d?name=%s", e.ID, j.Name)}
			}
		}
		return notFound("No evaluation found.")
	}
	return j.json(false)
}

func (e *Eval) finished() bool {
	return !slices.ContainsFunc(e.builds, func(b *Build) bool { return !b.finished })
}

// eval is Controller/JobsetEval.pm.
func (s *Server) eval(parts []string, htmlWanted bool) any {
	id, _ := strconv.ParseInt(parts[1], 10, 64)
	e := s.evals[id]
	if e == nil {
		return notFound("Evaluation %s doesn't exist.", parts[1])
	}
	switch {
	case len(parts) == 2:
		return e.json()
	case len(parts) == 3 && parts[2] == "errors" && htmlWanted: // root/eval-error.tt
		return page(document("", "<p>Errors occurred at <time>"+fmt.Sprint(e.time)+"</time>.</p><div class=\"card\"><pre>"+
			html.EscapeString(e.errorMessage)+"</pre></div>"))
	case len(parts) == 3 && parts[2] == "errors": // whose JSON has no errors (Schema/Result/JobsetEvals.pm, json_hint)
		return e.json()
	case len(parts) == 3 && parts[2] == "builds":
		builds := []object{}
		for _, b := range e.builds {
			builds = append(builds, b.json())
		}
		return builds
	case len(parts) == 4 && parts[2] == "job":
		if b := e.find(parts[3]); b != nil {
			return moved{http.StatusFound, fmt.Sprintf("/build/%d", b.ID)}
		}
		return notFound("This evaluation has no job with the specified name.")
	}
	return notFound("Page not found.")
}

// job is Controller/Job.pm with Base/Controller/ListBuilds.pm.
func (s *Server) job(parts []string, query string) any {
	switch parts[4] {
	case "latest", "latest-for", "latest-finished":
	default:
		return notFound("Page not found.")
	}
	j, other := s.findJobset(parts, 4, query, false)
	if j == nil {
		return other
	}
	none := "There is no successful build to redirect to."
	fits := func(*Build) bool { return true }
	switch {
	case len(parts) == 5 && parts[4] == "latest":
	case len(parts) == 5 && parts[4] == "latest-for":
		return notFound("You need to specify a platform type in the URL.")
	case len(parts) == 6 && parts[4] == "latest-for":
		none = fmt.Sprintf("There is no successful build for platform `%s' to redirect to.", parts[5])
		fits = func(b *Build) bool { return b.job.System == parts[5] }
	case len(parts) == 5 && parts[4] == "latest-finished":
		fits = func(b *Build) bool {
			return slices.ContainsFunc(b.evals, func(id int64) bool { return s.evals[id].finished() })
		}
	default:
		return notFound("Page not found.")
	}
	for _, id := range slices.Backward(s.buildIDs()) {
		b := s.builds[id]
		if b.jobset == j && b.job.Name == parts[3] && b.finished && b.status == 0 && fits(b) {
			return moved{http.StatusFound, fmt.Sprintf("/build/%d", b.ID)}
		}
	}
	return notFound("%s", none)
}

func (s *Server) buildIDs() []int64 {
	ids := make([]int64, 0, len(s.builds))
	for id := range s.builds {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// build is Controller/Build.pm and BuildStep.pm.
func (s *Server) build(parts []string, htmlWanted bool) any {
	id, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return failure{http.StatusInternalServerError, "Invalid build ID ‘" + parts[1] + "’."}
	}
	b := s.builds[id]
	if b == nil {
		return notFound("Build with ID %d doesn't exist.", id)
	}
	step := 0
	if len(parts) >= 4 {
		step, _ = strconv.Atoi(parts[3])
	}
	switch {
	case len(parts) == 2 && htmlWanted:
		return page(b.page(s.oldPages))
	case len(parts) == 2:
		return b.json()
	case len(parts) == 3 && parts[2] == "constituents":
		list := []object{}
		for _, p := range b.parts {
			list = append(list, p.json())
		}
		return list
	case len(parts) == 3 && parts[2] == "log":
		return plain("log of " + b.job.DrvPath + "\n")
	case len(parts) < 4 || step < 1 || step > len(b.steps):
		return notFound("Build doesn't have a build step %d.", step)
	case parts[2] == "nixlog" && !s.oldPages:
		return moved{http.StatusMovedPermanently, fmt.Sprintf("/build/%d/step/%d/log", id, step)}
	case parts[2] == "nixlog", parts[2] == "step" && !s.oldPages && len(parts) == 5 && parts[4] == "log":
		return plain("log of " + b.steps[step-1].DrvPath + "\n")
	case parts[2] == "step" && !s.oldPages && len(parts) == 4:
		return b.stepJSON(step)
	}
	return notFound("Page not found.")
}

var stepWords = map[int]string{0: "Succeeded", 3: "Aborted", 4: "Cancelled", 7: "Timed out", 8: "Cached failure",
	9: "Unsupported system type", 10: "Log limit exceeded", 11: "Output limit exceeded", 12: "Non-determinism detected"}

// page has what root/build.tt shows of steps: a table of the failed ones, and one of all.
func (b *Build) page(old bool) string {
	var out strings.Builder
	if b.finished && !b.noLog {
		fmt.Fprintf(&out, "<table><tr><th>Logfile:</th><td><a class=\"btn\" href=\"/build/%d/log\">pretty</a></td></tr></table>\n",
			b.ID)
	}
	if b.finished && b.status != 0 && b.status != 4 && b.status != 6 {
		out.WriteString("<h3>Failed build steps</h3>\n")
		b.table(&out, old, true)
	}
	out.WriteString("<div id=\"tabs-buildsteps\" class=\"tab-pane\">\n")
	b.table(&out, old, false)
	out.WriteString("</div>\n")
	return document(fmt.Sprintf("Build %d of job %s", b.ID, html.EscapeString(b.job.Name)), out.String())
}

func (b *Build) table(out *strings.Builder, old, failedOnly bool) {
	out.WriteString("<table class=\"table\"><thead><tr><th>Nr</th><th>Step</th><th>Status</th></tr></thead><tbody>\n")
	for i, step := range b.steps {
		if failedOnly && step.Status == 0 {
			continue
		}
		words, ok := stepWords[step.Status]
		if !ok {
			words = "Failed"
		}
		if step.Status != 0 {
			words = `<span class="error">` + words + "</span>"
		}
		if step.Status == 3 && step.Error != "" { // root/build-common.tt, renderStepStatus
			words += ": <em>" + html.EscapeString(step.Error) + "</em>"
		}
		row := fmt.Sprintf("/build/%d/step/%d", b.ID, i+1)
		log := row + "/log"
		number := fmt.Sprintf("<a class=\"row-link\" href=\"%s\">%d</a>", row, i+1)
		if old {
			log = fmt.Sprintf("/build/%d/nixlog/%d", b.ID, i+1)
			if number = strconv.Itoa(i + 1); !step.NoLog {
				number = fmt.Sprintf("<a class=\"row-link\" href=\"%s\">%d</a>", log, i+1)
			}
		}
		if !step.NoLog {
			words += fmt.Sprintf(` (<a href="%s">log</a>, <a href="%[1]s/raw">raw</a>, <a href="%[1]s/tail">tail</a>)`, log)
		}
		fmt.Fprintf(out, "<tr><td>%s</td><td>Build of <tt>\n  %s\n</tt></td>"+
			"<td><em>n/a</em></td><td><em>n/a</em></td><td class=\"step-status\">%s</td></tr>\n", number, step.Output, words)
	}
	out.WriteString("</tbody></table>\n")
}
