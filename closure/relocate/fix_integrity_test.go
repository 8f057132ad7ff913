package relocate_test

import (
	stdcontext "context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func testIntegrity(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	sha256of := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return base64.StdEncoding.EncodeToString(sum[:])
	}
	sha384of := func(s string) string {
		sum := sha512.Sum384([]byte(s))
		return base64.StdEncoding.EncodeToString(sum[:])
	}
	sha512of := func(s string) string {
		sum := sha512.Sum512([]byte(s))
		return base64.StdEncoding.EncodeToString(sum[:])
	}
	// site is what a builder of web pages makes: a script, one that loads it, a page that loads that, and a list of files.
	site := func(store string) map[string]string {
		files := map[string]string{
			"chunk.js": "import 'file://" + store + "/lib/a.js'\n", "style.css": "@import url(" + store + ");\n", "other.js": "nothing\n",
		}
		files["app.mjs"] = `var sri = {7: "sha256-` + sha256of(files["chunk.js"]) + `", 8: "sha256-` + sha256of(files["other.js"]) + `"};`
		files["index.html"] = `<script src=app.mjs integrity="sha384-` + sha384of(files["app.mjs"]) + `"></script><link rel=stylesheet href=style.css ` +
			`integrity="sha256-` + sha256of(files["style.css"]) + ` sha512-` + sha512of(files["style.css"]) + `"> from ` + store + "\n"
		files["manifest.json"] = `{"app.mjs": {"sha512": "` + sha512of(files["app.mjs"]) + `"}, "other.js": {"sha512":"` + sha512of(files["other.js"]) + `"}}`
		files["manifest.json.gz"] = gzipped(files["manifest.json"])
		files["page.html.br"] = brotlied(strings.ReplaceAll(files["index.html"], store, "here")) // with no page beside it
		return files
	}
	entries := func(files map[string]string) (list []file) {
		for _, name := range []string{
			"app.mjs", "chunk.js", "index.html", "manifest.json", "manifest.json.gz", "other.js", "page.html.br", "style.css",
		} {
			list = append(list, regular("share/www/"+name, files[name]))
		}
		return list
	}
	// made relocates files and takes that back.
	made := func(files []file) (string, relocate.Report) {
		ctx, all, dir := stdcontext.Background(), archive(files...), filepath.Join(t.TempDir(), "tree")
		t.Cleanup(func() { _ = nar.RemoveAll(dir) })
		o := relocate.Original{Path: self, References: []storepath.Path{dep}, NarHash: sha256.Sum256(archived(t, all))}
		rewriter := view(t).Rewrite(self, o.References, nar.NewTree(dir))
		send(t, rewriter, all, whole)
		report, err := view(t).FixTree(ctx, dir, o, rewriter.Report())
		Expect(err).NotTo(HaveOccurred())
		o.Fixups = report.Fixups
		Expect(view(t).VerifyTree(ctx, dir, t.TempDir(), o)).To(Succeed())
		return dir, report
	}

	it("makes the hashes anew that pages, scripts and lists have of what was rewritten, and what is beside them compressed", func() {
		dir, report := made(entries(site(string(self))))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		want := site(selfNow)
		for name, text := range want {
			got := readBack(t, dir, "share/www/"+name)
			switch path.Ext(name) {
			case ".gz":
				got, text = gunzipped(got), gunzipped(text)
			case ".br":
				got, text = unpacked(brotli.NewReader(strings.NewReader(got)), nil), unpacked(brotli.NewReader(strings.NewReader(text)), nil)
			}
			Expect(got).To(Equal(text), name)
		}
	})

	it("leaves hashes alone that are of nothing that was rewritten, and of programs", func() {
		const script = "#!" + string(self) + "/bin/node\n"
		files := []file{
			regular("cli.js", script), regular("index.html", `integrity="sha384-`+sha384of(script)+`"`), regular("other.json", `"sha384-`+sha384of("other")+`"`),
		}
		dir, report := made(files)
		Expect(report.Relocatable()).To(BeTrue())
		Expect(report.Fixups).To(BeEmpty())
		Expect(readBack(t, dir, "index.html")).To(Equal(string(files[1].contents)))
	})

	it("refuses a compressed page that has such a hash and was rewritten, and so was its page", func() {
		page := `<script src=a.js integrity="sha384-` + sha384of(script) + `"> from ` + string(dep)
		dir, report := made([]file{regular("a.js", script), regular("index.html", page), regular("index.html.gz", gzipped(page))})
		Expect(report.Blockers).To(ConsistOf(And(HaveField("File", "index.html.gz"), HaveField("Kind", relocate.Checksummed))))
		Expect(readBack(t, dir, "index.html")).To(ContainSubstring(sha384of(strings.ReplaceAll(script, string(self), selfNow))))
	})
}
