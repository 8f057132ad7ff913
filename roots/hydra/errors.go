package hydra

import (
	"fmt"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Refusal is what of a log-in Hydra did not accept.
type Refusal int

// What may be refused.
const (
	RefusedOtherwise Refusal = iota // nothing was tried, or not by Hydra's own words
	RefusedPassword                 // user name or password
	RefusedReferer                  // where the request came from: Hydra has another address than it was asked at
)

// LoginError is a Hydra, or a proxy before it, that wants a log-in it was not given or does not accept.
type LoginError struct {
	URL     string // what was asked for
	Problem string // what was answered, with Hydra's own words
	Given   bool   // credentials were sent
	Refused Refusal
	// HydraURL is the address that Hydra takes for its own, where it refused a Referer.
	HydraURL string
}

func (e *LoginError) Error() string {
	switch {
	case e.Refused == RefusedReferer:
		return fmt.Sprintf("logging in to Hydra at %s: it takes another address for its own: %s", e.URL, e.Problem)
	case e.Refused == RefusedPassword:
		return fmt.Sprintf("logging in to Hydra at %s: user name or password is wrong: %s", e.URL, e.Problem)
	case e.Given:
		return fmt.Sprintf("asking Hydra for %s: it wants a log-in (%s) and the credentials set for it were not accepted",
			e.URL, e.Problem)
	}
	return fmt.Sprintf("asking Hydra for %s: it wants a log-in (%s) and no credentials are set for it", e.URL, e.Problem)
}

// NotHydraError is a server that answers, but not as a Hydra does.
type NotHydraError struct {
	URL     string
	Problem string
}

func (e *NotHydraError) Error() string {
	return fmt.Sprintf("asking Hydra for %s: the server there is not a Hydra: %s", e.URL, e.Problem)
}

// NotFrontPageError is an address of a Hydra that is not the address of its front page.
type NotFrontPageError struct {
	URL     string // the address given
	Asked   string // what was asked for below it
	Problem string // what there is
	Front   string // where the front page was found, "" where it was not
}

func (e *NotFrontPageError) Error() string {
	front := ""
	if e.Front != "" {
		front = "; its front page is " + e.Front
	}
	return fmt.Sprintf("asking Hydra for %s: %s is not Hydra's front page: %s%s", e.Asked, e.URL, e.Problem, front)
}

// SearchTimeoutError is a search that Hydra, its database or a proxy gave up.
type SearchTimeoutError struct {
	Text    string // what was searched for
	Problem string
}

func (e *SearchTimeoutError) Error() string {
	return fmt.Sprintf("searching Hydra for %s: it took too long: %s", text.Clip(e.Text, clipped), e.Problem)
}

// BuildDeletedError is a build that Hydra had, and has no more.
type BuildDeletedError struct {
	ID      int64
	URL     string
	Message string // Hydra's own words
}

func (e *BuildDeletedError) Error() string {
	return fmt.Sprintf("asking Hydra for build %d: it has been deleted (%s): %s", e.ID, e.Message, e.URL)
}

// AnswerError is a request that got no usable answer: none in time, an error, too long, or of an unexpected shape.
type AnswerError struct {
	URL       string
	Status    int // of the last answer, 0 without one
	Problem   string
	Attempts  int
	Temporary bool // asking again later may help
	Page      bool // one of Hydra's pages for people came in place of JSON
	Cause     error

	retryAfter time.Duration // for which Hydra asks not to be asked, 0 where it does not
}

func (e *AnswerError) Error() string {
	tries := ""
	if e.Attempts > 1 {
		tries = fmt.Sprintf(" (asked %d times)", e.Attempts)
	}
	return fmt.Sprintf("asking Hydra for %s: %s%s", e.URL, e.Problem, tries)
}

func (e *AnswerError) Unwrap() error { return e.Cause }

// JobsetNotFoundError is a project or a jobset that this Hydra does not have.
type JobsetNotFoundError struct {
	Project, Jobset string
	What            string   // "jobset" or "project": which of the two is missing
	Have            []string // the names there are, nearest first, bounded
	More            int      // how many more there are
}

func (e *JobsetNotFoundError) Error() string {
	name := e.Project
	if e.What == "jobset" {
		name += "/" + e.Jobset
	}
	return fmt.Sprintf("finding %s: Hydra has no such %s; %s", name, e.What, listNames(e.What+"s it has", e.Have, e.More))
}

// JobNotFoundError is a job that an evaluation does not have.
type JobNotFoundError struct {
	Job       string
	URL       string   // of the evaluation
	Have      []string // the jobs there are, nearest first, bounded
	More      int
	EvalError string // what Hydra says went wrong when it evaluated this job, "" if nothing
}

func (e *JobNotFoundError) Error() string {
	why := ""
	if e.EvalError != "" {
		why = "; its evaluation failed: " + e.EvalError
	}
	return fmt.Sprintf("finding job %q: evaluation %s has no such job%s; %s",
		e.Job, e.URL, why, listNames("jobs it has", e.Have, e.More))
}

// SystemError is a job that Hydra builds, but not for the wanted system.
type SystemError struct {
	Job, System string // Job is "" where a whole jobset was asked for
	Have        []string
	URL         string
}

func (e *SystemError) Error() string {
	what := "the jobset"
	if e.Job != "" {
		what = fmt.Sprintf("job %q", e.Job)
	}
	have := "for no system at all"
	if len(e.Have) > 0 {
		have = "for " + strings.Join(e.Have, ", ")
	}
	return fmt.Sprintf("finding %s for %s: Hydra builds it %s: %s", what, e.System, have, e.URL)
}

// RevisionError is a revision that is neither a commit nor one of the words.
type RevisionError struct {
	Revision string
	Problem  string
}

func (e *RevisionError) Error() string {
	return fmt.Sprintf("reading revision %q: %s; want a commit, 40 hex digits, or the word %q or %q",
		text.Clip(e.Revision, clipped), e.Problem, Latest, LatestFinished)
}

// SeenRevision is an evaluation as an error lists it.
type SeenRevision struct {
	Eval      int64
	Time      time.Time
	Revisions []string // "<input>=<revision>", or the revision alone where there is one input
}

// String is "1234 of 2026-08-21 13:00Z (src=0123abc…)".
func (s SeenRevision) String() string {
	return fmt.Sprintf("%d of %s (%s)", s.Eval, s.Time.UTC().Format("2006-01-02 15:04Z"), strings.Join(s.Revisions, ", "))
}

// RevisionNotFoundError is a revision that no listed evaluation has.
type RevisionNotFoundError struct {
	Project, Jobset string
	Revision        string
	Seen            []SeenRevision // the newest evaluations, newest first, at most five
	Looked          int            // evaluations looked at
	All             bool           // Hydra lists no more than these
	Oldest          time.Time      // of the evaluations looked at
	Repositories    []string       // the inputs' repositories where none is the source's
	Hint            string         // what Hydra says of the jobset: an error, a check under way, being disabled
	Disabled        bool           // the jobset or its project is: no evaluation will come
	URL             string         // of the jobset
}

func (e *RevisionNotFoundError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "finding revision %s in %s/%s: ", short(e.Revision), e.Project, e.Jobset)
	switch {
	case e.Looked == 0:
		b.WriteString("Hydra lists no evaluation of this jobset yet")
	case e.All:
		fmt.Fprintf(&b, "none of its %d evaluations has it", e.Looked)
	default:
		fmt.Fprintf(&b, "none of the newest %d evaluations, back to %s, has it", e.Looked,
			e.Oldest.UTC().Format("2006-01-02"))
	}
	if len(e.Seen) > 0 {
		seen := make([]string, len(e.Seen))
		for i, s := range e.Seen {
			seen[i] = s.String()
		}
		fmt.Fprintf(&b, "; last seen: %s", strings.Join(seen, "; "))
	}
	if len(e.Repositories) > 0 {
		fmt.Fprintf(&b, "; none of its inputs is the source's repository, they are %s", strings.Join(e.Repositories, ", "))
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "; %s", e.Hint)
	}
	fmt.Fprintf(&b, "; Hydra lists a revision only where it changed a build: %s", e.URL)
	return b.String()
}

