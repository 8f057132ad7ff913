package verify

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/closurelayer"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
)

// ClosureOptions says what to hold layers against. All of it may be left out.
type ClosureOptions struct {
	// Keys are the keys that signatures are checked with. Without them signatures are only listed.
	Keys narinfo.Keys
	// Manifests is the layers' metadata, by layer, from the image's label. With it, what the layers say of
	// themselves has to agree, and what they lack is missed.
	Manifests map[string]closure.Manifest
	// View is the name of the directory of links to the paths, beside the layers; "" leaves it unchecked.
	View string
	// Dir is where the layers are in the image. Relocated paths have to be relocated to its view, and links to lead
	// there. "" leaves that unchecked.
	Dir string
	// Temp is where paths that were fixed are written once more to compare them; "" means the system's.
	Temp string
}

// ClosureReport is what Closure found.
type ClosureReport struct {
	Paths []Path   // sorted by path
	Extra []string // files and links that belong to no path, relative to the layers directory
	// Altered says of files beside the paths, relative to the layers directory, what is wrong with them.
	Altered []Problem
	// Prefix is the directory that the paths were relocated to, or /nix/store.
	Prefix string
}

// Path is what was found of one store path.
type Path struct {
	Path  storepath.Path
	Layer string
	// References are the paths that it refers to, as was signed.
	References []storepath.Path
	// Signed names the trusted key that signed it, contentAddress where nothing but that proves it, or is "".
	Signed string
	// Claimed are the keys that are said to have signed it.
	Claimed []string
	// Overruled are the files that were taken as harmless when the image was built, and by which setting.
	Overruled []closure.Overruled
	// Problem is "" where the files are what was signed, rewritten and fixed as this program does it and no other
	// way.
	Problem string
}

// contentAddress is Path.Signed of what no trusted key signed. It is no key's name, which has no blanks.
const contentAddress = "content address"

// Has reports whether the report is about a path, whatever it found.
func (r *ClosureReport) Has(p storepath.Path) bool {
	return slices.ContainsFunc(r.Paths, func(each Path) bool { return each.Path == p })
}

// Closure proves the closure layers in a buildpack's layers directory, of an image or at build time, by nothing but what
// they hold and the keys: each path is taken back to the NAR that it was, which must have the hash that was signed, and
// made again from that, which must give the files that are there. What is wrong is in the report; an error means that
// there is none.
func Closure(ctx context.Context, layers *filetree.File, options ClosureOptions) (*ClosureReport, error) {
	v := closureCheck{
		ClosureOptions: options, layers: layers, seen: map[storepath.Path]bool{}, expected: map[string]map[storepath.Path]*closure.Node{},
	}
	for layer, m := range options.Manifests {
		v.expected[layer] = m.Nodes()
	}
	for _, name := range layers.Names() {
		// A layer's .toml, which is only there at build time, belongs to somebody else.
		if strings.HasPrefix(name, closure.LayerPrefix) && !strings.HasSuffix(name, ".toml") {
			v.layer(ctx, name)
		}
	}
	v.missing()
	v.view()
	if err := v.prove(ctx); err != nil {
		return nil, err
	}
	if len(v.report.Paths)+len(v.report.Extra)+len(v.report.Altered) == 0 {
		return nil, closurelayer.ErrNone
	}
	if v.View != "" { // where that is, the whole closure is
		v.dangling()
	}
	slices.SortFunc(v.report.Paths, func(a, b Path) int {
		return cmp.Or(strings.Compare(string(a.Path), string(b.Path)), strings.Compare(a.Layer, b.Layer))
	})
	slices.Sort(v.report.Extra)
	return &v.report, nil
}

type closureCheck struct {
	ClosureOptions
	layers   *filetree.File
	report   ClosureReport
	seen     map[storepath.Path]bool
	expected map[string]map[storepath.Path]*closure.Node // by layer
	trees    []unpacked
	places   *closure.Places
	reader   closurelayer.Reader
}

// altered notes what is wrong with a file that is no path's.
func (v *closureCheck) altered(file, format string, args ...any) {
	v.report.Altered = append(v.report.Altered, Problem{Altered, file, fmt.Sprintf(format, args...)})
}

