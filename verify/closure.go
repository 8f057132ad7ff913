package verify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
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
	// Signed names the trusted key that signed it, "content address" where that proves it, or is "".
	Signed string
	// Claimed are the keys that are said to have signed it.
	Claimed []string
	// Overruled are the files that were taken as harmless when the image was built, and by which setting.
	Overruled []closure.Overruled
	// Problem is "" where the files are what was signed, rewritten and fixed as this program does it and no other
	// way.
	Problem string
}

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
		return nil, closure.ErrNoClosure
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
}

// unpacked is an unpacked path that is to be proven; entry is its index in the report.
type unpacked struct {
	file  *filetree.File
	view  relocate.View
	info  closure.PathInfo
	entry int
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
	known := map[string]bool{}
	prefix, infos, err := closure.ReadPathInfos(ctx, dir)
	view, viewErr := closure.ViewOf(prefix)
	if err == nil {
		err = viewErr
	}
	if err != nil {
		v.altered(filepath.Join(name, closure.PathsName), "it does not say what the layer holds: %s", err)
		infos = nil
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

// view checks that each path has its link and nothing else has one.
func (v *closureCheck) view() {
	if v.View == "" {
		return
	}
	view := v.layers.Child(v.View)
	if view != nil && view.Kind != filetree.Directory {
		v.altered(v.View, "it is a %s, not a layer", view.Kind)
		view = nil
	}
	if view != nil {
		v.plain(v.View, view, 0o755)
	}
	known := map[string]bool{}
	for _, t := range v.trees {
		entry := &v.report.Paths[t.entry]
		name := closure.BaseName(t.info.Path, t.view)
		link := view.Child(name)
		if known[name] || link == nil || link.Kind != filetree.Symlink || !v.leads(link.Target, entry.Layer, t) ||
			len(link.Attributes) > 0 {
			entry.Problem = cmp.Or(entry.Problem, fmt.Sprintf("its link %s does not lead to it", name))
		}
		known[name] = true
	}
	if view == nil {
		return
	}
	for _, name := range view.Names() {
		if !known[name] {
			v.report.Extra = append(v.report.Extra, filepath.Join(v.View, name))
		}
	}
}

// leads reports whether a link's target is the one that a path's link has. Where the layers are in the image is known
// of what is relocated, or has to be given.
func (v *closureCheck) leads(target, layer string, t unpacked) bool {
	if t.view.IsZero() && v.Dir == "" {
		return strings.HasSuffix(target, filepath.Join("/", layer, t.info.Path.Base()))
	}
	return target == closure.LinkTarget(v.Dir, layer, t.info.Path, t.view)
}

// dangling notes which paths refer to some that are not there.
func (v *closureCheck) dangling() {
	for i := range v.report.Paths {
		entry := &v.report.Paths[i]
		for _, ref := range entry.References {
			if !v.seen[ref] {
				entry.Problem = cmp.Or(entry.Problem, fmt.Sprintf("it refers to %s, which is not in the image", ref))
			}
		}
	}
}

// prove checks signatures and contents of all trees, on all cores.
func (v *closureCheck) prove(ctx context.Context) error {
	var workers sync.WaitGroup
	next := make(chan unpacked)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for t := range next {
				entry := &v.report.Paths[t.entry] // nobody else has this one
				v.signed(t.info, entry)
				if t.file == nil {
					entry.Problem = cmp.Or(entry.Problem, "it is not in the layer")
				} else if err := v.contents(ctx, t, false); err != nil {
					entry.Problem = cmp.Or(entry.Problem, err.Error())
				}
			}
		})
	}
	for _, t := range v.trees {
		if ctx.Err() != nil {
			break
		}
		next <- t
	}
	close(next)
	workers.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("verifying layers: %w", context.Cause(ctx))
	}
	return nil
}

// signed checks the signatures and the content address of a path.
func (v *closureCheck) signed(r closure.PathInfo, entry *Path) {
	hash, err := storepath.ParseHash(r.NarHash)
	if err != nil {
		entry.Problem = cmp.Or(entry.Problem, err.Error())
		return
	}
	info := &narinfo.NarInfo{StorePath: r.Path, NarHash: hash, NarSize: r.NarSize, References: r.References, CA: r.CA}
	for _, s := range r.Signatures {
		sig, err := narinfo.ParseSignature(s)
		if err != nil {
			entry.Problem = cmp.Or(entry.Problem, err.Error())
			continue
		}
		info.Sigs = append(info.Sigs, sig)
		entry.Claimed = append(entry.Claimed, sig.Name)
	}
	if ok, err := info.VerifyCA(); err == nil && ok {
		entry.Signed = "content address"
		return
	}
	if len(v.Keys) == 0 {
		return
	}
	signature, err := v.Keys.Verify(info)
	entry.Signed = signature.Name
	var unsigned *narinfo.SignatureError
	if err != nil && (!errors.As(err, &unsigned) || len(unsigned.Bad) > 0) {
		entry.Problem = cmp.Or(entry.Problem, err.Error())
	}
}

