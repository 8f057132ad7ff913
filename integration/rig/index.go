package rig

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// IndexedPackage is a package of a Debian suite as its index describes it, together with those that it needs and that
// need it in a circle.
type IndexedPackage struct {
	Name      string
	Members   []string // the packages that it is, sorted
	Installed int64    // bytes, unpacked
	Needs     []int    // numbers of packages in the same index, all lower than its own
}

// Index gives all packages of a Debian suite, each after those that it needs. It downloads the index and no package.
func (r *Rig) Index(ctx context.Context, suite string) ([]IndexedPackage, error) {
	a, err := r.available(ctx, suite)
	if err != nil {
		return nil, err
	}
	return indexed(dependencies(a.debs, a.providers), a.debs), nil
}

// available is what a suite's index says.
type available struct {
	debs      map[string]Deb // by name
	providers map[string]string
}

// available reads a suite's index.
func (r *Rig) available(ctx context.Context, suite string) (*available, error) {
	source, err := r.apt(ctx, suite)
	if err != nil {
		return nil, err
	}
	text, err := source.run(ctx, "apt-cache", "dumpavail")
	if err != nil {
		return nil, fmt.Errorf("reading package index of Debian %s: %w", suite, err)
	}
	a := &available{map[string]Deb{}, map[string]string{}}
	for _, stanza := range strings.Split(text, "\n\n") {
		d, ok := parseStanza(stanza)
		if !ok || a.debs[d.Name].Name != "" {
			continue
		}
		a.debs[d.Name] = d
		for _, name := range d.Provides {
			if a.providers[name] == "" || d.Name < a.providers[name] {
				a.providers[name] = d.Name
			}
		}
	}
	// Maintainers' scripts call these; a store path has none.
	for _, name := range []string{"dpkg", "debconf", "install-info", "init-system-helpers"} {
		delete(a.debs, name)
	}
	return a, nil
}

// indexed numbers packages from those that need nothing, circles as one.
func indexed(needs map[string][]string, byName map[string]Deb) []IndexedPackage {
	members := map[string][]string{}
	owner := map[string]string{}
	for _, circle := range circles(needs) {
		members[circle[0]] = circle
		for _, name := range circle {
			owner[name] = circle[0]
		}
	}
	var names []string
	for name := range byName {
		if owner[name] == "" {
			owner[name], members[name] = name, []string{name}
		}
		if owner[name] == name {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var all []IndexedPackage
	number := map[string]int{}
	var visit func(name string)
	visit = func(name string) {
		if _, done := number[name]; done {
			return
		}
		p := IndexedPackage{Name: name, Members: members[name]}
		for _, member := range p.Members {
			p.Installed += byName[member].Installed
			for _, wanted := range needs[member] {
				if other := owner[wanted]; other != "" && other != name {
					visit(other)
					p.Needs = append(p.Needs, number[other])
				}
			}
		}
		slices.Sort(p.Needs)
		p.Needs = slices.Compact(p.Needs)
		number[name] = len(all)
		all = append(all, p)
	}
	for _, name := range names {
		visit(name)
	}
	return all
}