// AmbiguousRevisionError is an abbreviated revision that fits several.
type AmbiguousRevisionError struct {
	Revision string
	Have     []string
}

func (e *AmbiguousRevisionError) Error() string {
	return fmt.Sprintf("finding revision %s: it is short for several: %s",
		e.Revision, strings.Join(e.Have, ", "))
}

// NoBuildError is a "latest" that does not exist: no evaluation has what was asked for, successfully built.
type NoBuildError struct {
	What    string // job or jobset
	Word    string // Latest or LatestFinished
	Looked  int    // evaluations looked at, 0 where Hydra looked
	Problem string // what the newest evaluation lacks
	URL     string
}

func (e *NoBuildError) Error() string {
	problem := ""
	if e.Problem != "" {
		problem = ": " + e.Problem
	}
	where := "any evaluation"
	if e.Looked > 0 {
		where = fmt.Sprintf("the newest %d evaluations", e.Looked)
	}
	return fmt.Sprintf("finding %s of %s: %s has no successful build of it%s: %s", e.Word, e.What, where, problem, e.URL)
}

// NotFinishedError is a wait that was used up, or was not allowed at all.
type NotFinishedError struct {
	Waited time.Duration
	Builds []Build // the unfinished ones; none when the evaluation itself is missing
	Cause  error   // what was missing at the last look, nil for builds
}

