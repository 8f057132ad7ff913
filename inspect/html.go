package inspect

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

//go:embed page.html
var page string

// The treemap's size, in the units of its drawing.
const mapWidth, mapHeight = 1000, 560

// cell is a rectangle of the treemap: a layer, or a store path in it.
type cell struct {
	X, Y, W, H float64
	Label      string
	Title      string
	Row        string // the table's row about it
	Hue        int
	Shown      bool // whether it is large enough for its label
}

// row is a row of a table.
type row struct {
	ID, Name, Layer, Size, Share, Signed, Cache, Why string
	Number, Files, Paths                             string
	Bytes                                            int64
}

// HTML writes one page that needs nothing else: no network, no script. The treemap is a drawing of links into the tables
// that say the same, so that a keyboard and a screen reader reach everything.
func (r *Report) HTML(w io.Writer) error {
	parsed, err := template.New("page").Funcs(template.FuncMap{"printable": text.Printable}).Parse(page)
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	layers, paths := r.rows()
	return parsed.Execute(w, map[string]any{
		"Report": r, "Layers": layers, "Paths": paths, "Cells": r.treemap(paths), "Size": text.Bytes(r.Size),
		"Closure": text.Bytes(r.ClosureSize()), "Engine": text.Printable(r.engine()), "RunImage": text.Printable(r.runImage()), "Width": mapWidth, "Height": mapHeight,
		"Fixups": r.Fixups(), "Caches": r.caches(),
	})
}

func (r *Report) rows() (layers, paths []row) {
	for _, l := range r.Layers {
		layers = append(layers, row{
			Number: fmt.Sprint(l.Number), Name: text.Printable(l.Name), Size: text.Bytes(l.Size), Files: fmt.Sprint(l.Files),
			Paths: some(l.Paths), Bytes: l.Size,
		})
	}
	from, whole := r.graph().Referrers(), r.ClosureSize()
	for i, p := range r.Paths {
		why := "no root needs it"
		if before, ok := from[p.Path]; ok && before == "" {
			why = "a root"
		} else if ok {
			why = text.Printable(before.Base()) + " needs it"
		}
		paths = append(paths, row{
			ID: fmt.Sprintf("p%d", i), Name: text.Printable(p.Path.Base()), Layer: text.Printable(p.Layer), Size: text.Bytes(p.Size),
			Share: share(p.Size, whole), Signed: text.Printable(p.Signed()), Cache: text.Printable(p.Cache), Why: why, Bytes: p.Size,
		})
	}
	return layers, paths
}

// treemap draws each layer as a rectangle of its paths' size, and the paths in it.
func (r *Report) treemap(rows []row) []cell {
	byLayer := map[string][]int{}
	sizes := map[string]int64{}
	for i, p := range r.Paths {
		byLayer[p.Layer] = append(byLayer[p.Layer], i)
		sizes[p.Layer] += max(p.Size, 1)
	}
	names := slices.Sorted(maps.Keys(byLayer))
	slices.SortStableFunc(names, func(a, b string) int { return int(min(max(sizes[b]-sizes[a], -1), 1)) })
	weights := make([]float64, 0, len(names))
	for _, name := range names {
		weights = append(weights, float64(sizes[name]))
	}
	var cells []cell
	whole := r.ClosureSize()
	for n, outer := range squarify(weights, rectangle{0, 0, mapWidth, mapHeight}) {
		members := byLayer[names[n]]
		inner := make([]float64, 0, len(members))
		for _, i := range members {
			inner = append(inner, float64(max(r.Paths[i].Size, 1)))
		}
		for m, box := range squarify(inner, outer) {
			p := r.Paths[members[m]]
			cells = append(cells, cell{
				X: round(box.x), Y: round(box.y), W: round(box.w), H: round(box.h), Label: text.Printable(p.Name),
				Title: fmt.Sprintf("%s, %s, %s of the closure, in layer %s", text.Printable(p.Path.Base()), text.Bytes(p.Size),
					share(p.Size, whole), text.Printable(p.Layer)),
				Row: rows[members[m]].ID, Hue: n * 47 % 360, Shown: box.w > 9*float64(min(len(p.Name), 14)) && box.h > 18,
			})
		}
	}
	return cells
}

func round(f float64) float64 { return math.Round(f*100) / 100 }

type rectangle struct{ x, y, w, h float64 }

// squarify fills a rectangle with one for each weight, in their order, as square as they get (Bruls, Huizing, van Wijk,
// "Squarified Treemaps", 2000).
func squarify(weights []float64, in rectangle) []rectangle {
	total := 0.0
	for _, w := range weights {
		total += w
	}
	out := make([]rectangle, 0, len(weights))
	if total <= 0 || in.w <= 0 || in.h <= 0 {
		return append(out, make([]rectangle, len(weights))...)
	}
	scale := in.w * in.h / total
	for start := 0; start < len(weights); {
		side := min(in.w, in.h)
		end, sum, worst := start, 0.0, math.Inf(1)
		low, high := math.Inf(1), 0.0
		for end < len(weights) {
			area := weights[end] * scale
			l, h, s := min(low, area), max(high, area), sum+area
			next := max(side*side*h/(s*s), s*s/(side*side*l))
			if next > worst {
				break
			}
			low, high, sum, worst = l, h, s, next
			end++
		}
		end = max(end, start+1)
		if sum == 0 {
			sum = weights[start] * scale
		}
		thick := sum / max(side, 1e-9)
		at := 0.0
		for _, w := range weights[start:end] {
			long := w * scale / max(thick, 1e-9)
			if in.w >= in.h {
				out = append(out, rectangle{in.x, in.y + at, thick, long})
			} else {
				out = append(out, rectangle{in.x + at, in.y, long, thick})
			}
			at += long
		}
		if in.w >= in.h {
			in.x, in.w = in.x+thick, max(in.w-thick, 0)
		} else {
			in.y, in.h = in.y+thick, max(in.h-thick, 0)
		}
		start = end
	}
	return out
}
