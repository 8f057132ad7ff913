package hydra

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/net/html"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
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
	LogURL       string  // the build's own log
}

// Step is one derivation that Hydra built, or tried to, for a build.
type Step struct {
	Number  int
	Name    string // of the derivation, or of its output where Hydra does not name the derivation
	DrvPath string // "" where Hydra does not say
	Status  string // Hydra's words
	LogURL  string
}

// String is one clause.
func (f FailedBuild) String() string {
	s := fmt.Sprintf("build %d of %s failed: %s", f.ID, clip(f.Job), f.Status)
	for _, step := range firstOf(f.Steps, 3) {
		s += fmt.Sprintf(", step %d, %s, %s: %s", step.Number, step.Name, strings.ToLower(step.Status), step.LogURL)
	}
	for _, part := range firstOf(f.Constituents, 3) {
		s += fmt.Sprintf(", its part %s is %s: %s", clip(part.Job), part.state(), part.URL)
	}
	if len(f.Steps) == 0 && len(f.Constituents) == 0 {
		return s + ", log: " + f.LogURL
	}
	return s + ", build: " + f.URL
}

// explain gathers what can be known of failed builds. Not learning more is no error: the failure is.
func (c *Client) explain(ctx context.Context, failed []Build) error {
	e := &BuildFailedError{}
	for i, b := range failed {
		f := FailedBuild{Build: b, LogURL: b.URL + "/log"}
		if i < explainedBuilds {
			f.Steps = c.failedSteps(ctx, b.ID)
			f.Constituents = c.badConstituents(ctx, b.ID)
		}
		e.Builds = append(e.Builds, f)
	}
	return e
}

func (c *Client) badConstituents(ctx context.Context, id int64) []Build {
	parts, err := c.Constituents(ctx, id)
	if err != nil {
		return nil
	}
	return append(failedOf(parts), unfinishedOf(parts)...)
}

// failedSteps reads the page for people, as Hydra's JSON has no list of steps (root/build.tt, "Failed build steps").
// A newer Hydra tells a single step's derivation in JSON (Controller/BuildStep.pm).
func (c *Client) failedSteps(ctx context.Context, id int64) []Step {
	got, err := c.ask(ctx, question{path: fmt.Sprintf("/build/%d", id), accept: htmlType, limit: smallBody})
	if err != nil {
		return nil
	}
	steps := stepsOnPage(got.body, id)
	for i := range steps {
		steps[i].LogURL = c.link("/build/%d/nixlog/%d", id, steps[i].Number)
		if i < 3 {
			c.nameStep(ctx, id, &steps[i])
		}
	}
	return steps
}

func (c *Client) nameStep(ctx context.Context, id int64, step *Step) {
	var j struct {
		DrvPath text `json:"drvpath"`
	}
	if _, err := c.askJSON(ctx, fmt.Sprintf("/build/%d/step/%d", id, step.Number), smallBody, &j); err != nil {
		return
	}
	if p, err := storepath.Parse(string(j.DrvPath)); err == nil {
		step.DrvPath, step.Name = p.String(), strings.TrimSuffix(p.Name(), ".drv")
	}
}

var stepLink = regexp.MustCompile(`/build/([0-9]+)/(?:nixlog|step)/([0-9]+)`)

// stepsOnPage finds the failed steps in Hydra's page of a build: rows of a table that link to a step of this build
// and hold an element of class "error".
func stepsOnPage(page []byte, build int64) []Step {
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		return nil
	}
	var steps []Step
	seen := map[int]bool{}
	var walk func(n *html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.ElementNode && n.Data == "tr" {
			if step, ok := stepInRow(n, build); ok && !seen[step.Number] && len(steps) < explainedSteps {
				seen[step.Number] = true
				steps = append(steps, step)
			}
		}
		for child := n.FirstChild; child != nil; child = child.NextSibling {
			walk(child)
		}
	}
	walk(doc)
	return steps
}

func stepInRow(row *html.Node, build int64) (Step, bool) {
	var step Step
	for n := range row.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		found := stepLink.FindStringSubmatch(attribute(n, "href"))
		switch {
		case found != nil && found[1] == strconv.FormatInt(build, 10):
			step.Number, _ = strconv.Atoi(found[2])
		case n.Data == "tt" && step.Name == "":
			step.Name = outputName(textOf(n))
		case step.Status == "" && strings.Contains(" "+attribute(n, "class")+" ", " error "):
			step.Status = clipTo(textOf(n), 80)
		}
	}
	if step.Name == "" {
		step.Name = "an unnamed derivation"
	}
	return step, step.Number > 0 && step.Status != ""
}

// outputName is the name of the first store path in a cell.
func outputName(cell string) string {
	for _, word := range strings.Fields(strings.ReplaceAll(cell, ",", " ")) {
		if p, err := storepath.Parse(word); err == nil {
			return strings.TrimSuffix(p.Name(), ".drv")
		}
	}
	return clipTo(cell, 80)
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}
