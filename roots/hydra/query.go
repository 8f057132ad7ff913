package hydra

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// The two revisions that are words.
const (
	// Latest is the newest evaluation in which every wanted job was built successfully.
	Latest = "latest"
	// LatestFinished is the newest such evaluation of which Hydra has finished all builds, wanted or not.
	LatestFinished = "latest-finished"
)

// Query is what Resolve looks for.
type Query struct {
	Project, Jobset string
	// Jobs are the wanted jobs; none means every job of the jobset that is for System. "app" finds the job
	// "app.x86_64-linux" too, where System is x86_64-linux and Hydra has no "app".
	Jobs []string
	// Revision is the source's commit, 7 or more of its hex digits, or Latest or LatestFinished.
	Revision string
	// System is Nix's name for the platform, for example "x86_64-linux"; "" accepts every system.
	System string
	// GitURL is the source's repository. Where a jobset has several inputs it says which of them is the source; it
	// may be empty, and it may name the repository in another form than Hydra does (ssh or https, .git or not).
	GitURL string
	// Wait is how long an evaluation that is not there yet and builds that are not finished are waited for.
	Wait time.Duration
}

// Target is what people write to name jobs: a project, a jobset, and the jobs, none meaning all.
type Target struct {
	Project, Jobset string
	Jobs            []string
}

// The rules are Hydra's own (Helper/CatalystUtils.pm, projectNameRE and jobsetNameRE); a jobset's name may begin with a
// dot to be hidden.
var (
	projectName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	jobsetName  = regexp.MustCompile(`^\.?[A-Za-z_][A-Za-z0-9_.-]*$`)
)

// isJobName reports whether a job may have a name: any path of attributes, whatever letters they have.
func isJobName(name string) bool {
	return name != "" && len(name) <= maxNameLen && utf8.ValidString(name) && strings.Trim(name, ".") != "" &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// isListedOnly reports whether Hydra finds a job in lists only: it takes a slash in a name for the end of it, also where
// the address has it escaped (Catalyst's prepare_path reads PATH_INFO, in which it no longer is).
func isListedOnly(job string) bool { return strings.Contains(job, "/") }

const (
	maxNameLen = 512
	maxJobs    = 100
)

// ParseJob reads "project/jobset/job" or "project/jobset". Several jobs of one jobset are several such words,
// separated by blanks or commas; after the first, "job" alone will do: "shop/main/web worker". Hydra's own
// separator, a colon, is understood too. An attribute with blanks or slashes is quoted, "shop/main/'my app'", or has them
// as in an address, "shop/main/my%20app".
func ParseJob(s string) (Target, error) {
	words, err := jobWords(s)
	if err != nil {
		return Target{}, err
	}
	if len(words) == 0 {
		return Target{}, errors.New("reading job: it is empty, want project/jobset/job")
	}
	var target Target
	for i, word := range words {
		project, jobset, job, err := splitJob(word)
		switch {
		case err != nil:
			return Target{}, err
		case i == 0:
			target.Project, target.Jobset = project, jobset
		case project == "" && jobset == "": // the first word's
		case project != target.Project || jobset != target.Jobset:
			return Target{}, fmt.Errorf("reading job %q: all jobs must be of one jobset, the first is of %s/%s",
				text.Clip(word.text, clipped), target.Project, target.Jobset)
		}
		if i == 0 && target.Project == "" {
			return Target{}, fmt.Errorf("reading job %q: want project/jobset/job", text.Clip(word.text, clipped))
		}
		if job == "" && len(words) > 1 {
			return Target{}, fmt.Errorf("reading job %q: it names a whole jobset, which other jobs cannot join", text.Clip(word.text, clipped))
		}
		if job != "" {
			target.Jobs = append(target.Jobs, job)
		}
	}
	return target, Query{Project: target.Project, Jobset: target.Jobset, Jobs: target.Jobs}.checkNames()
}

// JobPath is the build's "project/jobset/job", as ParseJob reads it.
func (b Build) JobPath() string {
	job := b.Job
	if strings.ContainsFunc(job, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`,/%'"`, r) }) {
		job = url.PathEscape(job)
	}
	return b.Project + "/" + b.Jobset + "/" + job
}

// jobWord is one word, as it was written, and its parts between slashes.
type jobWord struct {
	text  string
	parts []string
}

