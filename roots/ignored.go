package roots

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall/sourcefile"
)

// ignored is what can be done without .git: files that the source's own .gitignore names can hardly be in git, and
// what machines leave behind neither.
func (d *diagnosis) ignored(ctx context.Context) []Finding {
	names := ignoredFiles(ctx, d.Source, d.Exclude)
	if len(names) == 0 || !d.graph.hasPart(d.missingDrvs()) {
		return nil
	}
	exclude := make([]string, len(names))
	for i, name := range names {
		exclude[i] = strings.TrimSuffix(name, "/")
	}
	exclude = append(exclude, d.Exclude...)
	return []Finding{Leftovers{Files: names, Restored: d.restored(ctx, files{dir: d.Source, exclude: exclude})}}
}

// leftBehind are what tools and desktops write and hardly anybody commits.
var leftBehind = []ignoreRule{
	{pattern: "**/.DS_Store"}, {pattern: "**/*.swp"}, {pattern: "**/*~"}, {pattern: "result"}, {pattern: "result-*"},
	{pattern: "**/node_modules", directory: true}, {pattern: "**/__pycache__", directory: true}, {pattern: "**/*.pyc"},
	{pattern: "**/.direnv", directory: true}, {pattern: "**/.env"}, {pattern: "**/.envrc.cache"}, {pattern: "**/*.orig"},
}

// maxIgnoreFile bounds a .gitignore that is read.
const maxIgnoreFile = 1 << 20

// ignoreRule is a line of a .gitignore.
type ignoreRule struct {
	pattern   string // of doublestar, relative to the source
	directory bool   // it is about directories only
	negated   bool
}

// ignoredFiles are the files and directories that a source's .gitignore files name, directories with a slash at their end. A
// directory of which nothing else would remain is one of them, as git knows no empty directories.
func ignoredFiles(ctx context.Context, dir string, exclude []string) []string {
	names, _ := ignoredBelow(ctx, dir, "", exclude, leftBehind)
	return names
}

func ignoredBelow(ctx context.Context, dir, directory string, exclude []string, rules []ignoreRule) (names []string, all bool) {
	entries, err := os.ReadDir(filepath.Join(dir, directory))
	if err != nil || ctx.Err() != nil {
		return nil, false
	}
	if text, err := sourcefile.Read(ctx, filepath.Join(dir, directory, ".gitignore"), maxIgnoreFile); err == nil {
		rules = append(rules[:len(rules):len(rules)], parseIgnore(string(text), directory)...)
	}
	all = true
	for _, entry := range entries {
		name := path.Join(directory, entry.Name())
		switch {
		case entry.Name() == ".git", slices.Contains(exclude, name):
			all = false
		case isIgnored(rules, name, entry.IsDir()) && entry.IsDir():
			names = append(names, name+"/")
		case isIgnored(rules, name, entry.IsDir()):
			names = append(names, name)
		case entry.IsDir():
			below, whole := ignoredBelow(ctx, dir, name, exclude, rules)
			if whole {
				below = []string{name + "/"}
			}
			names = append(names, below...)
			all = all && whole
		default:
			all = false
		}
	}
	return names, all
}

// parseIgnore reads a .gitignore in a directory of the source, as gitignore(5) describes it.
func parseIgnore(text, directory string) []ignoreRule {
	var rules []ignoreRule
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if !strings.HasSuffix(line, `\ `) {
			line = strings.TrimRight(line, " ")
		}
		if line == "" || line[0] == '#' {
			continue
		}
		var rule ignoreRule
		if line[0] == '!' {
			rule.negated, line = true, line[1:]
		}
		if strings.HasSuffix(line, "/") {
			rule.directory, line = true, strings.TrimRight(line, "/")
		}
		if strings.Contains(line, "/") {
			line = strings.TrimPrefix(line, "/")
		} else {
			line = "**/" + line
		}
		if rule.pattern = line; directory != "" {
			rule.pattern = path.Join(directory, line)
		}
		if doublestar.ValidatePattern(rule.pattern) && line != "" {
			rules = append(rules, rule)
		}
	}
	return rules
}

// isIgnored applies the rules; the last one that fits counts.
func isIgnored(rules []ignoreRule, name string, directory bool) bool {
	ignored := false
	for _, rule := range rules {
		if rule.directory && !directory {
			continue
		}
		if ok, err := doublestar.Match(rule.pattern, name); ok && err == nil {
			ignored = !rule.negated
		}
	}
	return ignored
}
