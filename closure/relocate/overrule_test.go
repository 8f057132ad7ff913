package relocate_test

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func testOverrule(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("matches files below any store path, or below those of a name", func() {
		o, err := relocate.ParseOverrules("share/foo/**  *-app-*/bin/*\n")
		Expect(err).NotTo(HaveOccurred())
		for file, glob := range map[string]string{
			"share/foo/a": "share/foo/**", "share/foo/a/b": "share/foo/**", "bin/x": "*-app-*/bin/*",
			"bin/x/y": "", "share/foobar": "", "x/share/foo/a": "",
		} {
			Expect(o.Match(self, file)).To(Equal(glob), file)
		}
		Expect(o.Match(dep, "bin/x")).To(Equal(""))
		for _, never := range []string{"/nix/store/x", "a[", "share/foo/", "./share/foo", "share//foo", "../x", "x/..", "'share/**'", `"a"`} {
			_, err = relocate.ParseOverrules("a " + never)
			Expect(err).To(MatchError(ContainSubstring(fmt.Sprintf("%q is no glob", never))))
		}
	})

	it("makes a glob of a file that matches it, whatever its name", func() {
		for _, file := range []string{"bin/node", "a b/[c]", "x*{y}\\z'", "a:b\n\xff", ""} {
			o, err := relocate.ParseOverrules(relocate.OverruleOf(self, file))
			Expect(err).NotTo(HaveOccurred(), file)
			Expect(o.Match(self, file)).NotTo(Equal(""), file)
		}
	})

	it("takes what it names as harmless, says on whose word, and leaves all else in the way", func() {
		for globs, relocatable := range map[string]bool{"share/**": true, "*-app-1.0/share/x.7z share/y": true, "share/y": false} {
			o, err := relocate.ParseOverrules(globs)
			Expect(err).NotTo(HaveOccurred())
			rewriter := view(t).Overruling(o).Rewrite(self, []storepath.Path{dep}, &events{})
			send(t, rewriter, archive(regular("share/x.7z", "7z\xbc\xaf\x27\x1c"), regular("share/y", strings.Repeat(self.HashPart()+" ", 100))), whole)
			report := rewriter.Report()
			Expect(report.Relocatable()).To(Equal(relocatable), globs)
			Expect(report.Overruled).To(ContainElement(HaveField("File", "share/y")), globs)
			Expect(report.Blockers[len(report.Blockers)-1].Overrule).NotTo(Equal(""), globs)
		}
	})

	it("takes a store path that is a file as harmless by its name", func() {
		for glob, relocatable := range map[string]bool{relocate.OverruleOf(self, ""): true, "*-app-*": true, "*-app-1.0/**": true, "share/**": false} {
			o, err := relocate.ParseOverrules(glob)
			Expect(err).NotTo(HaveOccurred())
			rewriter := view(t).Overruling(o).Rewrite(self, []storepath.Path{dep}, &events{})
			send(t, rewriter, archive(regular("", "7z\xbc\xaf\x27\x1c")), whole)
			Expect(rewriter.Report().Relocatable()).To(Equal(relocatable), glob)
		}
	})

	it("does not take what would spoil the way back", func() {
		o, err := relocate.ParseOverrules("**")
		Expect(err).NotTo(HaveOccurred())
		rewriter := view(t).Overruling(o).Rewrite(self, []storepath.Path{dep}, &events{})
		send(t, rewriter, archive(file{nar.Entry{Path: "a", Kind: nar.Regular, Size: int64(len(selfNow))}, []byte(selfNow)}), whole)
		Expect(rewriter.Report().Relocatable()).To(BeFalse())
	})
}
