package relocate_test

import (
	"bytes"
	stdcontext "context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// archived is files as a NAR.
func archived(t testing.TB, files []file) []byte {
	var b bytes.Buffer
	send(t, nar.NewWriter(&b), files, whole)
	return b.Bytes()
}

// undoable reports whether nothing was found that stands in the way of undoing.
func undoable(report relocate.Report) bool {
	for _, h := range report.Blockers {
		if h.Kind == relocate.RelocatedName || h.Kind == relocate.Ambiguous {
			return false
		}
	}
	return report.Blocking <= 32
}

func testUndo(t *testing.T, context spec.G, it spec.S) {
	ctx := stdcontext.Background()
	refs := []storepath.Path{dep}

	it.Before(func() { RegisterTestingT(t) })

	it("gives back the same NAR for any contents, however they are cut", func() {
		r := rand.New(rand.NewPCG(11, 12))
		undone := 0
		for range 400 {
			files := archive(
				regular("a", adversarial(r, 1+r.IntN(1<<(4+r.IntN(10))))),
				symlink("b", strings.ReplaceAll(adversarial(r, 1+r.IntN(200)), "\x00", "0")),
				regular("c", adversarial(r, r.IntN(300))),
			)
			signed := archived(t, files)
			out := &events{}
			rewriter := view(t).Rewrite(self, refs, out)
			send(t, rewriter, files, pieces(r))
			if !undoable(relocate.WithPending(rewriter.Report())) {
				continue
			}
			undone++
			var b bytes.Buffer
			undo := view(t).Undo([]storepath.Path{dep, self}, rewriter.Report().Fixups, nar.NewWriter(&b))
			send(t, undo, out.files, pieces(r))
			Expect(bytes.Equal(b.Bytes(), signed)).To(BeTrue())
		}
		Expect(undone).To(BeNumerically(">", 20))
	})

	it("does so across the edges of what is searched at once", func() {
		b := []byte(strings.Repeat(".", 400<<10))
		for at := 128<<10 - 300; at < 300<<10; at += 61 {
			copy(b[at:], self)
		}
		files := archive(regular("f", string(b)))
		out, report := relocated(t, files[1:]...)
		Expect(report.References).To(BeNumerically(">", 2000))
		var back bytes.Buffer
		send(t, view(t).Undo([]storepath.Path{self, dep}, nil, nar.NewWriter(&back)), out, whole)
		Expect(bytes.Equal(back.Bytes(), archived(t, files))).To(BeTrue())
	})

	it("refuses contents that have a relocated name already, harmless place or not", func() {
		for _, name := range []string{"bin/x", "share/doc/x"} {
			for _, text := range []string{selfNow, viewDir + "/00bgd045z0", "  " + viewDir + "/zzzzzzzzzz-x "} {
				_, report := relocated(t, regular(name, text))
				Expect(report.Blockers).To(ConsistOf(And(
					HaveField("Kind", relocate.RelocatedName), HaveField("Harmless", ""))), text)
			}
		}
		_, report := relocated(t, regular("x", viewDir+" "+viewDir+"/ "+viewDir+"/bash "+viewDir+"x/00bgd045z0"))
		Expect(report.Blockers).To(BeEmpty())
		_, report = relocated(t, symlink("x", selfNow))
		Expect(report.Blockers).To(HaveLen(1))
	})

	it("refuses paths that it cannot tell apart", func() {
		twin := storepath.Path("/nix/store/00bgd045z0xxxxxxxxxxxxxxxxxxxxxx-other")
		report := view(t).Rewrite(self, []storepath.Path{twin}, discard{}).Report()
		Expect(report.Relocatable()).To(BeFalse())
		Expect(report.Blockers).To(ConsistOf(HaveField("Kind", relocate.Ambiguous)))
	})

	it("turns a relative symlink to another store path into an absolute one, and back", func() {
		files := archive(
			regular("bin/app", script),
			symlink("bin/far", "../../"+dep.Base()+"/bin/./x"),
			symlink("bin/farther", "../../../../nix/store/"+dep.Base()),
			symlink("bin/near", "../lib"),
			symlink("lib", "../"+self.Base()+"/bin"),
		)
		out, report := relocated(t, files[2:]...)
		Expect(report.Blockers).To(BeEmpty())
		Expect(contentsOf(out, "bin/far")).To(Equal(depNow + "/bin/x"))
		Expect(contentsOf(out, "bin/farther")).To(Equal(depNow))
		Expect(contentsOf(out, "bin/near")).To(Equal("../lib"))
		Expect(contentsOf(out, "lib")).To(Equal(selfNow + "/bin"))
		var back bytes.Buffer
		send(t, view(t).Undo([]storepath.Path{self, dep}, report.Fixups, nar.NewWriter(&back)), out, whole)
		Expect(back.Bytes()).To(Equal(archived(t, files)))
	})

	it("turns a relative symlink that leads out of the store into an absolute one, and back, as a layer lies deeper", func() {
		files := archive(
			symlink("etc/certs", "../../../../etc/ssl/certs"),
			symlink("etc/hosts", "../../../../../../../etc/hosts"),
			symlink("etc/root", "../../../.."),
			symlink("etc/run", "../../../run/x"), // in a tree that is some root, as this is read from there
			symlink("etc/store", "../.."),
			symlink("etc/view", "../../../.."+viewDir+"/1b9p07z77p-x"),
		)
		for _, v := range []relocate.View{view(t), {}} {
			out := &events{}
			rewriter := v.Rewrite(self, []storepath.Path{dep}, out)
			send(t, rewriter, files, whole)
			Expect(contentsOf(out.files, "etc/certs")).To(Equal("/etc/ssl/certs"), v.Dir())
			Expect(contentsOf(out.files, "etc/hosts")).To(Equal("/etc/hosts"), v.Dir())
			Expect(contentsOf(out.files, "etc/root")).To(Equal("/"), v.Dir())
			Expect(contentsOf(out.files, "etc/run")).To(Equal("../../../run/x"), v.Dir())
			Expect(contentsOf(out.files, "etc/store")).To(Equal("../.."), v.Dir())
			if !undoable(rewriter.Report()) {
				continue
			}
			var back bytes.Buffer
			send(t, v.Undo([]storepath.Path{self, dep}, rewriter.Report().Fixups, nar.NewWriter(&back)), out.files, whole)
			Expect(back.Bytes()).To(Equal(archived(t, files)), v.Dir())
		}
		_, report := relocated(t, symlink("x", "../../../run/"+dep.Base()))
		Expect(report.Blockers).To(ConsistOf(HaveField("Kind", relocate.BareHash)))
	})

	it("does so for what is not relocated too, and changes nothing else of it", func() {
		files := archive(
			symlink("bin/absolute", string(dep)+"/bin"),
			regular("bin/app", script),
			symlink("bin/far", "../../"+dep.Base()+"/bin/x"),
			symlink("bin/near", "../lib"),
		)
		out := &events{}
		rewriter := relocate.View{}.Rewrite(self, []storepath.Path{dep}, out)
		send(t, rewriter, files, whole)
		Expect(contentsOf(out.files, "bin/app")).To(Equal(script))
		Expect(contentsOf(out.files, "bin/absolute")).To(Equal(string(dep) + "/bin"))
		Expect(contentsOf(out.files, "bin/far")).To(Equal(string(dep) + "/bin/x"))
		Expect(contentsOf(out.files, "bin/near")).To(Equal("../lib"))
		var back bytes.Buffer
		undo := relocate.View{}.Undo([]storepath.Path{self, dep}, rewriter.Report().Fixups, nar.NewWriter(&back))
		send(t, undo, out.files, whole)
		Expect(back.Bytes()).To(Equal(archived(t, files)))
	})

	it("reports a relative symlink that leads elsewhere", func() {
		for _, target := range []string{"../x/" + dep.Base(), dep.Base(), "../../" + dep.HashPart() + "-renamed"} {
			_, report := relocated(t, symlink("bin/x", target))
			Expect(report.Blockers).To(ConsistOf(HaveField("Kind", relocate.BareHash)), target)
		}
	})

	it("reports a hash in a file's name", func() {
		_, report := relocated(t, regular("roots/"+dep.Base(), "x"))
		Expect(report.Blockers).To(ConsistOf(HaveField("Detail", ContainSubstring("the file's name has the hash"))))
	})

	it("lets a symlink have the name of the store path that it leads to", func() {
		name := "conf.d/" + dep.Base()
		out, report := relocated(t, symlink(name, string(dep)))
		Expect(report.Blockers).To(BeEmpty())
		Expect(contentsOf(out, name)).To(Equal(view(t).Rename(dep)))
		_, report = relocated(t, symlink("conf.d/"+dep.Base(), string(dep)+"/etc"), symlink("conf.d/"+self.Base(), string(dep)))
		Expect(report.Blockers).To(HaveLen(2))
	})

	context("on disk", func() {
		var dir string
		var signed relocate.Original

		it.Before(func() {
			dir = filepath.Join(t.TempDir(), "tree")
			files := archive(
				file{nar.Entry{Path: "bin/app", Kind: nar.Regular, Executable: true, Size: int64(len(script))}, []byte(script)},
				regular("etc/app.conf", noise(200<<10)+script),
				symlink("lib", string(dep)+"/lib"),
				symlink("libexec", "../"+dep.Base()),
			)
			signed = relocate.Original{Path: self, References: refs, NarHash: sha256.Sum256(archived(t, files))}
			rewriter := view(t).Rewrite(self, refs, nar.NewTree(dir))
			Expect(nar.Copy(rewriter, nar.NewReader(bytes.NewReader(archived(t, files))), nil)).To(Succeed())
			signed.Fixups = rewriter.Report().Fixups
		})

		it.After(func() { Expect(nar.RemoveAll(dir)).To(Succeed()) })

		it("verifies a tree against the signed hash", func() {
			Expect(os.ReadFile(filepath.Join(dir, "bin/app"))).To(BeEquivalentTo("exec " + selfNow + "/bin/app\n"))
			temp := t.TempDir()
			Expect(view(t).VerifyTree(ctx, dir, temp, signed)).To(Succeed())
			Expect(os.ReadDir(temp)).To(BeEmpty())
		})

		it("says what changed when it is not what was signed", func() {
			Expect(os.Chmod(filepath.Join(dir, "etc/app.conf"), 0o744)).To(Succeed())
			err := view(t).VerifyTree(ctx, dir, t.TempDir(), signed)
			var changed *relocate.ChangedError
			Expect(errors.As(err, &changed)).To(BeTrue())
			Expect(changed.Want).To(Equal(signed.NarHash))
			Expect(err).To(MatchError(ContainSubstring(string(self))))
		})

		it("says which fixed symlink leads elsewhere now", func() {
			Expect(os.Chmod(dir, 0o755)).To(Succeed())
			for _, target := range []string{"/etc", "../" + dep.Base(), depNow + "/x", string(dep)} {
				Expect(os.Remove(filepath.Join(dir, "libexec"))).To(Succeed())
				Expect(os.Symlink(target, filepath.Join(dir, "libexec"))).To(Succeed())
				Expect(view(t).VerifyTree(ctx, dir, t.TempDir(), signed)).To(MatchError(ContainSubstring("is not as it was fixed up")))
			}
		})

		undoTree := func(dir, dest string) error {
			return nar.DumpTo(ctx, view(t).Undo(append([]storepath.Path{self}, refs...), signed.Fixups, nar.NewTree(dest)), dir)
		}

		it("writes the tree back as it was", func() {
			dest := filepath.Join(filepath.Dir(dir), "before")
			Expect(undoTree(dir, dest)).To(Succeed())
			Expect(os.Readlink(filepath.Join(dest, "libexec"))).To(Equal("../" + dep.Base()))
			signed.Fixups = nil
			Expect(relocate.View{}.VerifyTree(ctx, dest, t.TempDir(), signed)).To(Succeed())
			Expect(nar.RemoveAll(dest)).To(Succeed())
		})

		it("relocates a tree on disk, as the toolchain's tarball is", func() {
			plain := filepath.Join(filepath.Dir(dir), "plain")
			again := filepath.Join(filepath.Dir(dir), "again")
			Expect(undoTree(dir, plain)).To(Succeed())
			Expect(nar.DumpTo(ctx, view(t).Rewrite(self, refs, nar.NewTree(again)), plain)).To(Succeed())
			Expect(view(t).VerifyTree(ctx, again, t.TempDir(), signed)).To(Succeed())
			Expect(nar.RemoveAll(plain)).To(Succeed())
			Expect(nar.RemoveAll(again)).To(Succeed())
		})
	})
}

// FuzzUndo looks for contents that do not come back as they were though nothing was reported.
func FuzzUndo(f *testing.F) {
	r := rand.New(rand.NewPCG(13, 14))
	for range 20 {
		f.Add([]byte(adversarial(r, 200)), uint8(3))
	}
	for _, a := range artefacts(script) {
		f.Add([]byte(a.contents), uint8(200))
	}
	f.Fuzz(func(t *testing.T, contents []byte, cut uint8) {
		target := "x" + strings.ReplaceAll(string(contents[:min(len(contents), 300)]), "\x00", "")
		files := archive(regular("f", string(contents)), symlink("l", target))
		out := &events{}
		rewriter := view(t).Rewrite(self, []storepath.Path{dep}, out)
		send(t, rewriter, files, func() int { return 1 + int(cut) })
		neverTripped(t, relocate.WithPending(rewriter.Report()))
		if !undoable(relocate.WithPending(rewriter.Report())) {
			return
		}
		var b bytes.Buffer
		undo := view(t).Undo([]storepath.Path{self, dep}, rewriter.Report().Fixups, nar.NewWriter(&b))
		send(t, undo, out.files, whole)
		if !bytes.Equal(b.Bytes(), archived(t, files)) {
			t.Fatalf("contents %q do not come back", contents)
		}
		again, report := relocated(t, files[1:]...)
		if contentsOf(again, "f") != contentsOf(out.files, "f") || report.References != rewriter.Report().References {
			t.Fatalf("contents %q depend on how they are cut", contents)
		}
	})
}
