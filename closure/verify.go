package closure

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// VerifyOptions says what to hold layers against. All of it may be left out.
type VerifyOptions struct {
	// Keys are the keys that signatures are checked with. Without them signatures are only listed.
	Keys narinfo.Keys
	// Manifests is the layers' metadata, by layer, from the image's label. With it, what the layers say of
	// themselves has to agree, and what they lack is missed.
	Manifests map[string]Manifest
	// View is the directory of links to the paths; "" leaves it unchecked.
	View string
	// Temp is where paths that were fixed are written once more to compare them; "" means the system's.
	Temp string
}

// Audit is what Verify found.
type Audit struct {
	Paths []Audited // sorted by path
	Extra []string  // files and links that belong to no path, relative to the layers directory or to the view
}

// Audited is one store path.
type Audited struct {
	Path    storepath.Path
	Layer   string
	NarSize int64
	// Signed names the trusted key that signed it, "content address" where that proves it, or is "".
	Signed string
	// Claimed are the keys that are said to have signed it.
	Claimed []string
	// Untrusted says that none of the keys that were given vouches for it, whatever its files are.
	Untrusted bool
	// Problem is "" where the files are what was signed, rewritten and fixed as this program does it and no other
	// way.
	Problem string
}

// Intact reports whether every path is as signed, by a trusted key where any are given, and nothing is there besides.
func (a *Audit) Intact() bool {
	return len(a.Extra) == 0 && !slices.ContainsFunc(a.Paths, func(p Audited) bool { return p.Problem != "" || p.Untrusted })
}

// Verify proves the closure layers below layersDir, in an image or at build time, by nothing but what they hold and
// the keys: each path is taken back to the NAR that it was, which must have the hash that was signed, and made again
// from that, which must give the files that are there. What is wrong is in the audit; an error means that there is
// none.
func Verify(ctx context.Context, layersDir string, options VerifyOptions) (*Audit, error) {
	v := verifier{
		VerifyOptions: options, layers: layersDir, seen: map[storepath.Path]bool{}, promised: promises(options.Manifests),
	}
	dirs, err := filepath.Glob(filepath.Join(layersDir, LayerPrefix+"*"))
	if err != nil {
		return nil, fmt.Errorf("verifying layers: %w", err)
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			v.layer(dir)
		}
	}
	v.missing()
	v.view()
	if err := v.prove(ctx); err != nil {
		return nil, err
	}
	if len(v.audit.Paths) == 0 && len(v.audit.Extra) == 0 {
		return nil, fmt.Errorf("verifying layers: %s holds no closure layer", layersDir)
	}
	slices.SortFunc(v.audit.Paths, func(a, b Audited) int {
		return cmp.Or(strings.Compare(string(a.Path), string(b.Path)), strings.Compare(a.Layer, b.Layer))
	})
	slices.Sort(v.audit.Extra)
	return &v.audit, nil
}

type verifier struct {
	VerifyOptions
	layers   string
	audit    Audit
	seen     map[storepath.Path]bool
	promised map[string]map[storepath.Path]*Node // by layer
	trees    []tree
}

// tree is an unpacked path that is to be proven; entry is its place in the audit.
type tree struct {
	dir    string
	layout relocate.Layout
	record Record
	entry  int
}

// layer lists what a layer holds.
func (v *verifier) layer(dir string) {
	name := filepath.Base(dir)
	var records Records
	err := readJSON(filepath.Join(dir, RecordsName), &records)
	layout, layoutErr := layoutOf(records.Prefix)
	if err = cmp.Or(err, layoutErr); err == nil && records.Format != Format {
		err = fmt.Errorf("its format is %d, this program knows %d", records.Format, Format)
	}
	bases := map[string]bool{RecordsName: err == nil}
	if err != nil {
		records.Paths = nil
	}
	for _, r := range records.Paths {
		entry := Audited{Path: r.Path, Layer: name, NarSize: r.NarSize}
		if !wellFormed(r) || v.seen[r.Path] {
			entry.Problem = RecordsName + " lists it twice, or as something that is no store path"
		} else {
			v.seen[r.Path] = true
			bases[r.Path.Base()] = true
			entry.Problem = v.agrees(name, r, records.Prefix)
			v.trees = append(v.trees, tree{
				dir: filepath.Join(dir, r.Path.Base()), layout: layout, record: r, entry: len(v.audit.Paths),
			})
		}
		v.audit.Paths = append(v.audit.Paths, entry)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		v.audit.Extra = append(v.audit.Extra, name)
	}
	for _, e := range entries {
		if !bases[e.Name()] {
			v.audit.Extra = append(v.audit.Extra, filepath.Join(name, e.Name()))
		}
	}
}

// wellFormed reports whether a record, which anybody could have written, holds store paths where it should.
func wellFormed(r Record) bool {
	return !slices.ContainsFunc(append([]storepath.Path{r.Path}, r.References...), func(p storepath.Path) bool {
		_, err := storepath.Parse(string(p))
		return err != nil
	})
}

func layoutOf(prefix string) (relocate.Layout, error) {
	if prefix == storepath.Dir {
		return relocate.Layout{}, nil
	}
	return relocate.NewLayout(prefix)
}

