package nixproot

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// ignored is what can be done without .git: files that the source's own .gitignore names can hardly be in git, and
// what machines leave behind neither.
func (d *diagnosis) ignored(ctx context.Context) []Cause {
	names := ignoredFiles(ctx, d.source)
	if len(names) == 0 || !d.readsSource() {
		return nil
	}
	cause := Cause{
		Found: "the upload has what is hardly in git, by its .gitignore, its name or being empty: " + strings.Join(shortList(names), ", "),
		Change: "remove them before the upload (git clean -xd --dry-run lists them), or name them in .dockerignore or " +
			"project.toml's [io.buildpacks] exclude",
	}
	exclude := make([]string, len(names))
	for i, name := range names {
		exclude[i] = strings.TrimSuffix(name, "/")
	}
	if found, _, err := d.search(ctx, files{dir: d.source, exclude: exclude}, silent); err == nil && found != nil {
		cause.Sure = true
		cause.Found += "\nWithout them it is " + strings.Join(shortList(rootNames(outputPaths(found.result))), ", ") +
			", in a source named " + found.name + ", and the caches have it"
	}
	return []Cause{cause}
}

// leftBehind are what tools and desktops write and hardly anybody commits.
var leftBehind = []ignoreRule{
	{pattern: "**/.DS_Store"}, {pattern: "**/*.swp"}, {pattern: "**/*~"}, {pattern: "result"}, {pattern: "result-*"},
	{pattern: "**/node_modules", folder: true}, {pattern: "**/__pycache__", folder: true}, {pattern: "**/*.pyc"},
	{pattern: "**/.direnv", folder: true}, {pattern: "**/.env"}, {pattern: "**/.envrc.cache"}, {pattern: "**/*.orig"},
}

// ignoreRule is a line of a .gitignore.
type ignoreRule struct {
	pattern string // of doublestar, relative to the source
	folder  bool   // it is about folders only
	negated bool
}

// ignoredFiles are the files and folders that a source's .gitignore files name, folders with a slash at their end.
func ignoredFiles(ctx context.Context, dir string) []string {
	var names []string
	rules := leftBehind
	_ = filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return fs.SkipAll
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return fs.SkipAll
		}
		rel = filepath.ToSlash(rel)
		if entry.Name() == ".git" {
			return skip(entry)
		}
		if rel != "." && isIgnored(rules, rel, entry.IsDir()) {
			if entry.IsDir() {
				names = append(names, rel+"/")
			} else {
				names = append(names, rel)
			}
			return skip(entry)
		}
		if entry.IsDir() {
			if below, err := os.ReadDir(file); err == nil && len(below) == 0 {
				names = append(names, rel+"/") // git knows no empty folders
			}
			if text, err := os.ReadFile(filepath.Join(file, ".gitignore")); err == nil && len(text) < maxPinFile {
				rules = append(rules[:len(rules):len(rules)], parseIgnore(string(text), rel)...)
			}
		}
		return nil
	})
	return names
}

func skip(entry fs.DirEntry) error {
	if entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// parseIgnore reads a .gitignore in a folder of the source, as gitignore(5) describes it.
func parseIgnore(text, folder string) []ignoreRule {
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
		line = strings.TrimPrefix(line, `\`)
		if strings.HasSuffix(line, "/") {
			rule.folder, line = true, strings.TrimRight(line, "/")
		}
		if strings.Contains(line, "/") {
			line = strings.TrimPrefix(line, "/")
		} else {
			line = "**/" + line
		}
		if rule.pattern = line; folder != "." {
			rule.pattern = path.Join(folder, line)
		}
		if doublestar.ValidatePattern(rule.pattern) && line != "" {
			rules = append(rules, rule)
		}
	}
	return rules
}

// isIgnored applies the rules; the last one that fits counts.
func isIgnored(rules []ignoreRule, name string, folder bool) bool {
	ignored := false
	for _, rule := range rules {
		if rule.folder && !folder {
			continue
		}
		if ok, err := doublestar.Match(rule.pattern, name); ok && err == nil {
			ignored = !rule.negated
		}
	}
	return ignored
}
