package relocate_test

import (
	"crypto/md5"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/andybalholm/brotli"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
)

func testSums(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })
	now := strings.ReplaceAll(script, string(self), selfNow)
	md5sum := func(s string) string { sum := md5.Sum([]byte(s)); return hex.EncodeToString(sum[:]) }
	sha1sum := func(s string) string { sum := sha1.Sum([]byte(s)); return hex.EncodeToString(sum[:]) }
	// become relocates some files and compares them with what they should be.
	become := func(files func(text, root string) []file) {
		dir, report := made(t, files(script, string(self))...)
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		for _, want := range files(now, selfNow) {
			Expect(readBack(t, dir, want.Path)).To(Equal(string(want.contents)), want.Path)
		}
	}

	it("finds files by their names in the store and from the store path, in lists of any name that begin as one", func() {
		become(func(text, root string) []file {
			return []file{
				regular("SHA256SUMS", sha256sum(text)+"  "+root+"/bin/x\n"), regular("bin/x", text),
				regular("lib/app_1.0_checksums.txt", "# of releases\n"+sha256sum(text)+"  bin/x\n"),
				regular("lib/bin.manifest", md5sum(text)+" *bin/x\n"),
				regular("lib/contents", sha1sum(text)+"  ../bin/x\n"+sha1sum("other")+"  ../bin/x\n"),
			}
		})
	})

	it("makes the hashes of lists anew in lists, whichever comes first, too long a row of them excepted", func() {
		become(func(text, _ string) []file {
			sums := sha256sum(text) + "  c\n"
			other := md5sum(sums) + "  SHA256SUMS\n"
			return []file{
				regular("MD5SUMS", other), regular("SHA256SUMS", sums), regular("c", text), regular("top.md5", md5sum(other)+"  MD5SUMS\n"),
			}
		})
		text := sha256sum(script) + "  x\n"
		files := []file{regular("l99", text), regular("x", script)}
		for i := range 20 {
			text = sha256sum(text) + fmt.Sprintf("  l%d\n", 99-i)
			files = append([]file{regular(fmt.Sprintf("l%d", 98-i), text)}, files...)
		}
		_, report := made(t, files...)
		Expect(report.Blockers).To(ContainElement(And(HaveField("Kind", relocate.Checksummed),
			HaveField("Detail", ContainSubstring("the hash of a list of checksums")))))
	})

	it("finds the files of a service worker's list below the app's address, and makes compressed lists anew", func() {
		list := func(text, from string) string {
			return `{"index": "/de/at/index.html", "hashTable": {"/de/at/main.js": "` + sha1sum(text) + `"}, "from": "` + from + `"}`
		}
		files := func(text, root string) []file {
			return []file{
				regular("browser/de/main.js", text), regular("browser/de/ngsw.json", list(text, "here")),
				regular("browser/de/ngsw.json.br", brotlied(list(text, root))), regular("browser/de/ngsw.json.gz", gzipped(list(text, "here"))),
				regular("z/SHA256SUMS.gz", gzipped(sha256sum(text)+"  browser/de/main.js\n")),
			}
		}
		dir, report := made(t, files(script, string(self))...)
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "browser/de/ngsw.json")).To(Equal(list(now, "here")))
		packed := readBack(t, dir, "browser/de/ngsw.json.br")
		Expect(unpacked(brotli.NewReader(strings.NewReader(packed)), nil)).To(Equal(list(now, selfNow)))
		Expect(gunzipped(readBack(t, dir, "browser/de/ngsw.json.gz"))).To(Equal(list(now, "here")))
		Expect(gunzipped(readBack(t, dir, "z/SHA256SUMS.gz"))).To(Equal(sha256sum(now) + "  browser/de/main.js\n"))
	})

	it("leaves a wrapper as it is whose checksum a list has, and no other", func() {
		wrapper := "#!" + string(dep) + "/bin/bash -e\nnode " + string(self) + "/a.js\n"
		list := sha256sum(wrapper) + "  bin/a\n" + sha256sum("another") + "  bin/b\n"
		_, report := made(t, regular("SHA256SUMS", list), regular("bin/a", wrapper), regular("bin/b", wrapper+"\n"))
		Expect(report.Wrappers).To(Equal([]string{"bin/b"}))
	})

	it("makes the checksums anew that Hadoop has of a file's parts, and no others", func() {
		crc := func(text string, size int, table *crc32.Table) string {
			b := binary.BigEndian.AppendUint32([]byte("crc\x00"), uint32(size))
			for len(text) > 0 {
				n := min(len(text), size)
				b, text = binary.BigEndian.AppendUint32(b, crc32.Checksum([]byte(text[:n]), table)), text[n:]
			}
			return string(b)
		}
		castagnoli := crc32.MakeTable(crc32.Castagnoli)
		become(func(text, _ string) []file {
			long := noise(700) + text + noise(1300)
			return []file{
				regular("model/.a.crc", crc("another", 512, crc32.IEEETable)), regular("model/.part-00000.crc", crc(long, 512, crc32.IEEETable)),
				regular("model/.part-00001.crc", crc(text, 8, castagnoli)),
				regular("model/.sums.md5.crc", crc(md5sum(text)+"  a\n", 16, crc32.IEEETable)), regular("model/.z.crc", "crc\x00\x00\x00\x00\x00"),
				regular("model/a", text), regular("model/part-00000", long), regular("model/part-00001", text),
				regular("model/sums.md5", md5sum(text)+"  a\n"), regular("model/z", text),
			}
		})
		packed := gzipped(noise(90) + script)
		dir, report := made(t, regular(".a.gz.crc", crc(packed, 4, crc32.IEEETable)), regular("a.gz", packed))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, ".a.gz.crc")).To(Equal(crc(readBack(t, dir, "a.gz"), 4, crc32.IEEETable)))
	})
}