// agrees compares a layer's record of a path with the image's metadata of that layer.
func (v *verifier) agrees(layer string, r Record, prefix string) string {
	if v.Manifests == nil {
		return ""
	}
	m := v.Manifests[layer]
	if err := m.unreadable(); err != nil {
		return fmt.Sprintf("the image's metadata of this layer cannot be read: %s", err)
	}
	n := v.promised[layer][r.Path]
	if n == nil {
		return "the image's metadata does not have it in this layer"
	}
	if n.NarHash.String() != r.NarHash || m.Prefix != prefix {
		return fmt.Sprintf("%s says %s in %s, the image's metadata %s in %s", RecordsName, r.NarHash, prefix, n.NarHash,
			m.Prefix)
	}
	return ""
}

// missing adds what the image's metadata promises and no layer lists.
func (v *verifier) missing() {
	for layer, nodes := range v.promised {
		for p, n := range nodes {
			if !v.seen[p] {
				v.audit.Paths = append(v.audit.Paths, Audited{
					Path: p, Layer: layer, NarSize: n.NarSize, Problem: "it is not in the layer",
				})
			}
		}
	}
}

// view checks that each path has its link and nothing else has one.
func (v *verifier) view() {
	if v.View == "" {
		return
	}
	known := map[string]bool{}
	for _, t := range v.trees {
		entry := &v.audit.Paths[t.entry]
		name := viewName(t.record.Path, t.layout)
		known[name] = true
		target, err := os.Readlink(filepath.Join(v.View, name))
		// Where the layers are in the image is known of what is relocated only.
		here := target == viewTarget("", entry.Layer, t.record.Path, t.layout)
		if t.layout.IsZero() {
			here = strings.HasSuffix(target, filepath.Join("/", entry.Layer, t.record.Path.Base()))
		}
		if err != nil || !here {
			entry.Problem = cmp.Or(entry.Problem, fmt.Sprintf("its link %s does not lead to it", name))
		}
	}
	entries, err := os.ReadDir(v.View)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.audit.Extra = append(v.audit.Extra, v.View)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			v.audit.Extra = append(v.audit.Extra, filepath.Join(filepath.Base(v.View), e.Name()))
		}
	}
}

// prove checks signatures and contents of all trees, on all cores.
func (v *verifier) prove(ctx context.Context) error {
	var workers sync.WaitGroup
	next := make(chan tree)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for t := range next {
				entry := &v.audit.Paths[t.entry] // nobody else has this one
				v.signed(t.record, entry)
				if err := v.contents(ctx, t); err != nil {
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

// signed finds out who vouches for a path.
func (v *verifier) signed(r Record, entry *Audited) {
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
	entry.Signed, err = v.Keys.Verify(info)
	var unsigned *narinfo.SignatureError
	switch {
	case errors.As(err, &unsigned) && len(unsigned.Bad) == 0:
		entry.Untrusted = true
	case err != nil:
		entry.Problem = cmp.Or(entry.Problem, err.Error())
	}
}

// contents takes a tree back to its NAR and makes it anew from there.
func (v *verifier) contents(ctx context.Context, t tree) error {
	original, err := t.record.original()
	if err != nil {
		return err
	}
	there, was, again := sha256.New(), sha256.New(), sha256.New()
	var made nar.Sink = nar.NewWriter(again)
	var copied string
	if len(original.Fixups) > 0 {
		temp, err := os.MkdirTemp(v.Temp, "verify-")
		if err != nil {
			return err
		}
		defer nar.RemoveAll(temp)
		copied = filepath.Join(temp, t.record.Path.Base())
		made = nar.NewTree(copied)
	}
	stage := newStage(t.record, t.layout, made)
	defer stage.Discard()
	archive := nar.NewWriter(was)
	address := func() error { return nil }
	if t.record.CA != "" {
		info := &narinfo.NarInfo{StorePath: t.record.Path, References: original.References, CA: t.record.CA}
		check, err := info.ContentCheck()
		if err != nil {
			return err
		}
		archive, address = nar.NewWriter(io.MultiWriter(was, check)), check.Verify
	}
	names := append([]storepath.Path{t.record.Path}, original.References...)
	undo := t.layout.Undo(names, original.Fixups, &tee{first: archive, second: stage})
	if err := nar.DumpTo(ctx, &tee{first: nar.NewWriter(there), second: undo}, t.dir); err != nil {
		return err
	}
	if got := storepath.Hash(was.Sum(nil)); got != original.NarHash {
		return &relocate.ChangedError{Path: t.record.Path, Dir: t.dir, Want: original.NarHash, Got: got}
	}
	if err := address(); err != nil {
		return err
	}
	if copied != "" {
		if _, err := t.layout.FixTree(ctx, copied, original, stage.Report()); err != nil {
			return err
		}
		if err := nar.Dump(ctx, again, copied); err != nil {
			return err
		}
	}
	if want, got := storepath.Hash(again.Sum(nil)), storepath.Hash(there.Sum(nil)); want != got {
		return fmt.Errorf("it is not as relocating %s makes it: its NAR hash is %s, want %s", t.record.Path, got, want)
	}
	return nil
}
