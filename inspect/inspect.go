// Package inspect shows people what an image of this buildpack holds: by store path and by layer, how large, why, who
// signed it, and what changed against another image. It checks nothing: that is package verify's.
package inspect

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Report is what is known of an image. Its texts are a stranger's.
type Report struct {
	// Name is how the image was named on the command line; ID is its digest, "" for a directory.
	Name         string `json:"name"`
	ID           string `json:"id,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	Buildpack    string `json:"buildpack,omitempty"`
	// RunImage is what the label calls the run image: by its digest, and in an engine that is all. RunImageName is its name.
	RunImage     string `json:"runImage,omitempty"`
	RunImageName string `json:"runImageName,omitempty"`
	// Engine is what the files are made for, Requested what BP_NIX_ENGINE said, and Reason why not relocated.
	Engine    string    `json:"engine,omitempty"`
	Requested string    `json:"requestedEngine,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Prefix    string    `json:"prefix,omitempty"` // what the paths were relocated to
	Roots     []string  `json:"roots"`
	Processes []Process `json:"processes"`
	Layers    []Layer   `json:"layers"`
	Paths     []Path    `json:"paths"` // the largest first
	Size      int64     `json:"size"`  // of all files, in bytes
	// Problems say what could not be read.
	Problems []string `json:"problems,omitempty"`
}

// Process is a process type.
type Process struct {
	Type    string `json:"type"`
	Command string `json:"command"`
}

// Layer is one layer of the image. Sizes are in bytes: of its files, and of the layer as the image on disk has it.
type Layer struct {
	Number int    `json:"number"` // from 1
	DiffID string `json:"diffID,omitempty"`
	Name   string `json:"name"`
	Files  int    `json:"files"`
	Size   int64  `json:"size"`
	Stored int64  `json:"stored,omitempty"`
	Paths  int    `json:"paths,omitempty"`
}

// Path is a store path in the image.
type Path struct {
	Path    storepath.Path `json:"path"`
	Name    string         `json:"name"`
	Version string         `json:"version,omitempty"`
	Layer   string         `json:"layer"`
	Size    int64          `json:"size"` // of its files, in bytes
	Files   int            `json:"files"`
	NarHash string         `json:"narHash"`
	// Keys are those that are said to have signed it; ContentAddress proves it where no key has to.
	Keys []string `json:"keys,omitempty"`
	// Cache is where it is said to have come from, "" where nobody says.
	Cache          string           `json:"cache,omitempty"`
	ContentAddress string           `json:"contentAddress,omitempty"`
	Fixups         int              `json:"fixups,omitempty"`
	References     []storepath.Path `json:"references,omitempty"`
}

// Signed is who is said to have signed a path.
func (p Path) Signed() string {
	switch {
	case len(p.Keys) > 0:
		return strings.Join(p.Keys, ", ")
	case p.ContentAddress != "":
		return "content address"
	}
	return "nobody"
}

// ClosureSize is the size of all store paths, in bytes.
func (r *Report) ClosureSize() int64 {
	var sum int64
	for _, p := range r.Paths {
		sum += p.Size
	}
	return sum
}

// Fixups is how many places were fixed up in all paths.
func (r *Report) Fixups() int {
	sum := 0
	for _, p := range r.Paths {
		sum += p.Fixups
	}
	return sum
}

// Sort puts paths in order: the largest first.
func (r *Report) Sort() {
	slices.SortFunc(r.Paths, func(a, b Path) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), strings.Compare(string(a.Path), string(b.Path)))
	})
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error { return WriteJSON(w, r) }

// WriteJSON writes a value for programs.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// Text writes the report for people at a terminal.
func (r *Report) Text(w io.Writer) error {
	t := &printer{w: w}
	t.line("image", r.Name)
	t.line("digest", r.ID)
	t.line("made", strings.TrimPrefix(r.Architecture+" "+r.Buildpack, " "))
	t.line("run image", r.runImage())
	t.line("engine", r.engine())
	for _, root := range r.Roots {
		t.line("root", root)
	}
	for _, p := range r.Processes {
		t.line("process", p.Type+": "+p.Command)
	}
	t.line("size", fmt.Sprintf("%s in %d layers; %s of it in %d store paths, %d places fixed up", text.Bytes(r.Size),
		len(r.Layers), text.Bytes(r.ClosureSize()), len(r.Paths), r.Fixups()))
	for _, c := range r.caches() {
		t.line("from", c)
	}
	for _, problem := range r.Problems {
		t.line("problem", problem)
	}
	t.printf("\n%5s %10s %8s %6s  %s\n", "layer", "size", "files", "paths", "what")
	for _, l := range r.Layers {
		t.printf("%5d %10s %8d %6s  %s\n", l.Number, text.Bytes(l.Size), l.Files, some(l.Paths), text.Printable(l.Name))
	}
	whole := r.ClosureSize()
	width := len("layer")
	for _, p := range r.Paths {
		width = max(width, len(text.Printable(p.Layer)))
	}
	t.printf("\n%10s %6s  %-*s  %s\n", "size", "share", width, "layer", "store path, and who is said to have signed it")
	for _, p := range r.Paths {
		t.printf("%10s %6s  %-*s  %s %s\n", text.Bytes(p.Size), share(p.Size, whole), width, text.Printable(p.Layer),
			text.Printable(p.Path.Base()), text.Printable("("+p.Signed()+")"))
	}
	return t.err
}

// caches are those that store paths are said to have come from, each with how many, the most first.
func (r *Report) caches() (lines []string) {
	count := map[string]int{}
	for _, p := range r.Paths {
		if p.Cache != "" {
			count[p.Cache]++
		}
	}
	for _, url := range slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	}) {
		lines = append(lines, fmt.Sprintf("%s: %s", url, text.Count(count[url], "store path")))
	}
	return lines
}

// runImage is the run image by its name, and by its digest where the name does not have that.
func (r *Report) runImage() string {
	switch {
	case r.RunImageName == "" || strings.Contains(r.RunImage, "@"):
		return r.RunImage
	case r.RunImage == "":
		return r.RunImageName
	}
	return r.RunImageName + " (" + r.RunImage + ")"
}

func (r *Report) engine() string {
	switch {
	case r.Engine == "":
		return ""
	case r.Reason != "":
		return r.Engine + ", as " + r.Reason
	case r.Requested != "":
		return r.Engine + " (BP_NIX_ENGINE=" + r.Requested + ")"
	}
	return r.Engine
}

func some(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func share(part, whole int64) string {
	if whole == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f%%", 100*float64(part)/float64(whole))
}

// printer writes until the first error.
type printer struct {
	w   io.Writer
	err error
}

func (t *printer) printf(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}

func (t *printer) line(name, value string) {
	if value != "" {
		t.printf("%-10s %s\n", name, text.Printable(value))
	}
}
