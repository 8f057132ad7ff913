package verify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/image/filetree"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// unpacked is an unpacked path that is to be proven; entry is its index in the report.
type unpacked struct {
	file  *filetree.File
	view  relocate.View
	info  closure.PathInfo
	entry int
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
	if err == nil && hash.String() != r.NarHash {
		err = fmt.Errorf("the NAR hash %q is not as this buildpack writes it", text.Short(r.NarHash))
	}
	if err != nil {
		entry.Problem = cmp.Or(entry.Problem, err.Error())
		return
	}
	info := &narinfo.NarInfo{StorePath: r.Path, NarHash: hash, NarSize: r.NarSize, References: r.References, CA: r.CA}
	for _, s := range r.Signatures {
		sig, err := narinfo.ParseSignature(s)
		if err == nil && sig.String() != s {
			err = fmt.Errorf("the signature by %q is not as this buildpack writes it", text.Short(sig.Name))
		}
		if err != nil {
			entry.Problem = cmp.Or(entry.Problem, err.Error())
			continue
		}
		info.Sigs = append(info.Sigs, sig)
		entry.Claimed = append(entry.Claimed, sig.Name)
	}
	addressed, _ := info.VerifyCA()
	if r.CA != "" && !addressed { // it is only written down where it holds
		entry.Problem = cmp.Or(entry.Problem, fmt.Sprintf("its content address %q does not hold", text.Short(r.CA)))
	}
	// A key says more than a content address: that somebody who is trusted has this path.
	signature, err := v.Keys.Verify(info)
	if err == nil {
		entry.Signed = signature.Name
		return
	}
	if addressed {
		entry.Signed = contentAddress
		return
	}
	var unsigned *narinfo.SignatureError
	if len(v.Keys) > 0 && (!errors.As(err, &unsigned) || len(unsigned.Bad) > 0) {
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
	rewriter := t.view.Rewrite(t.info.Path, t.info.References, made)
	rewriter.SetContext(ctx)
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
		report, err := t.view.FixTree(ctx, copied, original, rewriter.Report())
		if err == nil {
			_, err = t.view.FixWrappers(ctx, copied, original, report, v.places.OfPrograms(t.info.Path, original.References))
		}
		if err != nil {
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
