package hydra

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Eval is an evaluation of a jobset: one set of inputs and the builds that came of it.
type Eval struct {
	ID     int64
	Time   time.Time        // when it was made
	Flake  string           // the locked flake reference, "" where the jobset is not a flake
	Inputs map[string]Input // by name; empty for a flake
	Builds int              // how many builds it has
	URL    string           // its page
}

// Input is what an evaluation was made from, one of possibly several.
type Input struct {
	URI      string // of a repository
	Revision string // a commit, or a number in Subversion
	Value    string // of a string, boolean or Nix expression
}

// Build is one job of an evaluation.
type Build struct {
	ID                   int64
	Project, Jobset, Job string
	System               string
	NixName              string // the derivation's name
	DrvPath              string // the derivation, as Hydra names it
	Outputs              map[string]storepath.Path
	Finished             bool
	Status               Status
	Evals                []int64 // evaluations it is part of
	URL                  string  // its page

	outputs map[string]string // as Hydra names them, "" for an output it has no path for
}

// Status is Hydra's code for how a build or step ended (sql/hydra.sql, table Builds).
type Status int

// Succeeded is the only good one. Unfinished stands for none yet.
const (
	Succeeded  Status = 0
	Unfinished Status = -1
)

var statusNames = map[Status]string{
	Unfinished: "not finished",
	Succeeded:  "succeeded",
	1:          "the build returned a non-zero exit code",
	2:          "a dependency failed to build",
	3:          "aborted by a failure of Hydra's own",
	4:          "cancelled by a user",
	5:          "failed",
	6:          "failed with output",
	7:          "timed out",
	8:          "failed before, and Hydra remembers it",
	9:          "no machine builds for this system",
	10:         "its log became too long",
	11:         "its output became too large",
	12:         "built twice with different results",
}

// String is the status in words.
func (s Status) String() string {
	if name, ok := statusNames[s]; ok {
		return name
	}
	return fmt.Sprintf("failed with status %d", int(s))
}

// number is an integer as Hydra's database layer may write it: a number, a string of digits, or a boolean. The
// published schema has booleans where the sources have 0 and 1.
type number int64

func (n *number) UnmarshalJSON(b []byte) error {
	switch s := strings.Trim(string(b), `"`); s {
	case "true":
		*n = 1
	case "false", "null", "":
		*n = 0
	default:
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("%s is not a whole number", text.Clip(string(b), 40))
		}
		*n = number(v)
	}
	return nil
}

// looseText is a name or a value: a string, or what a dynamically typed server may put in its place. It gets into messages,
// so it is short and has no control characters, whatever Hydra says.
type looseText string

func (t *looseText) UnmarshalJSON(b []byte) error {
	var m message
	err := m.UnmarshalJSON(b)
	*t = looseText(shownText(string(m)))
	return err
}

// maxText is how much of a name or value is kept, in bytes: more than a store path, an address or an attribute has.
const maxText = 8 << 10

func shownText(s string) string { return text.Printable(text.Cut(s, maxText)) }

// message is a text of several lines, or what a dynamically typed server may put in its place.
type message string

func (t *message) UnmarshalJSON(b []byte) error {
	var s string
	switch {
	case bytes.Equal(b, []byte("null")):
		*t = ""
	case json.Unmarshal(b, &s) == nil:
		*t = message(s)
	default:
		*t = message(b)
	}
	return nil
}

// count is the length of an array of numbers that nobody needs.
type count int

func (n *count) UnmarshalJSON(b []byte) error {
	inner := bytes.TrimSpace(b)
	if len(inner) < 2 || inner[0] != '[' {
		return fmt.Errorf("builds are %s, not a list", text.Clip(string(b), 40))
	}
	if *n = count(bytes.Count(inner, []byte(",")) + 1); len(bytes.TrimSpace(inner[1:len(inner)-1])) == 0 {
		*n = 0
	}
	return nil
}

type inputJSON struct {
	URI      looseText `json:"uri"`
	Revision looseText `json:"revision"`
	Value    looseText `json:"value"`
}

type evalJSON struct {
	ID        number     `json:"id"`
	Timestamp number     `json:"timestamp"`
	Flake     looseText  `json:"flake"`
	Builds    count      `json:"builds"`
	Inputs    inputsJSON `json:"jobsetevalinputs"`
}

func (c *Client) eval(j evalJSON) Eval {
	e := Eval{
		ID: int64(j.ID), Flake: string(j.Flake), Builds: int(j.Builds), Inputs: map[string]Input{},
		Time: unix(j.Timestamp), URL: c.link("/eval/%d", j.ID),
	}
	for name, i := range j.Inputs {
		e.Inputs[shownText(name)] = Input{URI: string(i.URI), Revision: string(i.Revision), Value: string(i.Value)}
	}
	return e
}

// size is about what it takes in memory.
func (j *evalJSON) size() int {
	size := thingSize + len(j.Flake)
	for name, i := range j.Inputs {
		size += entrySize + len(name) + len(i.URI) + len(i.Revision) + len(i.Value)
	}
	return size
}

// About what things take in memory, in bytes: one with its fields, an entry of a map, a value of a list.
const thingSize, entrySize, valueSize = 600, 300, 16