// jobWords splits at blanks and commas, and words at slashes, but for those in quotes around an attribute. Double quotes
// that Hydra itself has in a job's name stay: it puts them around attributes with a dot.
func jobWords(s string) ([]jobWord, error) {
	var words []jobWord
	var word jobWord
	var part, quoted strings.Builder
	var quote rune
	begins := true // here an attribute begins, and a quote may stand
	end := func() {
		word.parts = append(word.parts, unescaped(part.String()))
		part.Reset()
	}
	flush := func() {
		if end(); word.text != "" {
			words = append(words, word)
		}
		word = jobWord{}
	}
	for _, r := range s {
		if quote == 0 && (r == ',' || unicode.IsSpace(r)) {
			flush()
			begins = true
			continue
		}
		word.text += string(r)
		switch {
		case quote != 0 && r == quote:
			text := quoted.String()
			if quote == '"' && strings.Contains(text, ".") {
				text = `"` + text + `"`
			}
			part.WriteString(text)
			quoted.Reset()
			quote, begins = 0, false
		case quote != 0:
			quoted.WriteRune(r)
		case begins && (r == '"' || r == '\''):
			quote = r
		case r == '/':
			end()
			begins = true
		default:
			part.WriteRune(r)
			begins = strings.ContainsRune(":.", r)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("reading job %q: a quote %c is not closed", text.Clip(s, clipped), quote)
	}
	flush()
	return words, nil
}

// unescaped is a part as it stands in an address.
func unescaped(part string) string {
	if plain, err := url.PathUnescape(part); err == nil {
		return plain
	}
	return part
}

func splitJob(word jobWord) (project, jobset, job string, err error) {
	if strings.Contains(word.text, "://") {
		return "", "", "", fmt.Errorf("reading job %q: want project/jobset/job, not a URL", text.Clip(word.text, clipped))
	}
	parts := word.parts
	if len(parts) == 1 {
		parts = strings.Split(parts[0], ":")
	}
	if len(parts) > 1 && parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1]
	}
	switch len(parts) {
	case 1:
		return "", "", parts[0], nil
	case 2:
		return parts[0], parts[1], "", nil
	case 3:
		return parts[0], parts[1], parts[2], nil
	}
	return "", "", "", fmt.Errorf("reading job %q: want project/jobset/job, it has %d parts; a name with slashes is quoted: "+
		"project/jobset/'a/job'", text.Clip(word.text, clipped), len(parts))
}

func (q Query) checkNames() error {
	if len(q.Project) > maxNameLen || !projectName.MatchString(q.Project) {
		return fmt.Errorf("reading job: %q cannot be the name of a Hydra project, want project/jobset/job", text.Clip(q.Project, clipped))
	}
	if len(q.Jobset) > maxNameLen || !jobsetName.MatchString(q.Jobset) {
		return fmt.Errorf("reading job: %q cannot be the name of a Hydra jobset, want project/jobset/job", text.Clip(q.Jobset, clipped))
	}
	if len(q.Jobs) > maxJobs {
		return fmt.Errorf("reading job: %d jobs are named, at most %d can be", len(q.Jobs), maxJobs)
	}
	for _, job := range q.Jobs {
		if !isJobName(job) {
			return fmt.Errorf("reading job: %q cannot be the name of a Hydra job", text.Clip(job, clipped))
		}
	}
	return nil
}

// minRevision is the shortest abbreviation that git itself writes.
const minRevision = 7

// CheckRevision reports, as a *RevisionError, why a text can be neither a commit nor one of the two words.
func CheckRevision(revision string) error {
	switch {
	case revision == Latest, revision == LatestFinished:
		return nil
	case revision == "":
		return &RevisionError{Problem: "it is empty"}
	case !isHex(revision):
		return &RevisionError{Revision: revision, Problem: "it is the name of a branch or tag, not a commit"}
	case len(revision) < minRevision:
		return &RevisionError{Revision: revision, Problem: fmt.Sprintf("it is too short, %d digits are needed", minRevision)}
	case len(revision) > 64:
		return &RevisionError{Revision: revision, Problem: "it is longer than any commit"}
	}
	return nil
}

func isHex(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') && (r < 'A' || r > 'F') {
			return false
		}
	}
	return s != ""
}

// check refuses what no Hydra could answer and brings the rest into one form.
func (q Query) check() (Query, error) {
	if err := q.checkNames(); err != nil {
		return q, err
	}
	q.Revision = strings.TrimSpace(q.Revision)
	if err := CheckRevision(q.Revision); err != nil {
		return q, err
	}
	if !q.wantsLatest() {
		q.Revision = strings.ToLower(q.Revision)
	}
	return q, nil
}

func (q Query) wantsLatest() bool { return q.Revision == Latest || q.Revision == LatestFinished }
