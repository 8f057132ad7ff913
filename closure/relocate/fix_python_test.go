package relocate_test

import (
	stdcontext "context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

const (
	module = "PREFIX = \"" + string(self) + "\"\n"
	plain  = "print()\n"
	// What _imp.source_hash says of module, and the magic numbers, in CPython 3.10 and 3.11.
	magic310, hash310 = "\x6f\x0d\x0d\x0a", "\x70\x77\xff\xae\xb4\x42\x43\xf6"
	magic311, hash311 = "\xa7\x0d\x0d\x0a", "\x95\x80\x8f\x75\x4e\x99\xf1\xfc"
)

// pyc is byte code with the given flags and proof.
func pyc(magic string, flags uint32, proof string) string {
	return magic + string(binary.LittleEndian.AppendUint32(nil, flags)) + proof + "code of " + string(self)
}

// stamp is the proof of a source by time and size.
func stamp(time, size int) string {
	b := binary.LittleEndian.AppendUint32(nil, uint32(time))
	return string(binary.LittleEndian.AppendUint32(b, uint32(size)))
}

func testFixups(t *testing.T, context spec.G, it spec.S) {
	ctx := stdcontext.Background()
	refs := []storepath.Path{dep}
	const cache = "lib/python3/__pycache__/"

	files := archive(
		regular(cache+"checked.cpython-310.opt-1.pyc", pyc(magic310, 3, hash310)),
		regular(cache+"checked.cpython-311.pyc", pyc(magic311, 3, hash311)),
		regular(cache+"checked.cpython-312.pyc", ""),
		regular(cache+"checked.cpython-313.pyc", magic311+"\x03"),
		regular(cache+"checked.in.a.package.cpython-311.pyc", pyc(magic311, 3, hash311)), // of the module checked.in.a.package, by its name
		regular(cache+"orphan.cpython-311.pyc", pyc(magic311, 0, stamp(1, 3))),
		regular(cache+"patched.cpython-311.pyc", pyc(magic311, 3, "\x00ldsourc")),
		regular(cache+"plain.cpython-311.pyc", pyc(magic311, 3, "whatever")),
		regular(cache+"python2.pyc", "\x03\xf3\x0d\x0a"+stamp(1, 1)+"code of Python 2"),
		regular(cache+"resized.cpython-311.pyc", pyc(magic311, 0, stamp(1, len(plain)+1))),
		regular(cache+"stale.cpython-311.pyc", pyc(magic311, 0, stamp(1700000000, len(plain)))),
		regular(cache+"stamped.cpython-311.pyc", pyc(magic311, 0, stamp(1, len(plain)))),
		regular(cache+"unchecked.cpython-311.pyc", pyc(magic311, 1, "whatever")),
		regular("lib/python3/checked.py", module),
		regular("lib/python3/patched.py", module),
		regular("lib/python3/plain.py", plain),
		regular("lib/python3/python2.py", plain),
		regular("lib/python3/resized.py", plain),
		regular("lib/python3/sourceless.pyc", pyc(magic311, 0, stamp(1, 0))),
		regular("lib/python3/stale.py", plain),
		regular("lib/python3/stamped.py", plain),
		regular("lib/python3/unchecked.py", plain),
	)

	var dir string
	var original relocate.Original
	it.Before(func() {
		RegisterTestingT(t)
		dir = filepath.Join(t.TempDir(), "tree")
		original = relocate.Original{Path: self, References: refs, NarHash: sha256.Sum256(archived(t, files))}
	})
	it.After(func() { Expect(nar.RemoveAll(dir)).To(Succeed()) })

	flags := func(name string) byte {
		contents, err := os.ReadFile(filepath.Join(dir, cache, name))
		Expect(err).NotTo(HaveOccurred())
		return contents[4]
	}
	it("touches nothing that a link in the place of the directory of byte code leads to", func() {
		outside := filepath.Join(t.TempDir(), "outside")
		Expect(os.Mkdir(outside, 0o755)).To(Succeed())
		code := filepath.Join(outside, "checked.cpython-311.pyc")
		Expect(os.WriteFile(code, []byte(pyc(magic311, 3, hash311)), 0o644)).To(Succeed())
		rewriter := view(t).Rewrite(self, refs, nar.NewTree(dir))
		send(t, rewriter, archive(symlink("lib/python3/__pycache__", outside), regular("lib/python3/checked.py", module)), whole)
		report, err := view(t).FixTree(ctx, dir, original, rewriter.Report())
		Expect(err).NotTo(HaveOccurred())
		Expect(report.Fixups).To(BeEmpty())
		Expect(os.ReadFile(code)).To(BeEquivalentTo(pyc(magic311, 3, hash311)))
	})

	it("marks byte code that was fresh in the store, and only that, as not to be checked", func() {
		rewriter := view(t).Rewrite(self, refs, nar.NewTree(dir))
		send(t, rewriter, files, whole)
		report, err := view(t).FixTree(ctx, dir, original, rewriter.Report())
		Expect(err).NotTo(HaveOccurred())
		Expect(report.Fixups).To(ConsistOf(
			relocate.Fixup{File: cache + "stamped.cpython-311.pyc", Offset: 4, Length: 4, Was: []byte{0, 0, 0, 0}},
			relocate.Fixup{File: cache + "checked.cpython-310.opt-1.pyc", Offset: 4, Length: 4, Was: []byte{3, 0, 0, 0}},
			relocate.Fixup{File: cache + "checked.cpython-311.pyc", Offset: 4, Length: 4, Was: []byte{3, 0, 0, 0}},
		))
		Expect(flags("stamped.cpython-311.pyc")).To(BeEquivalentTo(1))
		Expect(flags("checked.cpython-311.pyc")).To(BeEquivalentTo(1))
		Expect(flags("patched.cpython-311.pyc")).To(BeEquivalentTo(3), "the store's Python ran the source")
		Expect(flags("resized.cpython-311.pyc")).To(BeEquivalentTo(0), "the store's Python ran the source")
		Expect(flags("stale.cpython-311.pyc")).To(BeEquivalentTo(0), "the store's Python ran the source")

		info, err := os.Stat(filepath.Join(dir, cache, "stamped.cpython-311.pyc"))
		Expect(err).NotTo(HaveOccurred())
		Expect(info.Mode().Perm()).To(BeEquivalentTo(0o444))
		Expect(info.ModTime()).To(BeTemporally("==", time.Unix(1, 0)))

		fixed := original
		fixed.Fixups = report.Fixups
		Expect(view(t).VerifyTree(ctx, dir, t.TempDir(), fixed)).To(Succeed())
		Expect(view(t).VerifyTree(ctx, dir, t.TempDir(), original)).NotTo(Succeed())

		altered := filepath.Join(dir, cache, "stamped.cpython-311.pyc")
		Expect(os.Chmod(altered, 0o644)).To(Succeed())
		Expect(os.WriteFile(altered, []byte(pyc(magic311, 7, stamp(1, len(plain)))), 0o644)).To(Succeed())
		Expect(view(t).VerifyTree(ctx, dir, t.TempDir(), fixed)).To(MatchError(ContainSubstring("is not as it was fixed up")))
		claimed := relocate.Fixup{File: "lib/python3/plain.py", Offset: 0, Was: []byte(plain)}
		fixed.Fixups = append(slices.Clone(report.Fixups[1:]), claimed)
		Expect(view(t).VerifyTree(ctx, dir, t.TempDir(), fixed)).NotTo(Succeed())
	})

	it("keeps room for what has to be recorded of other files, however much byte code there is", func() {
		deep := strings.Repeat(strings.Repeat("d", 250)+"/", 8)
		page := func(script string) string {
			sum := sha256.Sum256([]byte(script))
			return strings.Repeat(`<script src="a.js" integrity="sha256-`+base64.StdEncoding.EncodeToString(sum[:])+`"></script>`, 50)
		}
		files := []file{regular("a.html", page(module)), regular("a.js", module)}
		for i := range 1100 {
			files = append(files, regular(deep+fmt.Sprintf("__pycache__/m%04d.cpython-311.pyc", i), pyc(magic311, 0, stamp(1, len(plain)))))
		}
		for i := range 1100 {
			files = append(files, regular(deep+fmt.Sprintf("m%04d.py", i), plain))
		}
		dir, report := made(t, files...)
		Expect(report.Blockers).To(BeEmpty())
		Expect(len(report.Fixups)).To(BeNumerically("<", 1100))
		Expect(readBack(t, dir, "a.html")).To(Equal(page(readBack(t, dir, "a.js"))))
	})

	it("marks byte code by time stamps where nothing is relocated", func() {
		rewriter := relocate.View{}.Rewrite(self, nil, nar.NewTree(dir))
		send(t, rewriter, files, whole)
		Expect(rewriter.Report().Blockers).To(BeEmpty())
		report, err := relocate.View{}.FixTree(ctx, dir, original, rewriter.Report())
		Expect(err).NotTo(HaveOccurred())
		Expect(report.Fixups).To(ConsistOf(HaveField("File", cache+"stamped.cpython-311.pyc")))
		fixed := original
		fixed.Fixups = report.Fixups
		Expect(relocate.View{}.VerifyTree(ctx, dir, t.TempDir(), fixed)).To(Succeed())
	})

	it("passes an archive on unchanged where nothing is relocated", func() {
		out := &events{}
		send(t, relocate.View{}.Rewrite(self, nil, out), files, func() int { return 7 })
		Expect(out.files).To(Equal(files))
	})
}
