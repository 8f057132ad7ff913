package rig

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
)

//go:embed nixpkgs families survey
var nixpkgsFiles embed.FS

// choice is a packages.json: which Debian packages a stand-in for nixpkgs is made of, and how.
type choice struct {
	Want      []string            `json:"want"`      // packages to have, with their dependencies
	Tools     []string            `json:"tools"`     // packages that the builder itself uses
	Merge     map[string]string   `json:"merge"`     // packages that make one store path together, by its name
	Version   map[string]string   `json:"version"`   // the package that such a store path has its version from
	Drop      string              `json:"drop"`      // packages that make none
	DropEdges map[string][]string `json:"dropEdges"` // dependencies that a store path does without
	Languages string              `json:"languages"` // packages whose dependencies are propagated, as nixpkgs does
	Sample    int                 `json:"sample"`    // how many packages to have in all, picked evenly; 0 is only those wanted
	Largest   int64               `json:"largest"`   // bytes that a picked package may add, unpacked
}

// packageSet is universe.json, which the Nix expressions read: store paths to be, and the Debian packages in them.
type packageSet struct {
	System  string            `json:"system"`
	Triplet string            `json:"triplet"`
	Loader  string            `json:"loader"`
	Site    string            `json:"site"`
	Mirror  string            `json:"mirror"`
	Repack  string            `json:"repack"` // SHA-256 of the builder's NAR, base 32
	Tools   []string          `json:"tools"`
	Debs    map[string]pooled `json:"debs"`
	Groups  map[string]*group `json:"groups"`
	Owner   map[string]string `json:"owner"` // package to group
}

// pooled is one package as a fixed-output derivation.
type pooled struct {
	Store  string `json:"store"` // name in the store
	File   string `json:"file"`  // below the mirror
	SHA256 string `json:"sha256"`
}

// group is one store path to be.
type group struct {
	Version   string   `json:"version"`
	Debs      []string `json:"debs"`
	Inputs    []string `json:"inputs"`    // groups that it may refer to, nearest first
	Propagate []string `json:"propagate"` // groups that it refers to by propagation
	Post      bool     `json:"post"`      // whether a last step may use coreutils
	direct    []string
}

// readChoice reads the embedded packages.json of a stand-in.
func readChoice(name string) (*choice, error) {
	contents, err := nixpkgsFiles.ReadFile(name + "/packages.json")
	if err != nil {
		return nil, err
	}
	var c choice
	if err := json.Unmarshal(contents, &c); err != nil {
		return nil, fmt.Errorf("reading packages.json: %w", err)
	}
	return &c, nil
}

// groupPackages makes the package set of resolved packages: groups without cycles.
func (r *Rig) groupPackages(debs []Deb, c *choice, repack string) (*packageSet, error) {
	u := &packageSet{
		System: r.System(), Triplet: r.triplet(), Mirror: publicMirror, Repack: repack, Tools: c.Tools,
		Loader: "lib/" + r.triplet() + "/" + filepath.Base(r.loader("/")),
		Debs:   map[string]pooled{}, Groups: map[string]*group{}, Owner: map[string]string{},
	}
	drop, err := regexp.Compile(c.Drop)
	if err != nil {
		return nil, err
	}
	languages, err := regexp.Compile(c.Languages)
	if err != nil {
		return nil, err
	}
	providers := map[string]string{}
	byName := map[string]Deb{}
	for _, d := range debs {
		u.Debs[d.Name] = pooled{Store: storeName(d.Name + "-" + d.Version + ".deb"), File: d.Filename, SHA256: d.SHA256}
		if drop.MatchString(d.Name) {
			continue
		}
		byName[d.Name] = d
		for _, name := range d.Provides {
			if _, taken := providers[name]; !taken {
				providers[name] = d.Name
			}
		}
	}
	edges := dependencies(byName, providers)
	if u.Owner, err = merge(byName, edges, c); err != nil {
		return nil, err
	}
	u.group(byName, edges, c)
	u.Site = sitePackages(debs)
	u.close(languages)
	return u, nil
}

