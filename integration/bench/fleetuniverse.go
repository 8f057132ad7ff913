package bench

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

// fleetUniverse is what apps are made of.
type fleetUniverse struct {
	name     string
	packages []fleetPackage // each after those that it needs
	stacks   [][]int        // of each language, the packages that apps ask for
	tools    []int          // what apps of any language ask for
}

type fleetPackage struct {
	name  string
	size  int64
	needs []int
}

const (
	// stackPackages is how many packages of a language the apps of a team choose from, the first ones most often.
	stackPackages = 60
	// leastPaths and mostPaths bound an app's closure: about 200 paths, as closures of web services have.
	leastPaths, mostPaths = 150, 250
	debianSuite           = "forky"
)

// universes are Debian's package graph, by its index, and two made up.
func (b *Bench) universes(ctx context.Context) ([]*fleetUniverse, error) {
	packages, err := b.Rig.Index(ctx, debianSuite)
	if err != nil {
		return nil, err
	}
	return []*fleetUniverse{debian(packages), madeUp(1), madeUp(2)}, nil
}

// debian makes a path of each package, or of several that need each other in a circle.
func debian(packages []rig.IndexedPackage) *fleetUniverse {
	u := &fleetUniverse{name: "Debian's packages"}
	place := map[string]int{}
	for i, p := range packages {
		u.packages = append(u.packages, fleetPackage{name: p.Name, size: max(p.Installed, 4096), needs: p.Needs})
		for _, name := range p.Members {
			place[name] = i
		}
	}
	for _, stack := range []string{`^python3-`, `^lib.*-perl$`, `^ruby-`, `^node-`, `^lib.*-java$`, `^php`, `^r-cran-`} {
		matcher := regexp.MustCompile(stack)
		var chosen []int
		for i, p := range u.packages {
			if matcher.MatchString(p.name) && p.size < 100<<20 {
				chosen = append(chosen, i)
			}
		}
		u.stacks = append(u.stacks, chosen)
	}
	for _, name := range []string{
		"nginx", "git", "curl", "imagemagick", "ffmpeg", "postgresql-client", "graphviz", "openssh-client", "rsync",
		"ghostscript", "poppler-utils", "sqlite3", "jq", "gnupg", "vim-tiny", "file", "unzip", "haproxy", "supervisor",
		"memcached", "tmux",
	} {
		if i, ok := place[name]; ok {
			u.tools = append(u.tools, i)
		}
	}
	return u
}

// madeUp is shaped as nixpkgs is: sizes spread log-normally around 300 kB, libraries that many need, seven languages
// whose packages need their interpreter, one another and a library now and then.
func madeUp(seed uint64) *fleetUniverse {
	u := &fleetUniverse{name: fmt.Sprintf("packages made up with seed %d", seed)}
	dice := rand.New(rand.NewPCG(seed, 7))
	add := func(needs []int) int {
		slices.Sort(needs)
		u.packages = append(u.packages, fleetPackage{
			name: fmt.Sprintf("package%d-1.%d", len(u.packages), dice.IntN(20)), needs: slices.Compact(needs),
			size: 4096 + int64(math.Exp(dice.NormFloat64()*1.9+math.Log(300e3))),
		})
		return len(u.packages) - 1
	}
	pick := func(from []int, n int) (picked []int) {
		for range n {
			picked = append(picked, from[popular(dice, len(from), 3)])
		}
		return picked
	}
	libraries := []int{add(nil)}
	for range 250 {
		libraries = append(libraries, add(append(pick(libraries, dice.IntN(5)), 0)))
	}
	for range 7 {
		stack := []int{add(pick(libraries, 12))}
		for range 500 {
			needs := append(pick(stack, 1+dice.IntN(5)), stack[0])
			if dice.IntN(3) == 0 {
				needs = append(needs, pick(libraries, 1+dice.IntN(4))...)
			}
			stack = append(stack, add(needs))
		}
		u.stacks = append(u.stacks, stack[50:])
	}
	for range 25 {
		u.tools = append(u.tools, add(pick(libraries, 10+dice.IntN(20))))
	}
	return u
}

