package hydra

import (
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/html"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// cellLimit is what is kept of the text of a cell, in bytes.
const cellLimit = 4 << 10

// buildPage is what Hydra's page of a build tells.
type buildPage struct {
	hasLog bool
	steps  []Step // the failed ones, their logs given by their paths
}

// stepLink is a link to a step's page, or to its log: …/step/N/log, and nixlog/N before 2026.
var stepLink = regexp.MustCompile(`/build/([0-9]+)/(nixlog|step)/([0-9]+)(/log)?$`)

// readBuildPage finds the failed steps in the page of a build: rows of a table that link to a step of this build, or
// begin with a number, and hold an element of class "error". The page is read tag by tag, as its tree, which HTML's rules
// have a parser complete, may be any number of times as large as itself.
func readBuildPage(page io.Reader, build int64) (buildPage, error) {
	var found buildPage
	id := strconv.FormatInt(build, 10)
	tags := html.NewTokenizer(page)
	var row *stepRow
	end := func() {
		if step, ok := row.end(); ok && len(found.steps) < explainedSteps &&
			!slices.ContainsFunc(found.steps, func(s Step) bool { return s.Number == step.Number }) {
			found.steps = append(found.steps, step)
		}
		row = nil
	}
	for {
		switch kind := tags.Next(); kind {
		case html.ErrorToken:
			end()
			return found, pageError(tags)
		case html.TextToken:
			if row.listens() {
				row.text(string(tags.Text()))
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			tag := readTag(tags)
			found.hasLog = found.hasLog || strings.HasSuffix(tag.href, "/build/"+id+"/log")
			switch tag.name {
			case "tr":
				end()
				row = &stepRow{build: id}
			case "td", "th":
				row.close("td") // which need not be closed by a tag
			}
			row.open(tag)
		case html.EndTagToken:
			switch name, _ := tags.TagName(); string(name) {
			case "tr", "table":
				end()
			default:
				row.close(string(name))
			}
		}
	}
}

// pageError is why a page could not be read to its end, nil where it could, or where it only is too long.
func pageError(tags *html.Tokenizer) error {
	if err := tags.Err(); err != io.EOF && err != html.ErrBufferExceeded {
		return err
	}
	return nil
}

// htmlTag is what of a start tag matters here.
type htmlTag struct{ name, href, class string }

func readTag(tags *html.Tokenizer) htmlTag {
	name, more := tags.TagName()
	tag := htmlTag{name: string(name)}
	for more {
		var key, value []byte
		key, value, more = tags.TagAttr()
		switch string(key) {
		case "href":
			tag.href = string(value)
		case "class":
			tag.class = string(value)
		}
	}
	return tag
}

// stepRow is a row of the table of steps. A nil one is none.
type stepRow struct {
	build string
	step  Step
	cells []*cell // open ones whose text is wanted
}

// cell is an element whose text is wanted.
type cell struct {
	tag   string
	depth int // open elements of the same name in it
	text  strings.Builder
	done  func(text string)
}

func (r *stepRow) listens() bool { return r != nil && len(r.cells) > 0 }

func (r *stepRow) text(s string) {
	for _, c := range r.cells {
		c.text.WriteString(s[:min(len(s), cellLimit-c.text.Len())])
	}
}

// open takes a start tag in.
func (r *stepRow) open(tag htmlTag) {
	if r == nil {
		return
	}
	for _, c := range r.cells {
		if c.tag == tag.name {
			c.depth++
		}
	}
	found := stepLink.FindStringSubmatch(tag.href)
	switch step := &r.step; {
	case found != nil && found[1] == r.build:
		step.Number, _ = strconv.Atoi(found[3])
		if found[2] == "nixlog" || found[4] != "" {
			step.LogURL = found[0]
		}
	case tag.name == "td" && step.Number == 0:
		r.want(tag.name, func(s string) {
			if step.Number == 0 {
				step.Number, _ = strconv.Atoi(strings.TrimSpace(s))
			}
		})
	case tag.name == "tt" && step.Name == "":
		r.want(tag.name, func(s string) { step.Name = outputName(s) })
	case tag.name == "em" && step.Status != "" && step.Cause == "":
		r.want(tag.name, func(s string) { step.Cause = text.Clip(s, 300) })
	case step.Status == "" && strings.Contains(" "+tag.class+" ", " error "):
		r.want(tag.name, func(s string) { step.Status = text.Clip(s, 80) })
	}
}

// maxCells bounds how many texts are wanted at once; a row has no more than two that overlap.
const maxCells = 8

func (r *stepRow) want(tag string, done func(string)) {
	if len(r.cells) < maxCells {
		r.cells = append(r.cells, &cell{tag: tag, done: done})
	}
}

// close takes an end tag in.
func (r *stepRow) close(tag string) {
	if r == nil {
		return
	}
	r.cells = slices.DeleteFunc(r.cells, func(c *cell) bool {
		if c.tag != tag {
			return false
		}
		if c.depth--; c.depth >= 0 {
			return false
		}
		c.done(c.text.String())
		return true
	})
}

// end gives the step, if the row is that of a failed one.
func (r *stepRow) end() (Step, bool) {
	if r == nil {
		return Step{}, false
	}
	for _, c := range r.cells {
		c.done(c.text.String())
	}
	if r.step.Name == "" {
		r.step.Name = "an unnamed derivation"
	}
	return r.step, r.step.Number > 0 && r.step.Status != ""
}

// preformatted is the text of a page's first <pre>.
func preformatted(page io.Reader) (string, error) {
	tags := html.NewTokenizer(page)
	var inside bool
	var all strings.Builder
	for {
		switch tags.Next() {
		case html.ErrorToken:
			return all.String(), pageError(tags)
		case html.TextToken:
			if inside {
				all.Write(tags.Text())
			}
		case html.StartTagToken:
			name, _ := tags.TagName()
			inside = inside || string(name) == "pre"
		case html.EndTagToken:
			if name, _ := tags.TagName(); inside && string(name) == "pre" {
				return all.String(), nil
			}
		}
	}
}
