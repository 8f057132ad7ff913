package nixinstall

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
)

// Impurity is a place in an expression that may give another result on another machine or another day.
type Impurity struct {
	File string // slash-separated, below the folder
	Line int
	// What is written there, for example "builtins.currentTime".
	What string
}

// String names the place.
func (i Impurity) String() string { return fmt.Sprintf("%s:%d: %s", i.File, i.Line, i.What) }

// impurities are the ways out of a source's own files. fetchTarball and fetchGit are impure where they are called
// with an address alone.
var impurities = regexp.MustCompile(`\bbuiltins\.(?:currentTime|getEnv)\b|` +
	`<[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*>|` +
	`\b(?:builtins\.)?(?:fetchTarball|fetchGit|fetchMercurial|fetchurl)\s+(?:"[^"]*"|https?://\S+|\w+\b\s*[;)])`)

const (
	maxImpurities = 20
	maxNixFile    = 1 << 20
)

// Impurities looks through the .nix files of a folder for expressions that do not depend on the source alone, at most
// 20, in the order of files and lines. It reads text: what it finds is a hint, not a proof.
func Impurities(ctx context.Context, dir string) ([]Impurity, error) {
	var found []Impurity
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case !entry.Type().IsRegular() || !strings.HasSuffix(entry.Name(), ".nix"):
			return nil
		case len(found) >= maxImpurities:
			return fs.SkipAll
		}
		info, err := entry.Info()
		if err != nil || info.Size() > maxNixFile {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		found = append(found, impuritiesOf(filepath.ToSlash(rel), string(text))...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for impurities in %s: %w", dir, err)
	}
	return found[:min(len(found), maxImpurities)], nil
}

func impuritiesOf(file, text string) []Impurity {
	code := withoutComments(text)
	var starts []int // of lines
	for i := range len(code) {
		if i == 0 || code[i-1] == '\n' {
			starts = append(starts, i)
		}
	}
	var found []Impurity
	for _, at := range impurities.FindAllStringIndex(code, -1) {
		line := sort.SearchInts(starts, at[0]+1)
		found = append(found, Impurity{File: file, Line: line, What: oneLine(code[at[0]:at[1]])})
	}
	return found
}

// withoutComments blanks the comments of a Nix expression, and the texts of its strings where they span lines: a
// build script says what it likes.
func withoutComments(text string) string {
	out := []byte(text)
	blank := func(from, to int) {
		for i := from; i < to && i < len(out); i++ {
			if out[i] != '\n' {
				out[i] = ' '
			}
		}
	}
	until := func(from int, end string) int {
		if i := strings.Index(text[min(from, len(text)):], end); i >= 0 {
			return from + i + len(end)
		}
		return len(text)
	}
	for i := 0; i < len(text); {
		rest := text[i:]
		switch {
		case rest[0] == '#':
			end := until(i, "\n")
			blank(i, end)
			i = end
		case strings.HasPrefix(rest, "/*"):
			end := until(i+2, "*/")
			blank(i, end)
			i = end
		case strings.HasPrefix(rest, "''"):
			end := endOfIndented(text, i+2)
			blank(i, end)
			i = end
		case rest[0] == '"':
			end := i + 1
			for end < len(text) && text[end] != '"' {
				if text[end] == '\\' {
					end++
				}
				end++
			}
			i = min(end+1, len(text))
		default:
			i++
		}
	}
	return string(out)
}

// endOfIndented is where a string in two single quotes ends: not before a third quote, a dollar or a backslash.
func endOfIndented(text string, from int) int {
	for i := from; i+1 < len(text); i++ {
		if text[i] != '\'' || text[i+1] != '\'' {
			continue
		}
		if i+2 < len(text) && strings.IndexByte(`'$\`, text[i+2]) >= 0 {
			i += 2
			continue
		}
		return i + 2
	}
	return len(text)
}
