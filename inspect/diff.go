package inspect

import (
	"cmp"
	"io"
	"maps"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Diff is what another image has that one has not, and the other way round.
type Diff struct {
	Changed []Change `json:"changed"` // what has the same name in both
	Added   []Path   `json:"added"`
	Removed []Path   `json:"removed"`
	// Same is how many paths are in both.
	Same int `json:"same"`
	// LayersShared counts the layers of the second image that the first has; NewLayers are the others, and Moved is their
	// size, in bytes.
	LayersShared int     `json:"layersShared"`
	Moved        int64   `json:"moved"`
	NewLayers    []Layer `json:"newLayers"`
	// Settings are what else differs.
	Settings []Setting `json:"settings"`
}

// Change is a path that took another's place.
type Change struct {
	Old Path `json:"old"`
	New Path `json:"new"`
}

// what says which path changed, and how: into another version, or into another build of the same.
func (c Change) what() string {
	if c.Old.Version == c.New.Version && c.New.Version != "" {
		return c.New.Name + " " + c.New.Version + ": built anew"
	}
	return c.New.Name + ": " + cmp.Or(c.Old.Version, c.Old.Path.HashPart()) + " -> " + cmp.Or(c.New.Version, c.New.Path.HashPart())
}

// Setting is something about an image that differs.
type Setting struct {
	Name string `json:"name"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Compare says what differs between two images.
func Compare(before, after *Report) Diff {
	d := Diff{Changed: []Change{}, Added: []Path{}, Removed: []Path{}, NewLayers: []Layer{}, Settings: []Setting{}}
	old, now := index(before.Paths), index(after.Paths)
	byName := map[string][]Path{}
	for _, p := range before.Paths {
		if _, same := now[p.Path]; !same {
			byName[p.Name] = append(byName[p.Name], p)
		}
	}
	for _, p := range after.Paths {
		if _, same := old[p.Path]; same {
			d.Same++
			continue
		}
		if earlier := byName[p.Name]; len(earlier) > 0 {
			d.Changed = append(d.Changed, Change{Old: earlier[0], New: p})
			byName[p.Name] = earlier[1:]
			continue
		}
		d.Added = append(d.Added, p)
	}
	for _, rest := range byName {
		d.Removed = append(d.Removed, rest...)
	}
	slices.SortFunc(d.Removed, func(a, b Path) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Path, b.Path))
	})
	layers := map[string]bool{}
	for _, l := range before.Layers {
		layers[l.DiffID] = true
	}
	for _, l := range after.Layers {
		if l.DiffID != "" && layers[l.DiffID] {
			d.LayersShared++
		} else {
			d.Moved += l.Size
			d.NewLayers = append(d.NewLayers, l)
		}
	}
	setting := func(name, a, b string) {
		if a != b {
			d.Settings = append(d.Settings, Setting{name, a, b})
		}
	}
	setting("architecture", before.Architecture, after.Architecture)
	setting("buildpack", before.Buildpack, after.Buildpack)
	setting("engine", before.engine(), after.engine())
	setting("run image", before.runImage(), after.runImage())
	types := map[string][2]string{}
	for i, r := range []*Report{before, after} {
		for _, p := range r.Processes {
			both := types[p.Type]
			both[i] = p.Command
			types[p.Type] = both
		}
	}
	for _, name := range slices.Sorted(maps.Keys(types)) {
		setting("process "+name, types[name][0], types[name][1])
	}
	return d
}

func index(paths []Path) map[storepath.Path]Path {
	all := make(map[storepath.Path]Path, len(paths))
	for _, p := range paths {
		all[p.Path] = p
	}
	return all
}

// JSON writes the difference for programs.
func (d Diff) JSON(w io.Writer) error { return WriteJSON(w, d) }

// Text writes the difference for people.
func (d Diff) Text(w io.Writer) error {
	t := &printer{w: w}
	t.printf("layers: %d shared, %d new (%s to move)\n", d.LayersShared, len(d.NewLayers), text.Bytes(d.Moved))
	t.printf("store paths: %d the same, %d changed, %d added, %d removed\n", d.Same, len(d.Changed), len(d.Added), len(d.Removed))
	for _, s := range d.Settings {
		switch name := text.Printable(s.Name); {
		case s.Old == "":
			t.printf("+ %s: %s\n", name, text.Printable(s.New))
		case s.New == "":
			t.printf("- %s: %s\n", name, text.Printable(s.Old))
		default:
			t.printf("~ %s: %s -> %s\n", name, text.Printable(s.Old), text.Printable(s.New))
		}
	}
	for _, c := range d.Changed {
		t.printf("~ %s (%s, %s)\n", text.Printable(c.what()), text.Bytes(c.New.Size), signed(c.New.Size-c.Old.Size))
	}
	for _, p := range d.Added {
		t.printf("+ %s (%s)\n", text.Printable(p.Path.Base()), text.Bytes(p.Size))
	}
	for _, p := range d.Removed {
		t.printf("- %s (%s)\n", text.Printable(p.Path.Base()), text.Bytes(p.Size))
	}
	for _, l := range d.NewLayers {
		t.printf("+ layer %d, %s (%s)\n", l.Number, text.Printable(l.Name), text.Bytes(l.Size))
	}
	return t.err
}

func signed(n int64) string {
	if n < 0 {
		return text.Bytes(n)
	}
	return "+" + text.Bytes(n)
}