func (e *NotFinishedError) Error() string {
	waited := "no wait is allowed"
	if e.Waited > 0 {
		waited = "waited " + e.Waited.Round(time.Second).String()
		if e.Waited < time.Second {
			waited = "waited " + e.Waited.Round(time.Millisecond).String()
		}
	}
	if e.Cause != nil {
		return fmt.Sprintf("waiting for Hydra's evaluation: %s: %v", waited, e.Cause)
	}
	names := make([]string, 0, len(e.Builds))
	for _, b := range firstOf(e.Builds, 5) {
		names = append(names, fmt.Sprintf("%s is not finished: %s", b.Job, b.URL))
	}
	more := ""
	if n := len(e.Builds) - len(names); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("waiting for Hydra's build: %s: %s%s", waited, strings.Join(names, "; "), more)
}

func (e *NotFinishedError) Unwrap() error { return e.Cause }

// BuildFailedError is one or more wanted builds that Hydra could not make.
type BuildFailedError struct{ Builds []FailedBuild }

func (e *BuildFailedError) Error() string {
	parts := make([]string, 0, len(e.Builds))
	for _, b := range firstOf(e.Builds, 5) {
		parts = append(parts, b.String())
	}
	more := ""
	if n := len(e.Builds) - len(parts); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return "taking Hydra's build: " + strings.Join(parts, "; ") + more
}

// OutputPathError is a successful build whose output is not a store path that could be downloaded.
type OutputPathError struct {
	Build   Build
	Output  string
	Path    string
	Problem string
}

func (e *OutputPathError) Error() string {
	return fmt.Sprintf("taking output %q of %s: Hydra says it is %q, %s: %s",
		text.Clip(e.Output, clipped), e.Build.Job, text.Clip(e.Path, clipped), e.Problem, e.Build.URL)
}

func listNames(title string, names []string, more int) string {
	if len(names) == 0 {
		return title + ": none that can be seen"
	}
	s := title + ": " + strings.Join(names, ", ")
	if more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

func firstOf[T any](s []T, n int) []T {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// short abbreviates a commit, and nothing else.
func short(revision string) string {
	if len(revision) > 12 && isHex(revision) {
		return revision[:12]
	}
	return revision
}