// popular draws a number below n, the lower the likelier.
func popular(dice *rand.Rand, n int, skew float64) int {
	return int(float64(n) * math.Pow(dice.Float64(), skew))
}

// apps makes a fleet: each app asks for 4 to 12 packages of its language and for up to 3 tools.
func (u *fleetUniverse) apps(seed uint64, n int) []*fleetApp {
	dice := rand.New(rand.NewPCG(seed, 3))
	var stacks [][]int
	for _, stack := range u.stacks {
		stack = slices.Clone(stack)
		dice.Shuffle(len(stack), func(i, j int) { stack[i], stack[j] = stack[j], stack[i] })
		stacks = append(stacks, stack[:min(len(stack), stackPackages)])
	}
	var apps []*fleetApp
	for tries := 0; len(apps) < n; tries++ {
		stack := stacks[dice.IntN(len(stacks))]
		app := &fleetApp{universe: u, name: fmt.Sprintf("app%d-1.0", len(apps)), size: 1<<20 + dice.Int64N(20<<20)}
		for range 4 + dice.IntN(9) {
			app.need(stack[popular(dice, len(stack), 2)])
		}
		for range dice.IntN(4) {
			app.need(u.tools[dice.IntN(len(u.tools))])
		}
		if len(app.needs) >= leastPaths && len(app.needs) <= mostPaths || tries > 1000*n {
			slices.Sort(app.needs)
			apps = append(apps, app)
		}
	}
	return apps
}

// fleetApp is one image.
type fleetApp struct {
	universe *fleetUniverse
	name     string
	size     int64
	needs    []int // its closure, as numbers of packages, sorted once the app is made
	direct   []int
	has      map[int]bool
}

// need adds a package and all that it needs.
func (a *fleetApp) need(i int) {
	a.direct = append(a.direct, i)
	if a.has == nil {
		a.has = map[int]bool{}
	}
	for queue := []int{i}; len(queue) > 0; queue = queue[1:] {
		if next := queue[0]; !a.has[next] {
			a.has[next] = true
			a.needs = append(a.needs, next)
			queue = append(queue, a.universe.packages[next].needs...)
		}
	}
}

// graph is the app's closure, in which one package and all that need it are other builds of themselves; -1 changes
// none.
func (a *fleetApp) graph(changed int) *closure.Graph {
	paths := make(map[int]storepath.Path, len(a.needs))
	other := map[int]bool{}
	g := &closure.Graph{Nodes: make(map[storepath.Path]*closure.Node, len(a.needs)+1)}
	app := &closure.Node{NarSize: a.size}
	for _, i := range a.needs {
		p := a.universe.packages[i]
		n := &closure.Node{NarSize: p.size}
		other[i] = i == changed || slices.ContainsFunc(p.needs, func(j int) bool { return other[j] })
		for _, j := range p.needs {
			if q, ok := paths[j]; ok {
				n.References = append(n.References, q)
			}
		}
		paths[i] = builtPath(p.name, i, other[i])
		n.Path = paths[i]
		slices.Sort(n.References)
		g.Nodes[n.Path] = n
	}
	for _, j := range a.direct {
		if q, ok := paths[j]; ok {
			app.References = append(app.References, q)
		}
	}
	slices.Sort(app.References)
	app.References = slices.Compact(app.References)
	app.Path = builtPath("app-"+a.name, -1, changed >= 0)
	g.Nodes[app.Path], g.Roots = app, []storepath.Path{app.Path}
	return g
}

// builtPath is the store path of one build of a package.
func builtPath(name string, number int, other bool) storepath.Path {
	var seed [9]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(number))
	if other {
		seed[8] = 1
	}
	sum := sha256.Sum256(append(seed[:], name...))
	return storepath.Path(storepath.Dir + "/" + storepath.Encode32(sum[:20]) + "-" + name)
}
