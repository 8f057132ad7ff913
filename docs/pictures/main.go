// Command pictures draws the documentation's pictures: `go run ./docs/pictures` writes the SVG files beside this one.
package main

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
)

// pictures are the drawings by the names of their files.
func pictures() map[string]*canvas {
	return map[string]*canvas{
		"road.svg": road(), "relocation.svg": relocation(), "push.svg": push(),
		"fleet.svg": fleet(), "node.svg": node(), "pushes.svg": pushes(),
	}
}

func main() {
	for name, picture := range pictures() {
		if err := os.WriteFile(filepath.Join("docs", "pictures", name), []byte(picture.svg()), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "pictures:", err)
			os.Exit(1)
		}
	}
}

// The colours, readable on a light and on a dark page.
const (
	ink   = "#24292f"
	faint = "#8c959f"
	paper = "#ffffff"
	blue  = "#5277c3" // Nix's own two blues
	light = "#c9e0f5"
	rose  = "#cf6a4c"
)

// canvas collects shapes; its size grows with them.
type canvas struct {
	body          strings.Builder
	width, height int
}

func (c *canvas) grow(x, y int) {
	c.width, c.height = max(c.width, x+20), max(c.height, y+20)
}

// box is a rounded rectangle with lines of text in its middle.
func (c *canvas) box(x, y, w, h int, fill, stroke string, lines ...string) {
	c.grow(x+w, y+h)
	fmt.Fprintf(&c.body, `<rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="%s" stroke="%s"/>`+"\n", x, y, w, h, fill, stroke)
	for i, line := range lines {
		c.text(x+w/2, y+h/2+5+(2*i-len(lines)+1)*9, "middle", ink, 13, line)
	}
}

// text writes one line; mono text is between back quotes.
func (c *canvas) text(x, y int, anchor, colour string, size int, line string) {
	width := 0
	if anchor == "start" {
		width = len(line) * size * 11 / 20
	}
	c.grow(x+width, y)
	family := "system-ui, sans-serif"
	if trimmed := strings.Trim(line, "`"); trimmed != line {
		line, family = trimmed, "ui-monospace, monospace"
	}
	fmt.Fprintf(&c.body, `<text x="%d" y="%d" text-anchor="%s" fill="%s" font-size="%d" font-family="%s" xml:space="preserve">%s</text>`+"\n",
		x, y, anchor, colour, size, family, html.EscapeString(line))
}

// arrow leads from one point to another.
func (c *canvas) arrow(x1, y1, x2, y2 int) {
	c.grow(max(x1, x2), max(y1, y2))
	fmt.Fprintf(&c.body, `<path d="M%d %d L%d %d" stroke="%s" fill="none" marker-end="url(#tip)"/>`+"\n", x1, y1, x2, y2, ink)
}

func (c *canvas) svg() string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="%s"/></marker></defs>
<rect width="100%%" height="100%%" fill="%s"/>
%s</svg>
`, c.width, c.height, c.width, c.height, ink, paper, c.body.String())
}

// road is one build, from source to image.
func road() *canvas {
	c := &canvas{}
	c.box(20, 90, 110, 60, paper, ink, "your source", "and a Procfile")
	sources := []string{"BP_NIX_STORE_PATH", "a Hydra job", "evaluation by Nix"}
	for i, s := range sources {
		y := 30 + i*70
		c.box(190, y, 160, 40, light, blue, s)
		c.arrow(130, 120, 188, y+20)
		c.arrow(350, y+20, 408, 120)
	}
	c.box(410, 95, 110, 50, light, blue, "store paths")
	c.arrow(520, 120, 568, 120)
	c.box(570, 30, 200, 180, light, blue)
	for i, s := range []string{"narinfo: who signed it?", "fetch", "decompress", "verify", "relocate", "write"} {
		c.text(670, 58+i*27, "middle", ink, 13, s)
	}
	c.text(670, 230, "middle", faint, 12, "one stream per path, many at once")
	c.arrow(770, 120, 818, 120)
	c.box(820, 30, 150, 180, paper, ink)
	for i, s := range []string{"closure-6204-…", "closure-7130-…", "closure-8215-…", "launcher", "run", "view"} {
		fill := light
		if i > 2 {
			fill = paper
		}
		c.box(835, 42+i*27, 120, 22, fill, blue)
		c.text(895, 58+i*27, "middle", ink, 12, s)
	}
	c.text(895, 230, "middle", faint, 12, "the image's layers")
	return c
}

// relocation is one store path, rewritten at equal length.
func relocation() *canvas {
	c := &canvas{}
	const cell, left = 9, 30
	row := func(y int, label, prefix, hash, name string) {
		c.text(left, y-12, "start", faint, 12, label)
		x := left
		for _, part := range []struct{ text, fill string }{{prefix, light}, {hash, "#f6d9cf"}, {name, "#dcefe2"}} {
			w := len(part.text) * cell
			c.box(x, y, w, 28, part.fill, faint)
			for i, r := range part.text {
				c.text(x+i*cell+cell/2, y+19, "middle", ink, 13, "`"+string(r)+"`")
			}
			x += w
		}
	}
	row(40, "as Nix built it: 43 characters before the name", "/nix/store/", "00bgd045z0d4icpbc2yyz4gx48ak44la", "-net-tools-1.60")
	row(120, "as it is in the image: 43 characters, so that no offset moves", "/layers/nixproot_nix-hydra/view/", "00bgd045z0d", "-net-tools-1.60")
	c.text(left, 178, "start", ink, 13, "The longer directory is paid for with hash characters; 11 of 32 are left, and none in a closure may collide.")
	return c
}

// push is what a second push moves: the app's layer, the links to it and what the launcher is told.
func push() *canvas {
	c := &canvas{}
	names := []string{
		"run image", "closure-6204-…", "closure-6871-…", "closure-7130-…", "closure-…", "closure-8215-…", "launcher", "run", "view",
	}
	for column, title := range []string{"first push", "second push: one line of the app changed"} {
		x := 20 + column*330
		c.text(x, 30, "start", ink, 14, title)
		for i, name := range names {
			changed := column == 0 && i > 0 || column == 1 && i > 4 && name != "launcher"
			fill, word, colour := "#eaeef2", "stays: neither fetched, unpacked nor pushed", faint
			if changed {
				fill, word, colour = "#f6d9cf", "moves", rose
			}
			if column == 0 && i == 0 {
				word = "is there"
			}
			c.box(x, 45+i*34, 110, 28, fill, faint, name)
			c.text(x+120, 64+i*34, "start", colour, 12, word)
		}
	}
	return c
}
