package nixinstall

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Difference is one thing in which two derivations differ by themselves, not only through what they are made from.
type Difference struct {
	// Path are the names of the derivations that lead there, the outermost first.
	Path []string
	// What differs: "system", "builder", "arguments", "variable NAME", "outputs", "source NAME", "input NAME".
	What string
	// Ours and Theirs are the two values, shortened; "" where one has none.
	Ours, Theirs string
}

// String says what differs where, in one line.
func (d Difference) String() string {
	where := strings.Join(d.Path, " → ")
	switch {
	case d.Theirs == "":
		return fmt.Sprintf("%s: only here: %s %s", where, d.What, d.Ours)
	case d.Ours == "":
		return fmt.Sprintf("%s: only there: %s %s", where, d.What, d.Theirs)
	}
	return fmt.Sprintf("%s: %s: %s here, %s there", where, d.What, d.Ours, d.Theirs)
}

const (
	maxDifferences = 50
	maxShown       = 200
)

// DiffDerivations compares two derivations input by input, and lists the differences that are the cause of all
// others, nearest to the top first, at most 50. read gives a derivation by its path; one that it does not know is
// compared no further than its name.
func DiffDerivations(ours, theirs storepath.Path, read func(storepath.Path) (*Drv, error)) ([]Difference, error) {
	d := &differ{read: read, seen: map[[2]storepath.Path]bool{}}
	a, err := read(ours)
	if err != nil {
		return nil, fmt.Errorf("comparing derivations: %w", err)
	}
	b, err := read(theirs)
	if err != nil {
		return nil, fmt.Errorf("comparing derivations: %w", err)
	}
	queue := []pair{{ours: ours, theirs: theirs, a: a, b: b, path: []string{drvName(ours)}}}
	for len(queue) > 0 && len(d.found) < maxDifferences { // breadth first
		queue = append(queue[1:], d.compare(queue[0])...)
	}
	return d.found, nil
}

func drvName(p storepath.Path) string { return strings.TrimSuffix(p.Name(), ".drv") }

type pair struct {
	ours, theirs storepath.Path
	a, b         *Drv
	path         []string
}

type differ struct {
	read  func(storepath.Path) (*Drv, error)
	seen  map[[2]storepath.Path]bool
	found []Difference
}

func (d *differ) add(p pair, what, ours, theirs string) {
	if len(d.found) < maxDifferences {
		shown := func(s string) string { return text.Printable(text.Cut(s, maxShown)) }
		d.found = append(d.found, Difference{Path: p.path, What: shown(what), Ours: shown(ours), Theirs: shown(theirs)})
	}
}

// compare lists what is different in a pair, and returns the pairs of inputs to look into.
func (d *differ) compare(p pair) []pair {
	if p.ours == p.theirs || d.seen[[2]storepath.Path{p.ours, p.theirs}] {
		return nil
	}
	d.seen[[2]storepath.Path{p.ours, p.theirs}] = true
	if p.a.fixed() && p.b.fixed() && p.a.Outputs["out"].Path == p.b.Outputs["out"].Path {
		return nil // however it is fetched, it is the same
	}
	inputs, same := d.inputs(p)
	same = append(same, d.sources(p)...)
	for name, o := range p.a.Outputs {
		if other, ok := p.b.Outputs[name]; ok && o.Path != "" && other.Path != "" && o.Path != other.Path {
			same = append(same, o.Path.String(), other.Path.String())
		}
	}
	d.texts(p, strings.NewReplacer(same...))
	return inputs
}

