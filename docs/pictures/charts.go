package main

import (
	_ "embed"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// measured are rows as scripts/bench fleet and rebuild print them.
//
//go:embed figures.tsv
var measured string

// figure is the value of a row of the measurements.
func figure(name string) float64 {
	for line := range strings.Lines(measured) {
		if fields := strings.Split(line, "\t"); fields[0] == name {
			value, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				panic(fmt.Sprintf("docs/pictures/figures.tsv: %s: %s", name, err))
			}
			return value
		}
	}
	panic("docs/pictures/figures.tsv has no " + name)
}

// groupings are the rules that are compared, by their names in the measurements.
var groupings = []struct{ row, name, fill string }{
	{"ours", "this buildpack", blue},
	{"auto_layer", "dockerTools, auto-layer", light},
	{"popularity", "popularity", rose},
}

// bar draws one bar from a scale's zero, with what it is on the left and its value behind it.
func (c *canvas) bar(x, y, length int, fill, name, value string) {
	c.text(x-8, y+13, "end", ink, 12, name)
	c.box(x, y, max(length, 2), 18, fill, faint)
	c.text(x+max(length, 2)+6, y+13, "start", ink, 12, value)
}

// fleet compares groupings by what a registry stores and what of it could be saved.
func fleet() *canvas {
	c := &canvas{}
	c.text(20, 28, "start", ink, 14, "Of the bytes that sharing could save, what is saved: 100 layers an image, the worst of several fleets")
	y := c.compare(44, "share_of_what_can_be_saved", 420, func(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) })
	c.text(20, y+20, "start", ink, 14, "What the registry stores, against all different store paths")
	c.compare(y+36, "stored_against_union", 60, func(stored float64) string { return fmt.Sprintf("%.2f", stored) })
	return c
}

// compare draws a figure of all groupings for both sizes of fleets, from y on, and gives where it ends.
func (c *canvas) compare(y int, row string, scale float64, value func(float64) string) int {
	for _, size := range []int{40, 200} {
		for i, g := range groupings {
			name := g.name
			if i == 0 {
				name = fmt.Sprintf("%d apps: %s", size, name)
			}
			measured := figure(fmt.Sprintf("fleet.%d.%s.%s", size, g.row, row))
			c.bar(220, y, int(math.Round(measured*scale)), g.fill, name, value(measured))
			y += 24
		}
		y += 10
	}
	return y
}

// node is what a node downloads for the k-th image, of that image's bytes.
func node() *canvas {
	c := &canvas{}
	const left, top, height, step = 60, 50, 200, 75
	images := []int{1, 2, 3, 5, 10, 20, 40, 100, 200}
	c.text(20, 28, "start", ink, 14, "What a node downloads for its k-th image, of that image's bytes (fleets of 200 apps, the mean)")
	for percent := 0; percent <= 100; percent += 25 {
		y := top + height - height*percent/100
		c.line(left, y, left+step*(len(images)-1), y, "#eaeef2", 1)
		c.text(left-8, y+4, "end", faint, 11, fmt.Sprintf("%d %%", percent))
	}
	for at, k := range images {
		c.text(left+at*step, top+height+18, "middle", faint, 11, fmt.Sprintf("k = %d", k))
	}
	for i, g := range groupings {
		at := func(n int) (x, y int) {
			part := figure(fmt.Sprintf("fleet.200.%s.image_%d_downloaded", g.row, images[n]))
			return left + n*step, top + height - int(math.Round(part*height))
		}
		colour := g.fill
		if colour == light {
			colour = faint
		}
		for n := 1; n < len(images); n++ {
			x1, y1 := at(n - 1)
			x2, y2 := at(n)
			c.line(x1, y1, x2, y2, colour, 2)
		}
		c.line(left+i*200, top+height+42, left+i*200+24, top+height+42, colour, 2)
		c.text(left+i*200+30, top+height+46, "start", ink, 12, g.name)
	}
	return c
}

// pushes compares what a second push exports, on a logarithmic scale.
func pushes() *canvas {
	c := &canvas{}
	c.text(20, 28, "start", ink, 14, "What a push exports of a closure of 380 paths and 1.68 GB (each mark: ten times as much)")
	const left, decade = 240, 110
	for i := range 5 {
		c.line(left+i*decade, 40, left+i*decade, 340, "#eaeef2", 1)
	}
	y := 46
	for _, change := range []struct{ row, name string }{
		{"app", "the app changed"}, {"leaf", "a leaf changed"}, {"library", "glibc changed"},
	} {
		c.text(20, y+13, "start", ink, 12, change.name+":")
		for _, way := range []struct{ suffix, name, fill string }{
			{"", "this buildpack", blue}, {"_by_dockertools", "dockerTools", light}, {"_by_nix2container", "nix2container", rose},
		} {
			mb := figure("rebuild." + change.row + ".exported" + way.suffix)
			c.bar(left, y, int(math.Round(math.Log10(max(mb, 1))*decade)), way.fill, way.name, fmt.Sprintf("%.1f MB", mb))
			y += 24
		}
		y += 24
	}
	return c
}

// line leads from one point to another.
func (c *canvas) line(x1, y1, x2, y2 int, colour string, width int) {
	c.grow(max(x1, x2), max(y1, y2))
	fmt.Fprintf(&c.body, `<path d="M%d %d L%d %d" stroke="%s" stroke-width="%d" fill="none"/>`+"\n", x1, y1, x2, y2, colour, width)
}