// inputsJSON are an evaluation's inputs.
type inputsJSON map[string]inputJSON

func (i *inputsJSON) UnmarshalJSON(b []byte) error {
	type plain inputsJSON
	if len(b) > buildLimit {
		return errThing
	}
	return json.Unmarshal(b, (*plain)(i))
}

// evalsJSON is a page of evaluations. The schema makes it a list of such objects; the sources, and the schema's own
// example, make it one object.
type evalsJSON struct {
	Evals []evalJSON
	Next  looseText

	given bool // there is a list of evaluations
}

func (p *evalsJSON) read(s *stream) error {
	begins, err := s.token()
	if err != nil {
		return err
	}
	pages := 1
	if begins == json.Delim('[') {
		pages = 0
		err = s.rest(func() error {
			pages++
			return s.object(func(name string) error { return p.field(s, name) })
		})
	} else {
		err = s.fields(func(name string) error { return p.field(s, name) })
	}
	switch {
	case err != nil:
		return err
	case pages != 1:
		return fmt.Errorf("a list of %d things where a page of evaluations was expected", pages)
	case !p.given:
		return fmt.Errorf("it has no %q", "evals")
	}
	return nil
}

func (p *evalsJSON) field(s *stream, name string) error {
	switch name {
	case "next":
		return s.value(buildLimit, &p.Next)
	case "evals":
		return s.listOrNull(func() error {
			p.given = true
			var j evalJSON
			if err := s.value(thingLimit, &j); err != nil {
				return err
			}
			p.Evals = append(p.Evals, j)
			return s.keep(j.size())
		}, func() { p.given = true })
	}
	return s.skip()
}

type buildJSON struct {
	ID       number    `json:"id"`
	Finished *number   `json:"finished"`
	Status   *number   `json:"buildstatus"`
	Evals    []number  `json:"jobsetevals"`
	Project  looseText `json:"project"`
	Jobset   looseText `json:"jobset"`
	Job      looseText `json:"job"`
	NixName  looseText `json:"nixname"`
	System   looseText `json:"system"`
	DrvPath  looseText `json:"drvpath"`
	Outputs  map[string]struct {
		Path looseText `json:"path"`
	} `json:"buildoutputs"`
}

// UnmarshalJSON refuses a build without the fields that nothing can be said without.
func (j *buildJSON) UnmarshalJSON(b []byte) error {
	type plain buildJSON
	if err := json.Unmarshal(b, (*plain)(j)); err != nil {
		return err
	}
	switch {
	case j.ID <= 0 || j.Job == "" || j.Finished == nil:
		return fmt.Errorf("it has no build with %q, %q and %q", "id", "job", "finished")
	case *j.Finished != 0 && j.Status == nil:
		return fmt.Errorf("build %d is finished without a %q", j.ID, "buildstatus")
	}
	return nil
}

// readBuilds reads a list of builds.
func (c *Client) readBuilds(s *stream, take func(Build)) error {
	return s.list(func() error {
		var j buildJSON
		if err := s.value(buildLimit, &j); err != nil {
			return err
		}
		take(c.build(j))
		return s.keep(j.size())
	})
}

// size is about what a Build made of it takes in memory.
func (j *buildJSON) size() int {
	size := thingSize + valueSize*len(j.Evals) + len(j.Project) + len(j.Jobset) + len(j.Job) + len(j.NixName) +
		len(j.System) + len(j.DrvPath)
	for name, output := range j.Outputs {
		size += 2*entrySize + len(name) + len(output.Path)
	}
	return size
}

func (c *Client) build(j buildJSON) Build {
	b := Build{
		ID: int64(j.ID), Project: string(j.Project), Jobset: string(j.Jobset), Job: string(j.Job),
		System: string(j.System), NixName: string(j.NixName), DrvPath: string(j.DrvPath),
		Finished: *j.Finished != 0, Status: Unfinished, URL: c.link("/build/%d", j.ID),
		Outputs: map[string]storepath.Path{}, outputs: map[string]string{},
	}
	if b.Finished {
		b.Status = Status(*j.Status)
	}
	for _, id := range j.Evals {
		b.Evals = append(b.Evals, int64(id))
	}
	for name, output := range j.Outputs {
		name = shownText(name)
		b.outputs[name] = string(output.Path)
		if p, err := storepath.Parse(string(output.Path)); err == nil {
			b.Outputs[name] = p
		}
	}
	return b
}

// checkOutputs refuses a successful build that cannot be downloaded.
func (b Build) checkOutputs() error {
	if len(b.outputs) == 0 {
		return &OutputPathError{Build: b, Problem: "that is, it has no outputs at all"}
	}
	for _, name := range slices.Sorted(maps.Keys(b.outputs)) {
		said := b.outputs[name]
		if said == "" {
			return &OutputPathError{Build: b, Output: name, Problem: "that is, it does not know the path"}
		}
		if _, err := storepath.Parse(said); err != nil {
			return &OutputPathError{Build: b, Output: name, Path: said, Problem: "which is not a store path"}
		}
	}
	return nil
}

func unix(n number) time.Time {
	if n <= 0 {
		return time.Time{}
	}
	return time.Unix(int64(n), 0).UTC()
}