// contents takes a tree back to its NAR and makes it anew from there, on disk if that was known to be needed.
func (v *closureCheck) contents(ctx context.Context, t unpacked, onDisk bool) error {
	original, err := t.info.Original()
	if err != nil {
		return err
	}
	there, was, again := sha256.New(), sha256.New(), sha256.New()
	var made nar.Sink = nar.NewWriter(again)
	var copied string
	if onDisk || len(original.Fixups) > 0 {
		temp, err := os.MkdirTemp(v.Temp, "verify-")
		if err != nil {
			return err
		}
		defer nar.RemoveAll(temp)
		copied = filepath.Join(temp, t.info.Path.Base())
		made = nar.NewTree(copied)
	}
	rewriter := t.info.Rewriter(t.view, made)
	rewriter.EndWith(ctx)
	defer rewriter.Discard()
	archive := nar.NewWriter(was)
	address := func() error { return nil }
	if t.info.CA != "" {
		info := &narinfo.NarInfo{StorePath: t.info.Path, References: original.References, CA: t.info.CA}
		check, err := info.ContentCheck()
		if err != nil {
			return err
		}
		archive, address = nar.NewWriter(io.MultiWriter(was, check)), check.Verify
	}
	names := append([]storepath.Path{t.info.Path}, original.References...)
	undo := t.view.Undo(names, original.Fixups, nar.Tee(archive, rewriter))
	rights, err := dumpFile(ctx, nar.Tee(nar.NewWriter(there), undo), t.file)
	if err != nil {
		return err
	}
	if got := storepath.Hash(was.Sum(nil)); got != original.NarHash {
		return &relocate.ChangedError{Path: t.info.Path, Dir: filepath.Join(v.report.Paths[t.entry].Layer, t.info.Path.Base()), Want: original.NarHash, Got: got}
	}
	if err := address(); err != nil {
		return err
	}
	switch {
	case copied == "" && !rewriter.Report().Complete():
		return cmp.Or(v.contents(ctx, t, true), rights)
	case copied != "":
		if _, err := t.view.FixTree(ctx, copied, original, rewriter.Report()); err != nil {
			return err
		}
		if err := nar.Dump(ctx, again, copied); err != nil {
			return err
		}
	}
	if want, got := storepath.Hash(again.Sum(nil)), storepath.Hash(there.Sum(nil)); want != got {
		return fmt.Errorf("it is not as relocating %s makes it: its NAR hash is %s, want %s", t.info.Path, got, want)
	}
	return rights
}

// dumpFile sends the archive of a tree to dst, as nar.DumpTo does of one on disk. rights is an error about the first file
// with rights that no archive keeps, or more than Nix gives.
func dumpFile(ctx context.Context, dst nar.Sink, root *filetree.File) (rights, err error) {
	buf := make([]byte, 64<<10)
	var node func(where string, f *filetree.File) error
	node = func(where string, f *filetree.File) error {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if why := unusual(f, 0o555); why != "" {
			rights = cmp.Or(rights, error(&nar.Error{Path: where, Err: errors.New(why)}))
		}
		e := &nar.Entry{Path: where, Executable: f.Mode&0o100 != 0, Size: f.Size, Target: f.Target}
		switch f.Kind {
		case filetree.Directory:
			e.Kind, e.Executable = nar.Directory, false
		case filetree.Regular:
			e.Kind = nar.Regular
		case filetree.Symlink:
			e.Kind, e.Executable = nar.Symlink, false
		default:
			return &nar.Error{Path: where, Err: fmt.Errorf("it is a %s", f.Kind)}
		}
		if err := dst.Entry(e); err != nil {
			return err
		}
		if f.Kind == filetree.Regular {
			if err := copyFile(ctx, dst, f, buf); err != nil {
				return &nar.Error{Path: where, Err: err}
			}
		}
		for _, name := range f.Names() {
			if err := node(path.Join(where, name), f.Child(name)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := node("", root); err != nil {
		return nil, err
	}
	return rights, dst.Close()
}

func copyFile(ctx context.Context, dst io.Writer, f *filetree.File, buf []byte) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	for left := f.Size; left > 0; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(r, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return err
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}
