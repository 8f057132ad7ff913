package rig

import (
	"archive/zip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// PRoot is a static PRoot as its releases have it: one program that needs nothing.
type PRoot struct {
	Program, SHA256, Version string
}

// PRoot gives a static program that is Debian's PRoot with its libraries in itself.
func (r *Rig) PRoot(ctx context.Context) (*PRoot, error) {
	stub, err := r.goBuild(ctx, "prootbox", "./integration/rig/prootbox")
	if err != nil {
		return nil, err
	}
	root, err := r.Debs(ctx, Suite, "proot", "patchelf")
	if err != nil {
		return nil, err
	}
	dir, err := r.cached(ctx, "proot", []string{"3", root, stub}, func(ctx context.Context, dir, _ string) error {
		if err := r.boxPRoot(root, stub, filepath.Join(dir, "proot")); err != nil {
			return err
		}
		if _, err := run(ctx, dir, filepath.Join(dir, "proot"), "--version"); err != nil {
			return err
		}
		from, err := r.apt(ctx, Suite)
		if err != nil {
			return err
		}
		debs, err := from.resolve(ctx, "proot")
		if err != nil {
			return err
		}
		at := slices.IndexFunc(debs, func(d Deb) bool { return d.Name == "proot" })
		return os.WriteFile(filepath.Join(dir, "version"), []byte(upstream(debs[at].Version)), 0o644)
	})
	if err != nil {
		return nil, err
	}
	p := &PRoot{Program: filepath.Join(dir, "proot")}
	if p.SHA256, err = fileSHA256(p.Program); err != nil {
		return nil, err
	}
	version, err := os.ReadFile(filepath.Join(dir, "version"))
	if err != nil {
		return nil, fmt.Errorf("reading version of PRoot: %w", err)
	}
	p.Version = string(version)
	return p, nil
}

// boxPRoot appends an archive of PRoot and what it needs to the stub.
func (r *Rig) boxPRoot(root, stub, target string) error {
	contents, err := os.ReadFile(stub)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := out.Write(contents); err != nil {
		return err
	}
	archive := zip.NewWriter(out)
	archive.SetOffset(int64(len(contents)))
	libraries := filepath.Join(root, "usr/lib", r.triplet())
	for _, file := range []struct{ name, from string }{
		{"loader", r.loader(root)},
		{"libc.so.6", filepath.Join(libraries, "libc.so.6")},
		{"libtalloc.so.2", filepath.Join(libraries, "libtalloc.so.2")},
		{"proot", filepath.Join(root, "usr/bin/proot")},
	} {
		from, err := os.ReadFile(file.from)
		if err != nil {
			return err
		}
		entry, err := archive.CreateHeader(&zip.FileHeader{Name: file.name, Method: zip.Store})
		if err != nil {
			return err
		}
		if _, err := entry.Write(from); err != nil {
			return err
		}
	}
	return archive.Close()
}