// dependencies gives, for each package, the packages it depends on among those there are.
func dependencies(byName map[string]Deb, providers map[string]string) map[string][]string {
	edges := map[string][]string{}
	for name, d := range byName {
		for _, clause := range d.Depends {
			for _, alternative := range strings.Split(clause, "|") {
				wanted := bareName(alternative)
				if _, ok := byName[wanted]; !ok {
					wanted = providers[wanted]
				}
				if wanted != "" {
					if wanted != name {
						edges[name] = append(edges[name], wanted)
					}
					break
				}
			}
		}
	}
	return edges
}

// merge gives each package's group: those named in the choice, and all that depend on each other in a circle.
func merge(byName map[string]Deb, edges map[string][]string, c *choice) (map[string]string, error) {
	owner := map[string]string{}
	for name := range byName {
		owner[name] = storeName(name)
	}
	for group, expression := range c.Merge {
		matcher, err := regexp.Compile(expression)
		if err != nil {
			return nil, err
		}
		for name := range byName {
			if matcher.MatchString(name) {
				owner[name] = group
			}
		}
	}
	dropped := map[string]bool{}
	for group, names := range c.DropEdges {
		for _, name := range names {
			dropped[group+" "+name] = true
		}
	}
	graph := map[string][]string{}
	for name := range byName {
		if _, known := graph[owner[name]]; !known {
			graph[owner[name]] = nil
		}
		for _, wanted := range edges[name] {
			if owner[wanted] != owner[name] && !dropped[owner[name]+" "+wanted] {
				graph[owner[name]] = append(graph[owner[name]], owner[wanted])
			}
		}
	}
	for _, circle := range circles(graph) {
		representative := circle[0]
		for _, name := range circle {
			if _, named := c.Merge[name]; named {
				representative = name
			}
		}
		for name, group := range owner {
			if slices.Contains(circle, group) {
				owner[name] = representative
			}
		}
	}
	return owner, nil
}

// group fills the groups with their packages and direct dependencies.
func (u *packageSet) group(byName map[string]Deb, edges map[string][]string, c *choice) {
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		id := u.Owner[name]
		g := u.Groups[id]
		if g == nil {
			g = &group{Propagate: []string{}}
			u.Groups[id] = g
		}
		g.Debs = append(g.Debs, name)
		if expression := c.Version[id]; g.Version == "" || storeName(name) == id ||
			expression != "" && regexp.MustCompile(expression).MatchString(name) {
			g.Version = upstream(byName[name].Version)
		}
		for _, wanted := range edges[name] {
			other := u.Owner[wanted]
			if other != id && !slices.Contains(g.direct, other) && !slices.Contains(c.DropEdges[id], wanted) {
				g.direct = append(g.direct, other)
			}
		}
	}
	for _, g := range u.Groups {
		sort.Strings(g.direct)
	}
}

// close gives each group the transitive inputs it may need, bash and its kin included where that makes no circle.
func (u *packageSet) close(languages *regexp.Regexp) {
	base := map[string]bool{}
	for _, name := range []string{"bash", "coreutils"} {
		base[name] = true
		for _, inner := range u.reach(name) {
			base[inner] = true
		}
	}
	for id, g := range u.Groups {
		g.Inputs = u.reach(id)
		if base[id] {
			continue
		}
		g.Post = true
		for _, name := range []string{"bash", "coreutils"} {
			for _, inner := range append([]string{name}, u.reach(name)...) {
				if !slices.Contains(g.Inputs, inner) {
					g.Inputs = append(g.Inputs, inner)
				}
			}
		}
		for _, name := range g.Debs {
			if !languages.MatchString(name) {
				continue
			}
			for _, other := range g.direct {
				if languages.MatchString(other) || other == "python3" || other == "perl" || other == "ruby" {
					g.Propagate = append(g.Propagate, other)
				}
			}
		}
	}
}

