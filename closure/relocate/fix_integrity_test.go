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
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"html"
	"io"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
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
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "index.html")).To(Equal(strings.ReplaceAll(before, string(self), selfNow)))
		Expect(readBack(t, dir, "share/doc/index.html")).To(Equal(page(selfNow)))
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

	it("finds what is in the way of a compressed page in an inspection as the build does, and says so once", func() {
		page := `<script integrity="sha384-` + sha384of(script) + `"> ` + string(dep)
		extra := packed(page, func(w io.Writer) io.WriteCloser {
			z := gzip.NewWriter(w)
			z.Extra = []byte("RA\x00\x00")
			return z
		})
		files := []file{regular("a.html.gz", gzipped(page)), regular("a.js", script), regular("b.html.gz", extra), regular("c.html.gz", gzipped(noise(3<<20)+page))}
		_, report := made(files)
		Expect(report.Blockers).To(ConsistOf(HaveField("File", "b.html.gz"), HaveField("File", "c.html.gz")))
		Expect(inspected(t, files...).Blockers).To(Equal(report.Blockers))
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

	it("compresses a page a second time that has such a hash and was rewritten, and so was its page", func() {
		page := func(store, text string) string {
			return `<script src=a.js integrity="sha384-` + sha384of(text) + `"> from ` + store
		}
		was, now := page(string(self), script), page(selfNow, strings.ReplaceAll(script, string(self), selfNow))
		files := []file{regular("a.js", script), regular("index.html", was), regular("index.html.gz", gzipped(was)), regular("other.html.gz", gzipped(was))}
		dir, report := made(files)
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(inspected(t, files...).Blockers).To(BeEmpty())
		Expect(readBack(t, dir, "index.html")).To(Equal(now))
		Expect(gunzipped(readBack(t, dir, "index.html.gz"))).To(Equal(now))
		Expect(gunzipped(readBack(t, dir, "other.html.gz"))).To(Equal(now))
	})

	// versions are files that differ, so that their hashes have "+" and "/" in different numbers.
	versions := func(store string) (texts []string) {
		for i := range 60 {
			texts = append(texts, "// "+strconv.Itoa(i)+" "+store+"\n")
		}
		return texts
	}

	it("finds hashes however they are spelled, and spells those that take their place in as many bytes", func() {
		fromJSON := func(page string) string {
			var text string
			Expect(json.Unmarshal([]byte(page), &text)).To(Succeed(), page)
			return text
		}
		twice := func(page string) string { return fromJSON(fromJSON(page)) }
		fromScript := func(page string) string { return fromJSON(strings.ReplaceAll(page, `\x`, `\u00`)) }
		attribute := func(page string) string { return html.UnescapeString(html.UnescapeString(page)) }
		for _, c := range []struct {
			name, plus, slash string
			read              func(page string) string
		}{
			{"go.html", "&#43;", "/", html.UnescapeString},
			{"razor.cshtml.html", "&#x2B;", "/", html.UnescapeString},
			{"lower.html", "&#x2b;", "&#x2f;", html.UnescapeString},
			{"tera.html", "+", "&#x2F;", html.UnescapeString},
			{"number.html", "&#043;", "&#47;", html.UnescapeString},
			{"named.html", "&plus;", "&sol;", html.UnescapeString},
			{"srcdoc.html", "&amp;#43;", "&amp;sol;", attribute},
			{"php.json", "+", `\/`, fromJSON},
			{"net.json", `\u002B`, "/", fromJSON},
			{"devalue.js", "+", `\u002F`, fromJSON},
			{"go.js", `\u002b`, `\/`, fromJSON},
			{"hex.js", `\x2B`, `\x2f`, fromScript},
			{"twice.json", `\\u002B`, `\\/`, twice},
		} {
			page := func(spelled func(hash string) string, store string) string {
				var parts []string
				for _, text := range versions(store) {
					parts = append(parts, "sha256-"+spelled(sha256of(text)), "sha384-"+spelled(sha384of(text)))
				}
				switch path.Ext(c.name) {
				case ".html":
					return `<link integrity="` + strings.Join(parts, `"><link integrity="`) + `">`
				}
				text := `"[\"` + strings.Join(parts, `\", \"`) + `\"]"` // of JSON in JSON
				if strings.HasPrefix(c.name, "twice") {
					quoted, err := json.Marshal(strings.ReplaceAll(text, `\\`, `\`))
					Expect(err).NotTo(HaveOccurred())
					return string(quoted)
				}
				return text
			}
			spell := strings.NewReplacer("+", c.plus, "/", c.slash).Replace
			plain := func(hash string) string { return hash }
			files := []file{regular(c.name, page(spell, string(self)))}
			for i, text := range versions(string(self)) {
				files = append(files, regular("x"+strconv.Itoa(100+i)+".js", text))
			}
			dir, report := made(files)
			Expect(report.Relocatable()).To(BeTrue(), "%s: %v", c.name, report.Blockers)
			got := readBack(t, dir, c.name)
			Expect(got).To(HaveLen(len(files[0].contents)))
			blanks := regexp.MustCompile(`" *([],>])|" *(, )`)
			normal := func(text string) string {
				return strings.ReplaceAll(blanks.ReplaceAllString(text, `"$1$2`), `\" `, `\"`)
			}
			Expect(normal(c.read(got))).To(Equal(normal(c.read(page(plain, selfNow)))), c.name)
		}
	})

	it("refuses a page with a hash that is spelled so that there is no room for another", func() {
		hash := func(store string, plain bool) string { // the first that is fit
			for i := range 1000 {
				text := store + strconv.Itoa(i)
				was, now := sha256of(strings.ReplaceAll(text, selfNow, string(self))), sha256of(text)
				if strings.Contains(was, "/") && !strings.Contains(now, "/") == plain && strings.Count(now, "/") <= strings.Count(was, "/") {
					return text
				}
			}
			return ""
		}
		text := strings.ReplaceAll(hash(selfNow, true), selfNow, string(self))
		page := `"sha256-` + strings.ReplaceAll(sha256of(text), "/", `\/`) + `;"`
		dir, report := made([]file{regular("a.js", text), regular("b.json", page)})
		Expect(report.Blockers).To(ConsistOf(And(HaveField("File", "b.json"), HaveField("Detail", ContainSubstring("no room for another")))))
		Expect(readBack(t, dir, "b.json")).To(Equal(page))
		_, report = made([]file{regular("a.js", text), regular("b.json.gz", gzipped(page))})
		Expect(report.Blockers).To(ConsistOf(And(HaveField("File", "b.json.gz"), HaveField("Detail", ContainSubstring("no room for another")))))
		address := `"data:text/html,%22sha256-` + strings.NewReplacer("+", "%2B", "/", "%2F").Replace(sha256of(text)) + `%22"`
		dir, report = made([]file{regular("a.js", text), regular("b.html", address)})
		if report.Relocatable() { // else it would have one more plus
			Expect(readBack(t, dir, "b.html")).To(HaveLen(len(address)))
			got, err := url.PathUnescape(readBack(t, dir, "b.html"))
			Expect(err).NotTo(HaveOccurred())
			Expect(got).To(ContainSubstring(sha256of(strings.ReplaceAll(text, string(self), selfNow))))
		}
	})

	it("makes the hashes anew of whatever a list has that was rewritten, in documentation and elsewhere", func() {
		png := func(store string) string {
			chunk := "tEXtComment\x00" + store
			return "\x89PNG\r\n\x1a\n" + string(binary.BigEndian.AppendUint32(nil, uint32(len(chunk)-4))) + chunk +
				string(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(chunk))))
		}
		site := func(store string) map[string]string {
			files := map[string]string{"appsettings.json": `{"zone": "` + store + `"}`, "icon.png": png(store), "logo.svg": "<svg>" + store + "</svg>",
				"app.webmanifest": `"` + store + `"`, "icudt.dat": "\x00\x01" + store, "a.xml": "<a>" + store + "</a>", "LICENSE": store}
			list := "self.assets = ["
			for _, name := range slices.Sorted(maps.Keys(files)) {
				list += `{"hash": "sha256-` + sha256of(files[name]) + `", "url": "` + name + `"}`
			}
			files["service-worker-assets.js"] = list
			return files
		}
		for _, place := range []string{"wwwroot/", "share/doc/site/"} {
			var files []file
			was, now := site(string(self)), site(selfNow)
			for _, name := range slices.Sorted(maps.Keys(was)) {
				if place != "wwwroot/" && name == "icon.png" {
					continue // a blocker in a harmless place, so left as it is
				}
				files = append(files, regular(place+name, was[name]))
			}
			dir, report := made(files)
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			want := now["service-worker-assets.js"]
			if place != "wwwroot/" {
				want = strings.ReplaceAll(want, sha256of(now["icon.png"]), sha256of(was["icon.png"]))
			}
			Expect(readBack(t, dir, place+"service-worker-assets.js")).To(Equal(want))
		}
	})

	it("makes the hash anew that a policy has of a script, whose text changes as it has a hash of another, and of one with CRLF", func() {
		normal := func(s string) string { return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s) }
		page := func(store string) string {
			asset := "export const p='" + store + "'"
			imports := `{"integrity": {"./a.js": "sha384-` + sha384of(asset) + `"}}`
			outer := "/* sha256-" + sha256of(imports) + " */"
			lines, style := "\r\nvar p='"+store+"';\rvar q\r\n", "\r\n@import '"+store+"'\r\n"
			return "<meta http-equiv=Content-Security-Policy content=\"script-src 'sha256-" + sha256of(imports) + "' 'sha512-" + sha512of(outer) +
				"' 'sha256-" + sha256of(normal(lines)) + "' 'sha384-" + sha384of(lines) + "'; style-src 'sha256-" + sha256of(normal(style)) + "'\">" +
				`<script type="importmap">` + imports + "</script><SCRIPT>" + outer + "</SCRIPT>\r\n<script>" + lines + "</script ><style>" + style + "</style>"
		}
		list := func(store string) string { return `["sha512-` + sha512of(page(store)) + `"]` }
		asset := regular("a.js", "export const p='"+string(self)+"'")
		dir, report := made([]file{asset, regular("a.json", list(string(self))), regular("index.html", page(string(self))),
			regular("only.html.gz", gzipped(page(string(self)))), regular("z.html.br", brotlied(page(string(self))+"z"))})
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "index.html")).To(Equal(page(selfNow)))
		Expect(readBack(t, dir, "a.json")).To(Equal(list(selfNow)))
		Expect(gunzipped(readBack(t, dir, "only.html.gz"))).To(Equal(page(selfNow)))
		Expect(unpacked(brotli.NewReader(strings.NewReader(readBack(t, dir, "z.html.br"))), nil)).To(Equal(page(selfNow) + "z"))
		dir, report = made([]file{asset, regular("only.html.gz", gzipped(page(string(self))))})
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(gunzipped(readBack(t, dir, "only.html.gz"))).To(Equal(page(selfNow)))
	})

	it("makes the hashes anew of what there is compressed alone, of that itself, and of what has them, compressed or not", func() {
		site := func(store string) map[string]string {
			files := map[string]string{"a.js": "import '" + store + "/a'", "m.wasm": "\x00asm" + strings.Repeat(store, 9), "q.css": "@import '" + store + "'"}
			files["b.js"] = `import "sha256-` + sha256of(files["a.js"]) + `"`
			files["c.js"] = `import "sha384-` + sha384of(files["b.js"]) + `"`
			files["index.html"] = `<script integrity="sha384-` + sha384of(files["b.js"]) + `"></script><link integrity="sha256-` + sha256of(files["m.wasm"]) +
				` sha256-` + sha256of(files["q.css"]) + `"><script integrity="sha512-` + sha512of(files["c.js"]) + `">`
			return files
		}
		was, now := site(string(self)), site(selfNow)
		list := func(packed string) string { return `["sha256-` + sha256of(packed) + `"]` }
		files := []file{regular("a.js.gz", gzipped(was["a.js"])), regular("b.js.br", brotlied(was["b.js"])), regular("c.js", was["c.js"]),
			regular("index.html", was["index.html"]), regular("list.json", list(gzipped(was["a.js"]))),
			regular("list2.json", list(brotlied(was["b.js"]))), regular("m.wasm.zst", zstandard(was["m.wasm"])), regular("q.css.gz", gzipped(was["q.css"]))}
		dir, report := made(files)
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "index.html")).To(Equal(now["index.html"]))
		Expect(readBack(t, dir, "c.js")).To(Equal(now["c.js"]))
		Expect(gunzipped(readBack(t, dir, "a.js.gz"))).To(Equal(now["a.js"]))
		Expect(unpacked(brotli.NewReader(strings.NewReader(readBack(t, dir, "b.js.br"))), nil)).To(Equal(now["b.js"]))
		Expect(readBack(t, dir, "list.json")).To(Equal(list(readBack(t, dir, "a.js.gz"))))
		Expect(readBack(t, dir, "list2.json")).To(Equal(list(readBack(t, dir, "b.js.br"))))
		Expect(inspected(t, files...).Blockers).To(BeEmpty())
	})

	it("makes the hash anew of a file of any size, in pages of any size and in lists of checksums", func() {
		fill := noise(40 << 20)
		wasm := func(store string) string { return "\x00asm" + fill + store }
		page := func(store string) string {
			return `<script src=a.js integrity="sha512-` + sha512of(wasm(store)) + `"></script>` + strings.Repeat("page\n", 4<<20)
		}
		list := func(store string) string { return `{"sha256": "` + sha256of(page(store)) + `"}` }
		sums := func(store string) string { return strings.Fields(sha256sum(wasm(store)))[0] + "  dotnet.native.wasm\n" }
		dir, report := made([]file{regular("SHA256SUMS", sums(string(self))), regular("dotnet.native.wasm", wasm(string(self))),
			regular("index.html", page(string(self))), regular("list.json", list(string(self)))})
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "SHA256SUMS")).To(Equal(sums(selfNow)))
		Expect(readBack(t, dir, "index.html") == page(selfNow)).To(BeTrue())
		Expect(readBack(t, dir, "list.json")).To(Equal(list(selfNow)))
	})
}