// layer lists what a layer holds.
func (v *closureCheck) layer(ctx context.Context, name string) {
	dir := v.layers.Child(name)
	if dir.Kind != filetree.Directory {
		v.altered(name, "it is a %s, not a layer", dir.Kind)
		return
	}
	if !closure.IsLayer(name) {
		v.altered(name, "no build gives a layer such a name")
	}
	known := map[string]bool{}
	prefix, infos, err := v.reader.Read(ctx, dir)
	view, viewErr := closure.ViewOf(prefix)
	if err == nil {
		err = viewErr
	}
	if err != nil {
		v.altered(filepath.Join(name, closure.PathsName), "it does not say what the layer holds: %s", err)
		infos = nil
	}
	if err == nil {
		if same, err := closurelayer.IsAsWritten(dir, prefix, infos); !same || err != nil {
			v.altered(filepath.Join(name, closure.PathsName), "it is not as this buildpack writes it")
		}
	}
	v.prefix(name, prefix)
	known[closure.PathsName] = err == nil && v.plain(filepath.Join(name, closure.PathsName), dir.Child(closure.PathsName), 0o644)
	v.plain(name, dir, 0o755)
	for _, r := range infos {
		entry := Path{Path: r.Path, Layer: name, References: r.References,
			Overruled: r.Overruled}
		switch {
		case v.seen[r.Path]:
			entry.Problem = "it is in two layers"
		default:
			v.seen[r.Path] = true
			known[closure.BaseName(r.Path, view)] = true
			entry.Problem = v.agrees(name, r, prefix)
			if v.places == nil { // all layers are to be made for one directory
				v.places = closure.NewPlaces(view)
			}
			v.places.Add(r.Path, r.NarSize, r.References, name)
			v.trees = append(v.trees, unpacked{
				file: dir.Child(closure.BaseName(r.Path, view)), view: view, info: r, entry: len(v.report.Paths),
			})
		}
		v.report.Paths = append(v.report.Paths, entry)
	}
	for _, each := range dir.Names() {
		if !known[each] {
			v.report.Extra = append(v.report.Extra, filepath.Join(name, each))
		}
	}
}

// prefix checks that all layers were made for one directory, which is this one.
func (v *closureCheck) prefix(layer, prefix string) {
	switch {
	case prefix == "":
		return
	case v.report.Prefix != "" && prefix != v.report.Prefix:
		v.altered(layer, "its paths were made for %.200q, those of other layers for %.200q", prefix, v.report.Prefix)
	case v.Dir != "" && prefix != storepath.Dir && prefix != filepath.Join(v.Dir, v.View):
		v.altered(layer, "its paths were made for %.200q and so lead there, while they are in %s", prefix, v.Dir)
	}
	v.report.Prefix = cmp.Or(v.report.Prefix, prefix)
}

// plain checks that a file has no more rights than it should; what is wrong is noted.
func (v *closureCheck) plain(name string, f *filetree.File, mode fs.FileMode) bool {
	why := unusual(f, mode)
	if why != "" {
		v.altered(name, "%s", why)
	}
	return why == ""
}

// unusual says what rights a file has that no store path gives, beyond those in mode. A layer's directory may have the bit of
// its group, which it inherits from the volume of a Kubernetes pod.
func unusual(f *filetree.File, mode fs.FileMode) string {
	if f.Kind == filetree.Directory && mode&0o200 != 0 {
		mode |= fs.ModeSetgid
	}
	switch {
	case len(f.Attributes) > 0:
		return fmt.Sprintf("it has the extended attribute %.80q", f.Attributes[0])
	case f.Kind != filetree.Symlink && f.Mode&^mode != 0:
		return fmt.Sprintf("its mode is %v, which is more than %v", f.Mode, mode)
	case f.Kind != filetree.Symlink && f.Mode&0o444 != 0o444:
		return fmt.Sprintf("its mode is %v: not everybody may read it", f.Mode)
	case f.Kind == filetree.Directory && f.Mode&0o111 != 0o111:
		return fmt.Sprintf("its mode is %v: not everybody may enter it", f.Mode)
	case f.Kind == filetree.Regular && f.Mode&0o111 != 0 && f.Mode&0o111 != 0o111:
		return fmt.Sprintf("its mode is %v: it is a program to some only", f.Mode)
	}
	return ""
}

// agrees compares a layer's path info with the image's metadata of that layer.
func (v *closureCheck) agrees(layer string, r closure.PathInfo, prefix string) string {
	if v.Manifests == nil {
		return ""
	}
	m := v.Manifests[layer]
	if err := m.Check(); err != nil {
		return fmt.Sprintf("the image's metadata of this layer cannot be read: %s", err)
	}
	n := v.expected[layer][r.Path]
	if n == nil {
		return "the image's metadata does not have it in this layer"
	}
	if n.NarHash.String() != r.NarHash || m.Prefix != prefix {
		return fmt.Sprintf("%s says %s in %s, the image's metadata %s in %s", closure.PathsName, r.NarHash, prefix, n.NarHash,
			m.Prefix)
	}
	return ""
}

// missing adds what the image's metadata lists and no layer does.
func (v *closureCheck) missing() {
	for layer, nodes := range v.expected {
		for p := range nodes {
			if !v.seen[p] {
				v.report.Paths = append(v.report.Paths, Path{
					Path: p, Layer: layer, Problem: "it is not in the layer",
				})
			}
		}
	}
}