// reach gives what a group depends on, nearest first.
func (u *packageSet) reach(id string) []string {
	seen := map[string]bool{id: true}
	found := []string{}
	queue := []string{id}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		for _, other := range u.Groups[next].direct {
			if !seen[other] {
				seen[other] = true
				found = append(found, other)
				queue = append(queue, other)
			}
		}
	}
	return found
}

// circles gives the strongly connected components of more than one node, each sorted (Tarjan's algorithm).
func circles(graph map[string][]string) [][]string {
	var (
		found      [][]string
		stack      []string
		index, low = map[string]int{}, map[string]int{}
		onStack    = map[string]bool{}
		visit      func(node string)
	)
	visit = func(node string) {
		index[node] = len(index) + 1
		low[node] = index[node]
		stack = append(stack, node)
		onStack[node] = true
		for _, other := range graph[node] {
			if index[other] == 0 {
				visit(other)
				low[node] = min(low[node], low[other])
			} else if onStack[other] {
				low[node] = min(low[node], index[other])
			}
		}
		if low[node] != index[node] {
			return
		}
		at := slices.Index(stack, node)
		circle := slices.Clone(stack[at:])
		stack = stack[:at]
		for _, name := range circle {
			onStack[name] = false
		}
		if len(circle) > 1 {
			sort.Strings(circle)
			found = append(found, circle)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(graph)) {
		if index[node] == 0 {
			visit(node)
		}
	}
	return found
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9+._?=-]`)

// storeName makes a name that a store path may have.
func storeName(name string) string { return unfit.ReplaceAllString(name, "-") }

var noise = regexp.MustCompile(`^\d+:|[+~]?(dfsg|ds|really|cs|repack).*$|-[^-]*$`)

// upstream is the upstream part of a Debian version, short enough for a store path's name.
func upstream(version string) string {
	version = noise.ReplaceAllString(version, "")
	version = noise.ReplaceAllString(version, "")
	version, _, _ = strings.Cut(version, "+")
	version, _, _ = strings.Cut(version, "~")
	return storeName(strings.TrimSuffix(version, "."))
}

var stdlib = regexp.MustCompile(`^libpython(3\.\d+)-stdlib$`)

// sitePackages is the directory for Python modules.
func sitePackages(debs []Deb) string {
	for _, d := range debs {
		if match := stdlib.FindStringSubmatch(d.Name); match != nil {
			return "lib/python" + match[1] + "/site-packages"
		}
	}
	return "lib/python3/site-packages"
}

// repacker gives the directory with the builder program, built from this module's source.
func (r *Rig) repacker(ctx context.Context) (string, error) {
	program, err := r.host().goBuild(ctx, "repack", "./integration/rig/repack")
	if err != nil {
		return "", fmt.Errorf("building repack: %w", err)
	}
	return program, nil
}

// writeNixpkgs writes the expressions and the package set to a directory. What a stand-in has of its own takes the place of
// the expression of that name in nixpkgs, which it finds as "common-" and its name.
func writeNixpkgs(u *packageSet, name, dir string) error {
	own := map[string]bool{}
	if name != mainStandIn {
		files, err := fs.Glob(nixpkgsFiles, name+"/*.nix")
		if err != nil {
			return err
		}
		for _, file := range files {
			own[filepath.Base(file)] = true
			if err := writeEmbedded(file, filepath.Join(dir, filepath.Base(file))); err != nil {
				return err
			}
		}
	}
	files, err := fs.Glob(nixpkgsFiles, mainStandIn+"/*")
	if err != nil {
		return err
	}
	for _, file := range files {
		base := filepath.Base(file)
		switch {
		case filepath.Ext(base) == ".json":
			continue
		case own[base]:
			base = "common-" + base
		}
		if err := writeEmbedded(file, filepath.Join(dir, base)); err != nil {
			return err
		}
	}
	contents, err := json.MarshalIndent(u, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "universe.json"), contents, 0o644)
}

func writeEmbedded(name, to string) error {
	contents, err := nixpkgsFiles.ReadFile(name)
	if err != nil {
		return err
	}
	return os.WriteFile(to, contents, 0o644)
}
