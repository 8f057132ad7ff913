package relocate_test

import (
	"archive/zip"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
)

func testPrograms(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	executable := func(path, contents string) file {
		return file{nar.Entry{Path: path, Kind: nar.Regular, Executable: true, Size: int64(len(contents))}, []byte(contents)}
	}

	it("rewrites a plain program", func() {
		out, report := relocated(t, executable("bin/x", elf(script)))
		Expect(report.Blockers).To(BeEmpty())
		Expect(contentsOf(out, "bin/x")).To(Equal(elf("exec " + selfNow + "/bin/app\n")))
	})

	it("leaves the start-up snapshot within a program alone, and rewrites before and after it", func() {
		// The places of the snapshot's header and of its last part relative to what is searched at once vary.
		for _, shift := range []int{0, 8, 64, 1, 3, 22, 128<<10 - 296, 128<<10 - 264, 128<<10 - 200, 128<<10 - 128,
			128<<10 - 301, 128<<10 - 207, 128<<10 - 131} {
			before := elf(strings.Repeat("\x00", 600<<10+shift) + script + strings.Repeat("\x00", -len(script)&7))
			after := strings.Repeat("\x00", 300) + script
			for _, size := range []int{40, 300 << 10} {
				inside := strings.Repeat("\x00", size) + script
				out, report := relocated(t, executable("bin/node", before+snapshot(inside)+after))
				Expect(report.Blockers).To(ConsistOf(And(
					HaveField("Kind", relocate.Checksummed), HaveField("Detail", ContainSubstring("V8 11.3.244.8-node.38")),
				)), "%d %d", shift, size)
				now := strings.NewReplacer(string(self), selfNow)
				Expect(contentsOf(out, "bin/node") == now.Replace(before)+snapshot(inside)+now.Replace(after)).To(BeTrue())
				_, report = relocated(t, executable("bin/node", before+snapshot("no reference")+after))
				Expect(report.Blockers).To(BeEmpty())
				Expect(report.References).To(Equal(2))
			}
		}
	})

	it("reports a program that checks itself, when it was rewritten", func() {
		note := "\x04\x00\x00\x00\x20\x00\x00\x00\x8e\x2a\xfe\xcaFDO\x00" + strings.Repeat("\x5a", 32)
		boring := strings.Repeat("\x00", 700<<10) + "FIPS integrity test\x00"
		for name, contents := range map[string]string{
			"lib/libgcrypt.so.20":      elf(note + strings.Repeat("\x00", 8000)),
			"bin/envoy":                elf(boring),
			"lib/ossl-modules/fips.so": elf(""),
		} {
			_, report := relocated(t, executable(name, contents+script))
			Expect(report.Blockers).To(ConsistOf(And(
				HaveField("File", name), HaveField("Kind", relocate.Checksummed),
				HaveField("Detail", ContainSubstring("rewritten")),
			)), name)
			_, report = relocated(t, executable(name, contents))
			Expect(report.Blockers).To(BeEmpty(), name)
		}
	})

	it("reports the checksum of a rewritten library, wherever it stands", func() {
		for name, harmless := range map[string]bool{
			"lib/.libgcrypt.so.20.hmac": false, "lib/fipscheck/libgcrypt.so.20.5.hmac": false, "lib/libgcrypt.so.20.chk": true,
		} {
			files := []file{executable("lib/libgcrypt.so.20.5", elf(script)), regular(name, "0123456789abcdef\n")}
			if name < files[0].Path {
				files[0], files[1] = files[1], files[0]
			}
			_, report := relocated(t, files...)
			Expect(report.Blockers).To(ConsistOf(And(
				HaveField("File", name), HaveField("Detail", ContainSubstring("the checksum of libgcrypt.so.20.5")),
			)), name)
			Expect(report.Relocatable()).To(Equal(harmless), name)
		}
		_, report := relocated(t,
			regular("lib/.libgcrypt.so.20.hmac", "0123456789abcdef\n"), executable("lib/libgcrypt.so.20.5", elf("")),
			executable("lib/libother.so.1", elf(script)),
		)
		Expect(report.Blockers).To(BeEmpty())
	})

	it("does not let documentation, manuals and debugging data block", func() {
		for _, name := range []string{
			"share/man/man1/x.1.gz", "man/man1/x.1.gz", "share/info/x.info.gz", "share/doc/x/changelog.gz",
			"share/gtk-doc/html/x.gz", "share/devhelp/x.gz", "lib/debug/.build-id/00/x.gz",
			"lib/debug/usr/bin/x.debug", "share/java/x-sources.jar",
		} {
			out, report := relocated(t, regular(name, gzipped(script)))
			Expect(report.Relocatable()).To(BeTrue(), name)
			Expect(contentsOf(out, name) == gzipped(script)).To(BeTrue(), name)
			_, report = relocated(t, regular(name, self.HashPart()))
			Expect(report.Relocatable()).To(BeTrue(), name)
			Expect(report.Blockers).To(ConsistOf(HaveField("Harmless", Not(BeEmpty()))), name)
		}
		for _, name := range []string{
			"share/x.gz", "share/manual/x.gz", "lib/x.gz", "lib/debugger/x.gz", "bin/x.gz", "share/man.gz", "x.gz",
			"nix-support/x.gz", "lib/share/man/x.gz", "share/doc", "man", "doc/x.gz", "info/x.gz", "src.zip", "lib/src.zip",
		} {
			_, report := relocated(t, regular(name, gzipped(script)))
			Expect(report.Relocatable()).To(BeFalse(), name)
		}
	})

	it("lets PHP's cache of compiled scripts not block, whose directories are named by store paths", func() {
		const system = "8367003f5367ff4ea504bc10acf50046"
		for dir, harmless := range map[string]bool{"cache/" + system: true, system: true, "cache": false, "cache/" + system[1:]: false} {
			_, report := relocated(t, regular(dir+string(self)+"/lib/a.php.bin", "OPCACHE"+system+string(self)+"/lib/a.php"))
			Expect(report.Relocatable()).To(Equal(harmless), dir)
		}
	})

	it("takes a src.zip for sources beside the libraries of a Java run-time environment only", func() {
		for files, harmless := range map[string]bool{
			"lib/jvm.cfg lib/src.zip": true, "lib/openjdk/lib/modules lib/openjdk/lib/security/x lib/openjdk/lib/src.zip": true,
			"lib/jvm.cfg src.zip": false, "jvm.cfg src.zip": false, "a/lib/jvm.cfg b/lib/src.zip": false,
			"lib/jvm.cfg/x lib/src.zip": false, "lib/modules.x lib/src.zip": false, "mylib/modules mylib/src.zip": false,
		} {
			var all []file
			for _, name := range strings.Fields(files) {
				all = append(all, regular(name, "x"))
			}
			all[len(all)-1] = regular(all[len(all)-1].Path, zipped(zip.Deflate, "app/__main__.py", script))
			_, report := relocated(t, all...)
			Expect(report.Relocatable()).To(Equal(harmless), files)
		}
	})

	it("does not let debugging chunks of an Erlang module block", func() {
		term := "\x83P" + size32(script) + zlibbed(script)
		_, report := relocated(t, regular("x.beam", beam("Dbgi", term, "Abst", term, "Docs", term, "ExCk", term)))
		Expect(report.Relocatable()).To(BeTrue())
		for _, last := range []string{"Dbgi", "Abst", "Docs", "ExCk"} {
			_, report = relocated(t, regular("x.beam", beam(last, term, "Attr", term)))
			Expect(report.Relocatable()).To(BeFalse(), "the chunk behind %s", last)
		}
	})

	it("keeps the first blockers of a path and counts the rest", func() {
		_, report := relocated(t,
			regular("a", strings.Repeat(" "+self.HashPart(), 100)),
			regular("share/doc/a", strings.Repeat(" "+self.HashPart(), 100)),
		)
		Expect(report.Blocking).To(Equal(100))
		Expect(report.Harmless).To(Equal(100))
		Expect(report.Blockers).To(HaveLen(64))
		Expect(report.Blockers[0]).To(Equal(relocate.Blocker{File: "a", Kind: relocate.BareHash, Detail: "the hash of " + string(self)}))
	})
}
