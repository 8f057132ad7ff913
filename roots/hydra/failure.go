package hydra

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

const (
	explainedBuilds = 5  // failed builds that are looked into
	explainedSteps  = 10 // failed steps that are listed of each
)

// FailedBuild is a build that did not succeed, and what Hydra tells about it.
type FailedBuild struct {
	Build
	Steps        []Step  // the failed ones, as far as Hydra's page shows them
	Constituents []Build // of an aggregate: those that failed or are not finished
	LogURL       string  // the build's own log, "" where Hydra has none
}

// Step is one derivation that Hydra built, or tried to, for a build.
type Step struct {
	Number int
	Name   string // of the derivation, or of its output where Hydra does not name the derivation
	Status string // Hydra's words
	Cause  string // what Hydra says went wrong with an aborted step, "" where nothing
	LogURL string // "" where Hydra has no log of it
}

// String is one clause.
func (s Step) String() string {
	clause := fmt.Sprintf("step %d, %s, %s", s.Number, s.Name, strings.ToLower(s.Status))
	if s.Cause != "" {
		clause += ": " + s.Cause
	}
	if s.LogURL != "" {
		clause += ", log: " + s.LogURL
	}
	return clause
}

// String is one clause.
func (f FailedBuild) String() string {
	s := fmt.Sprintf("build %d of %s failed: %s", f.ID, text.Clip(f.Job, clipped), f.Status)
	for _, step := range firstOf(f.Steps, 3) {
		s += ", " + step.String()
	}
	for _, part := range firstOf(f.Constituents, 3) {
		s += fmt.Sprintf(", its part %s is %s: %s", text.Clip(part.Job, clipped), part.state(), part.URL)
	}
	if len(f.Steps) == 0 && len(f.Constituents) == 0 && f.LogURL != "" {
		return s + ", log: " + f.LogURL
	}
	return s + ", build: " + f.URL
}

// Explain says of builds that did not succeed what Hydra knows: the steps that failed, with their logs. It is a
// *BuildFailedError, also where no more can be known.
func (c *Client) Explain(ctx context.Context, failed ...Build) error {
	e := &BuildFailedError{}
	for i, b := range failed {
		f := FailedBuild{Build: b}
		if i < explainedBuilds {
			c.readPage(ctx, &f)
			f.Constituents = c.badConstituents(ctx, b.ID)
		}
		e.Builds = append(e.Builds, f)
	}
	return e
}

func (c *Client) badConstituents(ctx context.Context, id int64) []Build {
	parts, err := c.constituents(ctx, id)
	if err != nil {
		return nil
	}
	return append(failedOf(parts), unfinishedOf(parts)...)
}

// readPage reads the page for people, as Hydra's JSON has no list of steps and does not say which of them have a log
// (root/build.tt, "Failed build steps" and "Logfile"; root/build-common.tt, renderStepStatus). A newer Hydra tells a
// single step's derivation in JSON (Controller/BuildStep.pm).
func (c *Client) readPage(ctx context.Context, f *FailedBuild) {
	var found buildPage
	_, err := c.ask(ctx, question{path: fmt.Sprintf("/build/%d", f.ID), accept: htmlType,
		read: func(page io.Reader) (err error) { // which has the failed steps first, and all of them after them
			found, err = readBuildPage(io.LimitReader(page, thingLimit), f.ID)
			return err
		}})
	if err != nil {
		return
	}
	if found.hasLog {
		f.LogURL = c.link("/build/%d/log", f.ID)
	}
	f.Steps = found.steps
	for i := range f.Steps {
		if path := f.Steps[i].LogURL; path != "" {
			f.Steps[i].LogURL = c.link("%s", path)
		}
		if i < 3 {
			c.nameStep(ctx, f.ID, &f.Steps[i])
		}
	}
}

func (c *Client) nameStep(ctx context.Context, id int64, step *Step) {
	var j struct {
		DrvPath looseText `json:"drvpath"`
	}
	if err := c.getJSON(ctx, fmt.Sprintf("/build/%d/step/%d", id, step.Number), &j); err != nil {
		return
	}
	if p, err := storepath.Parse(string(j.DrvPath)); err == nil {
		step.Name = strings.TrimSuffix(p.Name(), ".drv")
	}
}

// outputName is the name of the first store path in a cell.
func outputName(cell string) string {
	for _, word := range strings.Fields(strings.ReplaceAll(cell, ",", " ")) {
		if p, err := storepath.Parse(word); err == nil {
			return strings.TrimSuffix(p.Name(), ".drv")
		}
	}
	return text.Clip(cell, 80)
}
