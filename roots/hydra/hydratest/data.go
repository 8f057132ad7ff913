package hydratest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Input is one of an evaluation's.
type Input struct {
	Type     string // "" means git
	URI      string
	Revision string
	Value    string
	// Options are what follows the address in the jobset's own input: a branch, a third word for a deep clone, options.
	// Evaluations do not tell them (Plugin/GitInput.pm, fetchInput).
	Options string
}

// Evaluation is what a new evaluation is made of.
type Evaluation struct {
	Inputs map[string]Input
	Flake  string // the locked reference, for a jobset of a flake
	// Unchanged is an evaluation that made no new build: Hydra keeps it, but lists it nowhere.
	Unchanged bool
	Jobs      []Job
}

// Job is an attribute that an evaluation found. All but Name may be left out.
type Job struct {
	Name, System, NixName, DrvPath string
	// Outputs are the paths by output name; "" is an output whose path is not known yet.
	Outputs map[string]string
	// Constituents make it an aggregate of other jobs of the evaluation.
	Constituents []string
	// Same is a build of an earlier evaluation that this one found again.
	Same *Build
}

// Eval is an evaluation that Hydra has.
type Eval struct {
	ID       int64
	server   *Server
	jobset   *Jobset
	given    Evaluation
	time     int64
	builds   []*Build
	unlisted bool

	errorMessage string
}

// Build is a build that Hydra has, queued at first.
type Build struct {
	ID     int64
	server *Server
	jobset *Jobset
	job    Job
	evals  []int64
	parts  []*Build

	queued, started, stopped int64
	finished, busy           bool
	noLog                    bool
	status                   int
	steps                    []Step
}

// Step is a derivation built for a build.
type Step struct {
	DrvPath string
	Output  string // a store path
	Status  int    // as in Hydra's database: 0 succeeded, 1 failed, 3 aborted, 8 failed before, …
	Error   string // shown of an aborted step only
	NoLog   bool   // nothing was built, so that there is no log
}

// Evaluate adds an evaluation, newer than all others, with its builds queued.
func (j *Jobset) Evaluate(given Evaluation) *Eval {
	s := j.project.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextEval++
	e := &Eval{ID: 1000 + s.nextEval, server: s, jobset: j, given: given, unlisted: given.Unchanged,
		time: epoch + s.nextEval*3600}
	j.evals = append(j.evals, e)
	j.checked = e.time
	s.evals[e.ID] = e
	for _, job := range given.Jobs {
		b := job.Same
		if b == nil {
			b = s.newBuild(j, job, e.time)
		}
		b.evals = append(b.evals, e.ID)
		e.builds = append(e.builds, b)
	}
	for _, b := range e.builds {
		for _, part := range b.job.Constituents {
			if p := e.find(part); p != nil {
				b.parts = append(b.parts, p)
			}
		}
	}
	return e
}

func (s *Server) newBuild(j *Jobset, job Job, now int64) *Build {
	s.nextBuild++
	if job.System == "" {
		job.System = "x86_64-linux"
		if i := strings.LastIndexByte(job.Name, '.'); i > 0 && strings.HasSuffix(job.Name, "-linux") {
			job.System = job.Name[i+1:]
		}
	}
	if job.NixName == "" {
		job.NixName = strings.SplitN(job.Name, ".", 2)[0] + "-1.0"
	}
	seed := fmt.Sprintf("%s %s %d", j.Name, job.Name, s.nextBuild)
	if job.DrvPath == "" {
		job.DrvPath = StorePath(seed+" drv", job.NixName+".drv")
	}
	if job.Outputs == nil {
		job.Outputs = map[string]string{"out": StorePath(seed, job.NixName)}
	}
	b := &Build{ID: 50000 + s.nextBuild, server: s, jobset: j, job: job, queued: now}
	s.builds[b.ID] = b
	return b
}

// StorePath makes a store path that is well formed and means nothing.
func StorePath(seed, name string) string {
	sum := sha256.Sum256([]byte(seed))
	return storepath.Dir + "/" + storepath.Encode32(sum[:20]) + "-" + name
}

// Revision makes a commit that is well formed and means nothing.
func Revision(seed string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(seed)))[:40]
}

func (e *Eval) find(job string) *Build {
	for _, b := range e.builds {
		if b.job.Name == job {
			return b
		}
	}
	return nil
}

// Build finds a job's build, nil if the evaluation has none.
func (e *Eval) Build(job string) *Build {
	e.server.mu.Lock()
	defer e.server.mu.Unlock()
	return e.find(job)
}

// Succeed finishes all builds of the evaluation.
func (e *Eval) Succeed() *Eval {
	e.server.mu.Lock()
	defer e.server.mu.Unlock()
	for _, b := range e.builds {
		b.finish(0)
	}
	return e
}

// Run puts the build to work.
func (b *Build) Run() {
	b.server.with(func() { b.busy, b.started = true, b.queued+60 })
}

// Succeed finishes the build well.
func (b *Build) Succeed() { b.server.with(func() { b.finish(0) }) }

// Fail finishes the build with one of Hydra's codes and the steps its page shows.
func (b *Build) Fail(status int, steps ...Step) {
	b.server.with(func() {
		b.steps = append(b.steps, steps...)
		b.finish(status)
	})
}

// NoLog says that nothing was built, so that there is no log.
func (b *Build) NoLog() { b.server.with(func() { b.noLog = true }) }

// Delete forgets the build, in its evaluations too.
func (b *Build) Delete() {
	b.server.with(func() {
		delete(b.server.builds, b.ID)
		for _, id := range b.evals {
			e := b.server.evals[id]
			e.builds = slices.DeleteFunc(e.builds, func(other *Build) bool { return other == b })
		}
	})
}

// Fails records what went wrong in this evaluation, job by job.
func (e *Eval) Fails(message string) { e.server.with(func() { e.errorMessage = message }) }

// Outputs are the build's output paths by name.
func (b *Build) Outputs() map[string]string { return b.job.Outputs }

// DrvPath is the build's derivation.
func (b *Build) DrvPath() string { return b.job.DrvPath }

func (b *Build) finish(status int) {
	if b.finished {
		return
	}
	b.finished, b.busy, b.status = true, false, status
	b.started, b.stopped = b.queued+60, b.queued+120
}
