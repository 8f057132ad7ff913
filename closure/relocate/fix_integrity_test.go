package relocate_test

import (
	"archive/zip"
	"compress/gzip"
	stdcontext "context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
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
			"app_bg.wasm": "\x00asm\x01\x00\x00\x00" + store + "/src/lib.rs",
		}
		files["app.mjs"] = `var sri = {7: "sha256-` + sha256of(files["chunk.js"]) + `", 8: "sha256-` + sha256of(files["other.js"]) + `"};`
		files["index.html"] = `<script src=app.mjs integrity="sha384-` + sha384of(files["app.mjs"]) + `"></script><link rel=stylesheet href=style.css ` +
			`integrity="sha256-` + sha256of(files["style.css"]) + ` sha512-` + sha512of(files["style.css"]) + `"><link rel=preload as=fetch href=app_bg.wasm integrity=sha384-` +
			sha384of(files["app_bg.wasm"]) + "> from " + store + "\n"
		files["manifest.json"] = `{"app.mjs": {"sha512": "` + sha512of(files["app.mjs"]) + `"}, "other.js": {"sha512":"` + sha512of(files["other.js"]) + `"}}`
		files["manifest.json.gz"] = gzipped(files["manifest.json"])
		files["page.html.br"] = brotlied(strings.ReplaceAll(files["index.html"], store, "here")) // with no page beside it
		return files
	}
	entries := func(files map[string]string) (list []file) {
		for _, name := range []string{
			"app.mjs", "app_bg.wasm", "chunk.js", "index.html", "manifest.json", "manifest.json.gz", "other.js", "page.html.br", "style.css",
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

	it("does so in what pages are made of, in each language of templates", func() {
		page := func(store string) string {
			return `{{> head}}<script src="{{base}}/app.js" integrity="sha384-` + sha384of("open('"+store+"')") + `"></script>`
		}
		for _, name := range []string{"layout.hbs", "layout.html.twig", "layout.jsp", "layout.phtml", "pages.cjs"} {
			dir, report := made([]file{regular("app.js", "open('"+string(self)+"')"), regular(name, page(string(self)))})
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			Expect(readBack(t, dir, name)).To(Equal(page(selfNow)), name)
		}
	})

	it("makes the hashes anew that the policy of a page has of the scripts and style sheets in it", func() {
		page := func(store string) string {
			script, style := "open('"+store+"/a')", "\n@import '"+store+"';\n"
			return `<meta http-equiv=Content-Security-Policy content="script-src 'sha256-` + sha256of(script) + `' 'sha256-` + sha256of("other") +
				`'; style-src 'sha384-` + sha384of(style) + `'"><Script type=module>` + script + "</script>\n<style>" + style + "</style ><script>other</script>"
		}
		dir, report := made([]file{regular("index.html", page(string(self)))})
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "index.html")).To(Equal(page(selfNow)))
		before := "<script>" + string(self) + "</script>"
		dir, report = made([]file{regular("index.html", before), regular("share/doc/index.html", page(string(self)))})
		Expect(report.Fixups).To(BeEmpty())
		Expect(readBack(t, dir, "index.html")).To(Equal(strings.ReplaceAll(before, string(self), selfNow)))
	})

	it("makes checksums anew in lists of them, where they were right, and no others", func() {
		files := func(text, packed string) []file {
			md5, sha1, sha256 := md5.Sum([]byte(text)), sha1.Sum([]byte(text)), sha256.Sum256([]byte(packed))
			digits := func(sum []byte) string { return hex.EncodeToString(sum) }
			return []file{
				regular("0.md5", "no checksum\n"), regular("a.gz", packed), regular("a.gz.sha256", digits(sha256[:])+"\n"),
				regular("plugin_v1.0_amd64", text), regular("plugin_v1.0_amd64_SHA256SUM", sha256sum(text)),
				regular("share/SHA256SUMS", digits(sha256[:])+"  ../a.gz\n"+digits(sha256[:])+" *etc/x\n"+digits(sha256[:])+"  ../../x\n"),
				regular("share/etc/x", text), regular("share/etc/y", "other"),
				regular("share/md5sums.txt", digits(md5[:])+"  etc/x\n"+digits(md5[:])+"  etc/y\n"+digits(md5[:])+"  etc/z\nSHA1 (etc/x) = "+digits(sha1[:])+"\n"),
				regular("share/ngsw.json", `{"hashTable": {"/etc/x": "`+digits(sha1[:])+`", "/etc/y": "`+digits(sha1[:])+`"}}`),
				regular("share/other.txt", digits(md5[:])+"  etc/x\n"),
			}
		}
		long := strings.Repeat(script, 20)
		dir, report := made(files(script, gzipped(long)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		packed := readBack(t, dir, "a.gz")
		Expect(gunzipped(packed)).To(Equal(strings.ReplaceAll(long, string(self), selfNow)))
		was := files(script, gzipped(long))
		for i, want := range files(strings.ReplaceAll(script, string(self), selfNow), packed) {
			lines, then := strings.SplitAfter(string(want.contents), "\n"), strings.SplitAfter(string(was[i].contents), "\n")
			switch want.Path {
			case "share/SHA256SUMS":
				lines = append(lines[:1], then[1:]...) // those of what is not the file
			case "share/md5sums.txt":
				lines = append(append(lines[:1:1], then[1:3]...), lines[3:]...)
			case "share/ngsw.json":
				sum := strings.Split(then[0], `"`)
				lines = []string{strings.Replace(then[0], sum[5], strings.Split(lines[0], `"`)[5], 1)}
			}
			Expect(readBack(t, dir, want.Path)).To(Equal(strings.Join(lines, "")), want.Path)
		}
	})

	it("reads no file for a list of checksums that a symbolic link has elsewhere", func() {
		outside := t.TempDir()
		Expect(os.WriteFile(filepath.Join(outside, "x"), []byte(selfNow), 0o600)).To(Succeed())
		list := sha256.Sum256([]byte(self))
		text := hex.EncodeToString(list[:]) + "  out/x\n"
		dir, report := made([]file{regular("SHA256SUMS", text), symlink("out", outside)})
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "SHA256SUMS")).To(Equal(text))
	})

	it("finds such pages in an inspection, by hashes of what changes because of others, too, and no others", func() {
		chunk, other := "import '"+string(self)+"'", "import 'other'"
		loader := `import "sha384-` + sha384of(chunk) + `"`
		page := func(of string) string {
			return gzipped(`<script integrity="sha384-` + sha384of(of) + `"> ` + string(dep))
		}
		files := []file{regular("a.html.gz", page(loader)), regular("b.html.gz", page(other)), regular("chunk.js", chunk),
			regular("index.html.br", brotlied(sha384of(chunk))), regular("loader.js", loader), regular("other.js", other), regular("z.html.gz", page(chunk))}
		_, report := made(files)
		seen := inspected(t, files...)
		Expect(seen.Blockers).To(ConsistOf(HaveField("File", "a.html.gz"), HaveField("File", "z.html.gz")))
		Expect(seen.Blockers).To(Equal(report.Blockers))
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

	it("follows scripts that have the hashes of those behind them only so far, as each is read meanwhile", func() {
		text := string(dep)
		var files []file
		for i := range 40 {
			files = append([]file{regular("a"+strconv.Itoa(99-i)+".js", text)}, files...)
			text = string(dep) + ` "sha256-` + sha256of(text) + `"`
		}
		_, report := made(files[len(files)-16:])
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		_, report = made(files)
		Expect(report.Blockers).To(ContainElement(And(HaveField("File", "a76.js"), HaveField("Kind", relocate.Checksummed),
			HaveField("Detail", ContainSubstring("the hash of a page that has the hash of another")))))
	})

	it("changes no hash in an archive that is called a page", func() {
		integrity := `"sha256-` + sha256of(script) + `"`
		for name, contents := range map[string]string{
			"b.php": phar("index.php", integrity), "b.js": zipped(zip.Store, "a", integrity), "b.html": "<html>" + zipped(zip.Store, "a", integrity),
		} {
			dir, report := made([]file{regular("a.js", script), regular(name, contents)})
			Expect(report.Blockers).To(ConsistOf(And(HaveField("File", name), HaveField("Kind", relocate.Checksummed))), name)
			Expect(readBack(t, dir, name)).To(Equal(contents))
		}
	})

	it("refuses no compressed page in a harmless place, and none that is too large to be looked at", func() {
		indexed := packed(`"sha256-`+sha256of(script)+`"`, func(w io.Writer) io.WriteCloser {
			z := gzip.NewWriter(w)
			z.Extra = []byte("RA\x00\x00")
			return z
		})
		for name, relocatable := range map[string]bool{"share/doc/a.html.gz": true, "share/www/a.html.gz": false} {
			files := []file{regular(name, indexed), regular("z.js", script)}
			dir, report := made(files)
			Expect(report.Relocatable()).To(Equal(relocatable), name)
			Expect(readBack(t, dir, name)).To(Equal(indexed))
		}
		large := []file{regular("a.js", script), regular("words.json.gz", gzipped(strings.Repeat("x", 65<<20)))}
		_, report := made(large)
		Expect(report.Blockers).To(BeEmpty())
		Expect(inspected(t, large...).Blockers).To(BeEmpty())
	})

	it("refuses a compressed page that has such a hash and was rewritten, and so was its page", func() {
		page := `<script src=a.js integrity="sha384-` + sha384of(script) + `"> from ` + string(dep)
		files := []file{regular("a.js", script), regular("index.html", page), regular("index.html.gz", gzipped(page))}
		dir, report := made(files)
		Expect(report.Blockers).To(ConsistOf(And(HaveField("File", "index.html.gz"), HaveField("Kind", relocate.Checksummed))))
		Expect(inspected(t, files...).Blockers).To(Equal(report.Blockers))
		Expect(readBack(t, dir, "index.html")).To(ContainSubstring(sha384of(strings.ReplaceAll(script, string(self), selfNow))))
	})
}