// inputs matches the input derivations by name. It returns the pairs that differ, and their outputs as old and new
// texts: a variable that differs in these only does not differ by itself.
func (d *differ) inputs(p pair) (next []pair, same []string) {
	ours, theirs := byName(slices.Collect(maps.Keys(p.a.InputDrvs))), byName(slices.Collect(maps.Keys(p.b.InputDrvs)))
	for _, name := range unionOf(ours, theirs) {
		a, b := without(ours[name], theirs[name]), without(theirs[name], ours[name])
		for i := range max(len(a), len(b)) {
			switch {
			case i >= len(b):
				d.add(p, "input "+name, a[i].String(), "")
			case i >= len(a):
				d.add(p, "input "+name, "", b[i].String())
			default:
				n := pair{ours: a[i], theirs: b[i], path: append(slices.Clone(p.path), drvName(a[i]))}
				same = append(same, a[i].String(), b[i].String())
				var errA, errB error
				n.a, errA = d.read(a[i])
				n.b, errB = d.read(b[i])
				if errA != nil || errB != nil {
					d.add(p, "input "+name, a[i].String(), b[i].String())
					continue
				}
				for output, o := range n.a.Outputs {
					if other, ok := n.b.Outputs[output]; ok && o.Path != other.Path && o.Path != "" && other.Path != "" {
						same = append(same, o.Path.String(), other.Path.String())
					}
				}
				next = append(next, n)
			}
		}
	}
	return next, same
}

// sources matches the input sources by name.
func (d *differ) sources(p pair) (same []string) {
	ours, theirs := byName(p.a.InputSrcs), byName(p.b.InputSrcs)
	for _, name := range unionOf(ours, theirs) {
		a, b := without(ours[name], theirs[name]), without(theirs[name], ours[name])
		for i := range max(len(a), len(b)) {
			switch {
			case i >= len(b):
				d.add(p, "source "+name, a[i].String(), "")
			case i >= len(a):
				d.add(p, "source "+name, "", b[i].String())
			default:
				d.add(p, "source "+name, a[i].String(), b[i].String())
				same = append(same, a[i].String(), b[i].String())
			}
		}
	}
	return same
}

// texts compares what a derivation says itself.
func (d *differ) texts(p pair, same *strings.Replacer) {
	compare := func(what, ours, theirs string) {
		if mapped := same.Replace(ours); mapped != theirs {
			d.add(p, what, around(mapped, theirs), around(theirs, mapped))
		}
	}
	compare("system", p.a.System, p.b.System)
	compare("builder", p.a.Builder, p.b.Builder)
	compare("arguments", strings.Join(p.a.Args, " "), strings.Join(p.b.Args, " "))
	compare("outputs", strings.Join(slices.Sorted(maps.Keys(p.a.Outputs)), " "),
		strings.Join(slices.Sorted(maps.Keys(p.b.Outputs)), " "))
	for _, name := range unionOf(p.a.Env, p.b.Env) {
		ours, hasOurs := p.a.Env[name]
		theirs, hasTheirs := p.b.Env[name]
		switch {
		case !hasOurs:
			d.add(p, "variable "+name, "", quoteATerm(theirs))
		case !hasTheirs:
			d.add(p, "variable "+name, quoteATerm(ours), "")
		default:
			compare("variable "+name, ours, theirs)
		}
	}
}

// around is the part of a long text that differs from another, quoted.
func around(s, other string) string {
	const before = 40
	if len(s) <= maxShown {
		return quoteATerm(s)
	}
	i := 0
	for i < len(s) && i < len(other) && s[i] == other[i] {
		i++
	}
	if i <= before {
		return quoteATerm(s)
	}
	return "…" + quoteATerm(s[i-before:])
}

// byName groups store paths by what is left of their names when hashes are taken away.
func byName(paths []storepath.Path) map[string][]storepath.Path {
	groups := map[string][]storepath.Path{}
	slices.Sort(paths)
	for _, p := range paths {
		name := drvName(p)
		if len(name) > storepath.HashLen+1 && storepath.IsHashPart(name[:storepath.HashLen]) {
			name = name[storepath.HashLen+1:] // a copy of a store path: "<hash>-<name>"
		}
		groups[name] = append(groups[name], p)
	}
	return groups
}

// without is what list has and other has not.
func without(list, other []storepath.Path) []storepath.Path {
	return slices.DeleteFunc(slices.Clone(list), func(p storepath.Path) bool { return slices.Contains(other, p) })
}

func unionOf[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}
