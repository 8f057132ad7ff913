// Package pages reads the documentation as its tests see it: pages of prose and blocks of code. Its own tests compare them with
// what the repository has.
package pages

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// Page is a page of the documentation.
type Page struct {
	Name   string // from the repository's top
	Prose  string // without blocks of code
	Blocks []Block
}

// Block is a block of code.
type Block struct {
	Language string // what it says it is, as "yaml"; "" where it says nothing
	Text     string
	// File is the name that the line above it gives it, as `Procfile`; "" where that says none.
	File string
	// Heading is the one that it stands under.
	Heading string
}

// Begin is a block's first line, by which it is told from the others of its page.
func (b Block) Begin() string {
	line, _, _ := strings.Cut(b.Text, "\n")
	if b.File != "" {
		return b.File
	}
	return strings.TrimSpace(line)
}

// Patterns are the pages that people read, troubleshooting's included, which is made of the advice.
var Patterns = []string{"*.md", "docs/*.md", "samples/*.md", "samples/*/README.md"}

// Read reads all pages below the repository's top.
func Read(top string) ([]Page, error) {
	var all []Page
	for _, pattern := range Patterns {
		found, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range found {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("reading a page: %w", err)
			}
			name, err := filepath.Rel(top, file)
			if err != nil {
				return nil, fmt.Errorf("reading a page: %w", err)
			}
			page, err := Parse(name, string(text))
			if err != nil {
				return nil, err
			}
			all = append(all, page)
		}
	}
	return all, nil
}

var (
	heading  = regexp.MustCompile(`^#+ +(.*)$`)
	headings = regexp.MustCompile(`(?m)` + heading.String())
	fileLine = regexp.MustCompile("^`([\\w./-]+)`$")
	code     = regexp.MustCompile("`[^`]+`")
)

// Parse tells a page's blocks of code from its prose.
func Parse(name, text string) (Page, error) {
	p := Page{Name: name}
	var in *Block
	indent, under, above := "", "", ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case in == nil && strings.HasPrefix(trimmed, "```"):
			in = &Block{Language: strings.TrimPrefix(trimmed, "```"), Heading: under}
			if found := fileLine.FindStringSubmatch(above); found != nil {
				in.File = found[1]
			}
			indent = line[:strings.Index(line, "`")]
		case in != nil && trimmed == "```":
			p.Blocks = append(p.Blocks, *in)
			in, above = nil, ""
		case in != nil:
			in.Text += strings.TrimPrefix(line, indent)
		default:
			p.Prose += line
			above = trimmed
			if found := heading.FindStringSubmatch(trimmed); found != nil {
				under = found[1]
			}
		}
	}
	if in != nil {
		return p, fmt.Errorf("%s: a block of code has no end", name)
	}
	return p, nil
}

// Whole is all of a page, blocks of code included.
func (p Page) Whole() string {
	text := p.Prose
	for _, b := range p.Blocks {
		text += "\n" + b.Text
	}
	return text
}

// Anchors are the names that GitHub gives to a page's headings.
func (p Page) Anchors() []string {
	var all []string
	for _, found := range headings.FindAllStringSubmatch(p.Prose, -1) {
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(found[1])))
	}
	return all
}

// Code is what stands in backquotes in a page's prose, each once, a line break in it being a blank.
func (p Page) Code() []string {
	var all []string
	seen := map[string]bool{}
	for _, paragraph := range strings.Split(p.Prose, "\n\n") {
		for _, found := range code.FindAllString(paragraph, -1) {
			text := strings.Join(strings.Fields(strings.Trim(found, "`")), " ")
			if !seen[text] {
				seen[text] = true
				all = append(all, text)
			}
		}
	}
	return all
}
