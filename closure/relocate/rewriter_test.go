package relocate_test

import (
	"crypto/sha256"
	"math/rand/v2"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func testRewriter(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("rewrites references in contents and symlink targets, and nothing else", func() {
		text := "#!" + string(self) + "/bin/sh\n" + string(dep) + ":" + string(dep) + "/lib\x00" +
			"/nix/store /nix/store/ " + string(other) + "\n"
		out, report := relocated(t, regular("bin/run", text), symlink("lib", string(dep)+"/lib"))
		Expect(contentsOf(out, "bin/run")).To(Equal("#!" + selfNow + "/bin/sh\n" + depNow + ":" + depNow + "/lib\x00" +
			"/nix/store /nix/store/ " + string(other) + "\n"))
		Expect(contentsOf(out, "lib")).To(Equal(depNow + "/lib"))
		Expect(report.References).To(Equal(4))
		Expect(report.Foreign).To(Equal([]string{other.HashPart()}))
		Expect(report.Blockers).To(BeEmpty())
		Expect(report.Relocatable()).To(BeTrue())
	})

	it("promises nothing of a file that names more paths besides than it can remember", func() {
		var index strings.Builder
		for i := range 1100 {
			sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
			index.WriteString("/nix/store/" + storepath.Encode32(sum[:20]) + "-x\n")
		}
		_, report := relocated(t, regular("share/index", index.String()))
		Expect(report.Foreign).To(HaveLen(1024))
		Expect(report.Relocatable()).To(BeFalse())
		Expect(report.Blockers).To(ConsistOf(HaveField("Detail", ContainSubstring("more than 1024 store paths"))))
	})

	it("rewrites a reference wherever it stands in a large file", func() {
		r := rand.New(rand.NewPCG(1, 2))
		for range 40 {
			b := []byte(strings.Repeat("Lorem ipsum 0123456789\n", 20000))
			at := r.IntN(len(b) - len(self))
			if r.IntN(2) == 0 {
				at = (1+r.IntN(3))*(128<<10) - 100 + r.IntN(200)
			}
			copy(b[at:], self)
			out, report := relocated(t, regular("f", string(b)))
			copy(b[at:], selfNow)
			Expect(contentsOf(out, "f") == string(b)).To(BeTrue(), "at %d", at)
			Expect(report.References).To(Equal(1))
		}
	})

	it("does not depend on how contents are cut", func() {
		r := rand.New(rand.NewPCG(3, 4))
		for range 60 {
			contents := adversarial(r, 1+r.IntN(1<<(6+r.IntN(14))))
			files := archive(regular("f", contents))
			want, wantReport := relocated(t, files[1:]...)
			out := &events{}
			rewriter := view(t).Rewrite(self, []storepath.Path{dep}, out)
			send(t, rewriter, files, pieces(r))
			Expect(contentsOf(out.files, "f") == contentsOf(want, "f")).To(BeTrue())
			Expect(rewriter.Report()).To(Equal(wantReport))
		}
	})

	it("reports a hash that nothing announces", func() {
		_, report := relocated(t, regular("f", "%2Fnix%2Fstore%2F"+self.HashPart()+"-app"))
		Expect(report.Blockers).To(Equal([]relocate.Blocker{
			{File: "f", Kind: relocate.BareHash, Detail: "the hash of " + string(self)},
		}))
		Expect(report.Relocatable()).To(BeFalse())
	})
}

// adversarial is text made of references, broken references and what looks like them.
func adversarial(r *rand.Rand, size int) string {
	words := []string{
		string(self), string(dep), string(other), self.HashPart(), dep.HashPart(), "/nix/store/", "/nix/store",
		selfNow, depNow, viewDir, viewDir + "/", wide(self.HashPart(), 2), wide(dep.HashPart(), 4),
		"0123456789abcdf", "\x00", "\n", " ", "a", "-", "/", strings.Repeat("0", 100), strings.Repeat("\x00", 100),
		wide(strings.Repeat("0", 50), 2), "nix/store/", "Lorem ipsum dolor sit amet, ",
	}
	var b strings.Builder
	for b.Len() < size {
		word := words[r.IntN(len(words))]
		if r.IntN(4) == 0 {
			word = word[r.IntN(len(word)):]
		}
		if r.IntN(4) == 0 {
			word = word[:r.IntN(len(word)+1)]
		}
		b.WriteString(word)
	}
	return b.String()
}

// wide is text in little-endian characters of width bytes.
func wide(text string, width int) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		b.WriteByte(c)
		b.WriteString(strings.Repeat("\x00", width-1))
	}
	return b.String()
}
