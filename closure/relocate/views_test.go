package relocate_test

import (
	"archive/zip"
	stdcontext "context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// views are places to relocate to, from the shortest to the longest that leaves enough of a hash.
var views = []string{"/layers/vv", viewDir, "/layers/nixproot_nix-hydra/view", "/workspace/l/nixproot_hydra/v", "/tmp/nh/l/view"}

// fileNames are names that decide how a file is looked at.
var fileNames = []string{
	"f", "bin/f", "lib/f.so", "app.jar", "R/app.rdb", "snapshot_blob.bin", "lib/__pycache__/m.cpython-311.pyc", "x.gz", "x.zst",
	"app.phar", "data.sqlite", "jmods/x.jmod", "lib/modules", "x.tar", "META-INF/MANIFEST.MF", "SHA256SUMS", "classes.jsa", "x.pag",
	"x.lzma", "x.html.br", "a.html", "ngsw.json", "x.dets", "web2c/x.fmt", "blobs/sha256/00112233445566778899aabbccddeeff", "x.debug",
}

// roundTrip unpacks a path that holds one file, relocated to a place, with all fixups, and makes sure that the tree can be
// taken back to the hash that it was signed with, and that a tree in which a byte was changed cannot.
func roundTrip(t testing.TB, dir string, name, contents string, executable bool) {
	l, err := relocate.NewView(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := regular(name, contents)
	f.Executable = executable
	source := "lib/m.py"
	files := archive(f)
	if strings.HasPrefix(name, "lib/__pycache__/") {
		files = archive(f, regular(source, module))
	}
	original := relocate.Original{Path: self, References: []storepath.Path{dep}, NarHash: sha256.Sum256(archived(t, files))}
	scratch, err := os.MkdirTemp("", "r")
	if err != nil {
		t.Fatal(err)
	}
	defer nar.RemoveAll(scratch)
	tree := filepath.Join(scratch, "tree")
	rewriter := l.Rewrite(self, original.References, nar.NewTree(tree))
	send(t, rewriter, files, whole)
	ctx := stdcontext.Background()
	report, err := l.FixTree(ctx, tree, original, rewriter.Report())
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	neverTripped(t, report)
	if !undoable(report) {
		return
	}
	original.Fixups = report.Fixups
	if err := l.VerifyTree(ctx, tree, scratch, original); err != nil {
		t.Fatalf("%s, relocated to %s, does not come back: %v", name, dir, err)
	}
	places := filepath.Dir(dir)
	report, err = l.FixWrappers(ctx, tree, original, report, map[storepath.Path]string{self: places + "/closure-1", dep: places + "/closure-2"})
	if err != nil {
		t.Fatal(err)
	}
	was := sha256.New()
	err = nar.DumpTo(ctx, l.Undo([]storepath.Path{self, dep}, report.Fixups, nar.NewWriter(was)), tree)
	if err != nil || storepath.Hash(was.Sum(nil)) != original.NarHash {
		t.Fatalf("%s, relocated to %s with its wrappers, does not come back: %v", name, dir, err)
	}
	if len(report.Fixups) != len(original.Fixups) {
		return
	}
	file := filepath.Join(tree, name)
	now, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(now) == 0 {
		return
	}
	now[len(now)/2] ^= 1
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, now, 0o644); err != nil {
		t.Fatal(err)
	}
	if l.VerifyTree(ctx, tree, scratch, original) == nil {
		t.Fatalf("%s, relocated to %s: a changed byte at %d is not noticed", name, dir, len(now)/2)
	}
}

func TestRelocationIsUndoneInEveryLayout(t *testing.T) {
	for _, dir := range views {
		for _, a := range artefacts(script) {
			roundTrip(t, dir, a.name, a.contents, false)
		}
	}
}

// FuzzLayouts looks for files that do not come back as they were from some place, or of which a change is not noticed.
func FuzzLayouts(f *testing.F) {
	for i, a := range artefacts(script) {
		if len(a.contents) < 4<<10 {
			f.Add([]byte(a.contents), uint8(i), uint8(i), i%2 == 0)
		}
	}
	f.Add([]byte(decoded(switchClass)), uint8(0), uint8(0), false)
	f.Add([]byte(pyc(magic311, 3, hash311)), uint8(6), uint8(0), false)
	f.Add([]byte(fmt.Sprint(self, dep, other, "\x00", viewDir)), uint8(0), uint8(1), true)
	image := jimage(binary.LittleEndian, resource{name: "a", stored: script}, packedResource(binary.LittleEndian, "b", script))
	f.Add([]byte(image), uint8(12), uint8(0), false)
	f.Add([]byte(arred("a.jar/", zipped(zip.Deflate, "a", script))), uint8(0), uint8(0), false)
	f.Add([]byte("#!/bin/sh\nnode "+self.String()+"/a.mjs "+dep.String()+"/b.js"), uint8(1), uint8(0), true)
	f.Add([]byte("Class-Path: "+script[:40]+"\n "+script[40:]), uint8(14), uint8(0), false)
	f.Fuzz(func(t *testing.T, contents []byte, name, view uint8, executable bool) {
		roundTrip(t, views[int(view)%len(views)], fileNames[int(name)%len(fileNames)], string(contents), executable)
	})
}
