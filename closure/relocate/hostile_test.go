package relocate_test

import (
	"archive/zip"
	"bytes"
	stdcontext "context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// testHostile is about small files that somebody has made so that looking at them, or rewriting them, takes far longer than
// their size says.
func testHostile(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	// processorTime is what this process has had of it, all threads together.
	processorTime := func() time.Duration {
		var u unix.Rusage
		Expect(unix.Getrusage(unix.RUSAGE_SELF, &u)).To(Succeed())
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	// bounded relocates files, which has to take less than 8 seconds of a processor.
	bounded := func(files ...file) relocate.Report {
		dir := filepath.Join(t.TempDir(), "tree")
		t.Cleanup(func() { _ = nar.RemoveAll(dir) })
		l, begin := view(t), processorTime()
		rewriter := l.Rewrite(self, []storepath.Path{dep}, nar.NewTree(dir))
		send(t, rewriter, archive(files...), whole)
		o := relocate.Original{Path: self, References: []storepath.Path{dep}}
		report, err := l.FixTree(stdcontext.Background(), dir, o, rewriter.Report())
		Expect(err).NotTo(HaveOccurred())
		Expect(processorTime() - begin).To(BeNumerically("<", 8*time.Second))
		return report
	}
	number := func(n int) string { return string(binary.LittleEndian.AppendUint32(nil, uint32(n))) }
	short := func(n int) string { return string(binary.LittleEndian.AppendUint16(nil, uint16(n))) }

	it("compares each piece of a reference with each whole one once", func() {
		program := []byte(elf(strings.Repeat("\x00", 200)))[:120]
		program[4], program[5], program[18], program[19] = 2, 1, 62, 0
		binary.LittleEndian.PutUint64(program[32:], 64)
		binary.LittleEndian.PutUint16(program[56:], 1)
		program[64], program[68] = 1, 5 // all of it is code
		binary.LittleEndian.PutUint64(program[80:], 0x400000)
		binary.LittleEndian.PutUint64(program[96:], 1<<30)
		text := string(program) + strings.Repeat("\xcc", 8) + strings.Repeat(string(dep)+"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 60)
		text += strings.Repeat("\xcc", -len(text)&15+1<<16) + strings.Repeat("\xcc\xcc\xccg-glibc-2.40\x00", 8000)
		Expect(bounded(regular("bin/a", text)).References).To(Equal(60))
	})

	it("does not read on to the end of a script, or back to its start, for each store path in one long name or line", func() {
		var files []file
		for i := range 100 {
			files = append(files, regular(fmt.Sprintf("bin/a%03d", i), "#!/bin/sh\n"+strings.Repeat(dep.String(), 1200)))
		}
		for i := range 100 {
			files = append(files, regular(fmt.Sprintf("bin/b%03d", i), "#!/bin/sh\n"+strings.Repeat(dep.String()+"/bin/nod ", 1000)))
		}
		Expect(bounded(files...).Wrappers).To(BeEmpty())
	})

	it("looks for the hashes of rewritten files in a compressed page all at once", func() {
		var files []file
		for i := range 3000 {
			files = append(files, regular(fmt.Sprintf("a%04d.js", i), fmt.Sprint(dep, i)))
		}
		for i := range 3 {
			files = append(files, regular(fmt.Sprintf("z%d.html.gz", i), gzipped(strings.Repeat("\x00", 8<<20)+fmt.Sprint(i))))
		}
		Expect(bounded(files...).References).To(Equal(3000))
	})

	it("gives up on pages that have each other's hashes in a long row, and says so", func() {
		text := string(dep)
		files := []file{regular("a.js", text)}
		for i := range 40 {
			sum := sha256.Sum256([]byte(text))
			text = "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
			files = append(files[:1:1], append([]file{regular(fmt.Sprintf("p%03d.html", 40-i), text)}, files[1:]...)...)
		}
		Expect(bounded(files...).Blockers).To(ConsistOf(And(
			HaveField("Kind", relocate.Checksummed), HaveField("Detail", ContainSubstring("the hash of a page that has the hash of another")))))
	})

	it("reads a file once for all lines of a list of checksums, and none that was not rewritten", func() {
		var list strings.Builder
		for i := range 60_000 {
			fmt.Fprintf(&list, "%032x  %s\n", i, []string{"a", "b"}[i%2])
		}
		files := []file{regular("MD5SUMS", list.String()), regular("a", string(dep)+strings.Repeat("a", 1<<20)), regular("b", strings.Repeat("b", 15<<20))}
		for i := range 10_000 {
			files = append(files, symlink(fmt.Sprintf("l%04d", i), "../"+dep.Base()))
		}
		bounded(files...)
	})

	it("leaves what is called a list of checksums and is none alone", func() {
		sum := sha256sum(string(dep))
		list := zipped(0, "a", fmt.Sprintf("\n%s  a.txt\n%s\n", sum, dep))
		dir, report := fixedTree(t, regular("a.sha256", list), regular("a.txt", string(dep)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(unzipped(readBack(t, dir, "a.sha256"))["a"]).To(ContainSubstring(sum))
	})

	it("hashes a source once for all byte code that says it is of it", func() {
		var files []file
		for i := range 800 {
			magic := magic311
			if i >= 400 {
				magic = short(4000+i) + "\r\n"
			}
			files = append(files, regular(fmt.Sprintf("lib/__pycache__/m.a%04d.pyc", i), pyc(magic, 3, "01234567")))
		}
		bounded(append(files, regular("lib/m.py", "# "+string(dep)+strings.Repeat("#", 10<<20)))...)
	})

	it("lists the byte code of a directory once for all its sources, whatever lies between them", func() {
		var files []file
		for i := range 2000 {
			files = append(files, symlink(fmt.Sprintf("lib/__pycache__/%s%05d", strings.Repeat("m", 240), i), "m"))
		}
		for i := range 1000 {
			files = append(files, regular(fmt.Sprintf("lib/m%04d.py", i), string(dep)), regular(fmt.Sprintf("lib/m%04dx/a.py", i), string(dep)))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		bounded(files...)
		runtime.ReadMemStats(&after)
		Expect(after.TotalAlloc - before.TotalAlloc).To(BeNumerically("<", 256<<20))
	})

	it("pairs checksums with the files that they are of without comparing all with all", func() {
		var files []file
		long := strings.Repeat("n", 230)
		for i := range 16_000 {
			files = append(files, regular("a/"+long+fmt.Sprintf("x%05d.hmac", i), ""))
		}
		for i := range 16_000 {
			f := regular("b/"+long+fmt.Sprintf("y%05d", i), string(dep))
			f.Executable = true
			files = append(files, f)
		}
		rewriter, begin := view(t).Rewrite(self, []storepath.Path{dep}, discard{}), processorTime()
		send(t, rewriter, archive(append(files, regular("c/."+long+"y00001.hmac", ""), regular("c/"+long+"y.hmac", ""))...), whole)
		Expect(processorTime() - begin).To(BeNumerically("<", 8*time.Second))
		Expect(rewriter.Report().Blockers).To(ConsistOf(HaveField("File", "c/."+long+"y00001.hmac")))
	})

	it("goes through no header of a zip archive, signature of a tar archive or part of a core again and again", func() {
		const members = 20_000
		name := strings.Repeat("n", 65535)
		local := "PK\x03\x04\x14\x00\x00\x00\x00\x00" + strings.Repeat("\x00", 16) + "\xff\xff\xff\xff" + name + string(dep) + name[len(dep):]
		archive := local + strings.Repeat("PK\x01\x02"+strings.Repeat("\x00", 42), members) +
			"PK\x05\x06\x00\x00\x00\x00" + short(members) + short(members) + number(46*members) + number(len(local)) + "\x00\x00"
		Expect(bounded(regular("a.zip", archive)).Blocking).To(BeNumerically(">", 0))
		beyond := "PK\x05\x06" + strings.Repeat("\x00", 12) + "\xff\xff\xff\x7f\x00\x00" // a directory behind the end of the file
		_, report := fixedTree(t, regular("a", script+beyond))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)

		var ends strings.Builder // in a program, each of a directory of two members that begins at one place and has one, and a comment
		for i := range 300_000 {
			ends.WriteString("PK\x05\x06\x00\x00\x00\x00" + short(2) + short(2) + number(46+22*i) + number(0) + short(60_000))
		}
		report = bounded(regular("app", elf(script+"PK\x01\x02"+strings.Repeat("\x00", 42)+ends.String()+strings.Repeat("\x00", 200_000))))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)

		member := func(name, body string) string {
			header := make([]byte, 512)
			copy(header, name)
			copy(header[124:], fmt.Sprintf("%011o\x000", len(body)))
			copy(header[257:], "ustar")
			return string(header) + body + strings.Repeat("\x00", -len(body)&511)
		}
		signature := member(".phar/signature.bin", number(1)+number(16)+strings.Repeat("s", 16))
		report = bounded(regular("a.tar", member("a", gzipped(script))+strings.Repeat(signature, 10_000)))
		Expect(report.Blocking).To(BeNumerically(">", 0))

		word := func(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }
		const parts, page = 200, 64 << 10
		core := "LCBS\x00\x00\x00\x00" + word(3861) + word(2+5*parts) + strings.Repeat(word(8)+word(0)+word(0)+word(0)+word(0), parts)
		core += strings.Repeat("\x00", page-len(core)) + "\x28\xb5\x2f\xfd\x00\x00" + strings.Repeat("\x00", 3<<14) + "\x01\x00\x00"
		l, dir := view(t), filepath.Join(t.TempDir(), "tree")
		rewriter := l.Rewrite(self, []storepath.Path{dep}, nar.NewTree(dir))
		send(t, rewriter, []file{regular("", core+string(dep))}, whole)
		_, err := l.FixTree(stdcontext.Background(), dir, relocate.Original{Path: self, References: []storepath.Path{dep}}, rewriter.Report())
		Expect(err).NotTo(HaveOccurred())
		Expect(relocate.Inflated(l)).To(BeNumerically(">", 32<<20), "the parts of a core that all begin at one place count")

		// The first part is no zlib stream though it begins as one, so none is unpacked.
		const more = 1500
		core = "LCBS\x00\x00\x00\x00" + word(3861) + word(2+5*more) + word(8) + strings.Repeat(word(0), 4) +
			strings.Repeat(word(8)+word(0)+word(1)+word(0)+word(0), more-1)
		core += strings.Repeat("\x00", page-len(core)) + "\x78\x9c" + strings.Repeat("\xff", page-2) +
			"\x28\xb5\x2f\xfd\x00\x00" + strings.Repeat("\x00", 12<<20) + "\x01\x00\x00"
		Expect(bounded(regular("a.core", core+string(dep))).Blocking).To(BeNumerically(">", 0))
	})

	it("takes no large dictionary for each of many small streams", func() {
		var window strings.Builder
		_, _ = io.WriteString(xzOf(&window, 31), script)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		Expect(bounded(regular("a.xz", window.String())).Blocking).To(BeNumerically(">", 0))
		runtime.ReadMemStats(&after)
		Expect(after.TotalAlloc - before.TotalAlloc).To(BeNumerically("<", 1<<30))
		big := "\x00\x00\x00\x00Z\x00" // a value of no bytes
		bounded(regular("R/a.rdb", strings.Repeat(big, 1000)))
		frame := "\x28\xb5\x2f\xfd\x00\x88" + number(len(script)<<3 | 1)[:3] + script // a window of 128 MiB
		for name, stream := range map[string]string{
			"lzma": "\x5d\x00\x00\x00\x08" + decoded(scriptLZMA)[5:], "bz2": decoded(scriptBzip2), "zst": frame,
		} {
			var files []file
			for i := range 12 {
				files = append(files, regular(fmt.Sprintf("a%03d.%s", i, name), stream))
			}
			l, dir := view(t), filepath.Join(t.TempDir(), "tree")
			rewriter := l.Rewrite(self, []storepath.Path{dep}, nar.NewTree(dir))
			send(t, rewriter, archive(files...), whole)
			seen := relocate.Inflated(l)
			Expect(seen).To(BeNumerically(">", 1<<20), name)
			_, err := l.FixTree(stdcontext.Background(), dir, relocate.Original{Path: self, References: []storepath.Path{dep}}, rewriter.Report())
			Expect(err).NotTo(HaveOccurred())
			Expect(relocate.Inflated(l)-seen).To(BeNumerically(">", 1<<20), name)
		}
		stored := "\x00\x00\x00\x400" + string(dep) + strings.Repeat(" ", 64-len(dep))
		l, dir := view(t), filepath.Join(t.TempDir(), "tree")
		rewriter := l.Rewrite(self, []storepath.Path{dep}, nar.NewTree(dir))
		send(t, rewriter, archive(regular("R/a.rdb", stored+strings.Repeat("\x00\x00\x00\x002BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00", 100))), whole)
		seen := relocate.Inflated(l)
		_, err := l.FixTree(stdcontext.Background(), dir, relocate.Original{Path: self, References: []storepath.Path{dep}}, rewriter.Report())
		Expect(err).NotTo(HaveOccurred())
		Expect(relocate.Inflated(l)-seen).To(BeNumerically(">", 4<<20), "the memory of each bzip2 value counts")
	})

	it("reads a run-time image whose texts, attributes and resources go on and on", func() {
		image := func(count, locations, names int) string {
			return number(0xcafedada) + number(1<<16) + number(0) + number(count) + number(count) + number(locations) + number(names)
		}
		names := strings.Repeat(string(dep)+"-", 20_000)
		Expect(bounded(regular("lib/modules", image(0, 0, len(names))+names)).References).To(BeNumerically(">", 0))
		const count = 20_000
		attributes, offsets := strings.Repeat("\x08x", 2_000_000)+"\x00", strings.Repeat(number(0), 2*count)
		bounded(regular("lib/modules", image(count, len(attributes), len(dep)+4)+offsets+attributes+string(dep)+"\x00\x00\x00\x00"))
		endless := string(dep) + strings.Repeat("n", 4<<20) // what a location without attributes has its extension from
		bounded(regular("lib/modules", image(count, 4, len(endless))+offsets+"\x00\x00\x00\x00"+endless))
		var texts strings.Builder
		for i := range 20_000 {
			fmt.Fprintf(&texts, "%s/%d\x00", dep, i)
		}
		packed := number(0xcafefafa) + number(1<<20) + number(0) + number(1<<20) + number(0) + number(0) + strings.Repeat("\x00", 5+1<<20)
		bounded(regular("lib/modules", image(1, 8, texts.Len())+number(0)+number(0)+"\x33"+string(binary.BigEndian.AppendUint32(nil, uint32(len(packed))))+
			"\x00\x00\x00"+texts.String()+packed))
		mark := "\xfa\xfa\xfe\xca" + strings.Repeat("\x00", 25)
		bounded(regular("lib/modules", image(0, 0, 0)+strings.Repeat(mark, 1<<19)))
	})

	it("does not go through the rest of an archive of classes for each reference", func() {
		archive := "\xa2\xab\x0b\xf0" + strings.Repeat("\x00", 100) + "OpenJDK VM (21)" + strings.Repeat(string(dep), 60_000)
		bounded(regular("classes.jsa", archive+strings.Repeat("x", 48<<20)+"/lib/modules\x00"))
	})

	it("looks at no statement of a database again and again, nor at the switches of a class", func() {
		const page, cells, text, at = 64 << 10, 16_000, 30_000, 33_000
		database := make([]byte, page)
		copy(database, "SQLite format 3\x00\x00\x01\x01\x01\x00\x40\x20\x20")
		copy(database[100:], "\x0d")
		binary.BigEndian.PutUint16(database[103:], cells)
		for i := range cells {
			binary.BigEndian.PutUint16(database[108+2*i:], at)
		}
		varint := func(n int) string { return string([]byte{0x80 | byte(n>>14), 0x80 | byte(n>>7), byte(n & 0x7f)}) }
		record := "\x08\x17\x0d\x0d\x08" + varint(13+2*text) + "tableab" + strings.Repeat("as(collate x", text/12)
		copy(database[at:], varint(len(record))+"\x01"+record)
		Expect(bounded(regular("a.db", string(database)+string(dep))).Blocking).To(BeNumerically(">", 0))

		// Each of the switches has all the others in it, and is of as many strings as there are.
		const texts, width = 24_000, 16_000
		hash := uint32(0)
		for _, c := range []byte(string(dep)) {
			hash = 31*hash + uint32(c)
		}
		var class strings.Builder
		class.WriteString("\xca\xfe\xba\xbe\x00\x00\x00\x34" + string(binary.BigEndian.AppendUint16(nil, texts+1)))
		for i := range texts {
			class.WriteString("\x01\x00" + string([]byte{byte(len(dep) + 3)}) + string(dep) + string([]byte{1 + byte(i/961), 1 + byte(i/31%31), 1 + byte(i%31)}))
		}
		least := hash*29791 + 961 + 31 + 1
		for i := range uint32(4_000) {
			class.WriteString("\xaa\x11\x11\x11\x11" + string(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, least+i), least+i+width)))
		}
		report := bounded(regular("a.class", class.String()+strings.Repeat("\x22", 4*width+64)))
		Expect(report.Blockers).To(ContainElement(HaveField("Detail", ContainSubstring("it is not as its format has it"))))
	})

	it("says of a symlink that has no room for an absolute target that it stands in the way", func() {
		Expect(bounded(symlink("l", "../"+dep.Base()+strings.Repeat("/a", 2022))).Blockers).To(ConsistOf(
			And(HaveField("File", "l"), HaveField("Kind", relocate.BareHash))))
	})

	it("takes little more memory for a manifest, or an SDBM table, than that is large", func() {
		folded := "Class-Path: " + string(dep)[:30] + "\r\n " + string(dep)[30:] + "/lib\r\n"
		manifest := folded + strings.Repeat("Name: "+strings.Repeat("n", 60)+"\r\n", 24<<20/68)
		page := func(value string) string { // of pairs without bytes, and one with a value
			const pairs = 255
			b := binary.LittleEndian.AppendUint16(nil, 2*pairs)
			if value != "" {
				b = binary.LittleEndian.AppendUint16(nil, 2)
				b = binary.LittleEndian.AppendUint16(b, 1<<10)
				b = binary.LittleEndian.AppendUint16(b, uint16(1<<10-len(value)))
			} else {
				for range 2 * pairs {
					b = binary.LittleEndian.AppendUint16(b, 1<<10-2)
				}
			}
			return string(b) + strings.Repeat("\x00", 1<<10-len(b)-len(value)) + value
		}
		table := page(string(dep)) + strings.Repeat(page(""), 24<<10)
		for name, contents := range map[string]string{"META-INF/MANIFEST.MF": manifest, "a.pag": table} {
			l, dir := view(t), filepath.Join(t.TempDir(), "tree")
			rewriter := l.Rewrite(self, []storepath.Path{dep}, nar.NewTree(dir))
			send(t, rewriter, archive(regular(name, contents)), whole)
			var report relocate.Report
			most := peak(func() {
				var err error
				report, err = l.FixTree(stdcontext.Background(), dir, relocate.Original{Path: self, References: []storepath.Path{dep}}, rewriter.Report())
				Expect(err).NotTo(HaveOccurred())
			})
			Expect(report.References+len(report.Fixups)).To(BeNumerically(">", 0), name)
			Expect(report.Relocatable()).To(BeTrue(), "%s: %v", name, report.Blockers)
			Expect(most).To(BeNumerically("<", 96<<20), name)
		}
	})

	it("says of more symlinks than are recorded, and of one that leads out by its own path, that they stand in the way", func() {
		var links []file
		for i := range 600 {
			links = append(links, symlink(fmt.Sprintf("l%03d", i), "../"+dep.Base()+"/"+strings.Repeat("t", 3900)))
		}
		_, report := fixedTree(t, append(links, regular("z", script))...)
		Expect(report.Blocking).To(And(BeNumerically(">", 0), BeNumerically("<", 100)))
		Expect(len(report.Fixups) + report.Blocking).To(Equal(600))
		rewriter := relocate.View{}.Rewrite(self, []storepath.Path{dep}, discard{})
		Expect(rewriter.Entry(&nar.Entry{Kind: nar.Directory})).To(Succeed())
		var err error
		for i := 0; i < len(links) && err == nil; i++ {
			err = rewriter.Entry(&links[i].Entry)
		}
		Expect(err).To(MatchError(ContainSubstring("what has to be recorded to undo it is more than")))

		_, report = fixedTree(t, symlink("b/c", "x/../../../../../nix/store/"+dep.Base()+"/lib"))
		Expect(report.Blockers).To(ConsistOf(And(HaveField("File", "b/c"), HaveField("Kind", relocate.RelativePath), HaveField("Harmless", ""))))
	})

	it("counts what names take where they are recorded", func() {
		entry := file{Entry: nar.Entry{Kind: nar.Directory}}
		links := []file{entry}
		for range 10 {
			entry.Path = strings.TrimPrefix(entry.Path+"/"+strings.Repeat("\x01", 250), "/")
			links = append(links, entry)
		}
		for i := range 900 {
			links = append(links, symlink(fmt.Sprintf("%s/l%03d", entry.Path, i), strings.Repeat("../", 11)+dep.Base()))
		}
		rewriter := view(t).Overruling(relocate.Overrules{"**"}).Rewrite(self, []storepath.Path{dep}, discard{})
		send(t, rewriter, links, whole)
		report := rewriter.Report()
		Expect(report.Fixups).NotTo(BeEmpty())
		Expect(report.Overruled).NotTo(BeEmpty())
		for most, list := range map[int]any{3 << 20: report.Fixups, 1 << 20: report.Overruled} {
			raw, err := json.Marshal(list)
			Expect(err).NotTo(HaveOccurred())
			Expect(len(raw)).To(BeNumerically("<", most))
		}
	})

	it("rewrites a symlink behind a program that has a checksum over its first bytes", func() {
		program := "\x7fELF" + number(150) + ".bytecode\x00" + strings.Repeat("\x00", 200)
		dir, report := fixedTree(t, regular("a", program), symlink("b", string(dep)+"/lib"))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(os.Readlink(filepath.Join(dir, "b"))).To(Equal(depNow + "/lib"))
	})

	it("looks into an archive behind another", func() {
		for _, name := range []string{"a.zip", "a"} {
			dir, report := fixedTree(t, regular(name, zippedMembers("a", "nothing")+zippedMembers("b", script+strings.Repeat(" ", 100))))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			Expect(unzipped(readBack(t, dir, name))["b"]).To(ContainSubstring(selfNow))
		}
	})

	it("makes checksums anew, and takes back, where only wide text is rewritten in an archive behind something else", func() {
		text := utf16LE(script)
		dir, report := fixedTree(t, regular("a", elf(strings.Repeat("x", 10_000))+zipped(0, "a", text)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(unzipped(readBack(t, dir, "a"))["a"]).To(ContainSubstring(utf16LE(selfNow)))

		// In plain sight, in a block that is stored, and compressed behind it.
		deflated := "\x00" + short(len(text)) + short(0xffff&^len(text)) + text + gzipped(script)[10:]
		deflated = deflated[:len(deflated)-8]
		var archived bytes.Buffer
		w := zip.NewWriter(&archived)
		plain := text + script
		member, err := w.CreateRaw(&zip.FileHeader{Name: "a", Method: zip.Deflate, CRC32: crc32.ChecksumIEEE([]byte(plain)),
			CompressedSize64: uint64(len(deflated)), UncompressedSize64: uint64(len(plain))})
		Expect(err).NotTo(HaveOccurred())
		_, err = io.WriteString(member, deflated)
		Expect(err).NotTo(HaveOccurred())
		Expect(w.Close()).To(Succeed())
		for _, before := range []string{elf(strings.Repeat("x", 10_000)), elf(utf16LE(script) + strings.Repeat("x", 10_000))} {
			dir, report = fixedTree(t, regular("a", before+archived.String()))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			Expect(unzipped(readBack(t, dir, "a"))["a"]).To(And(ContainSubstring(utf16LE(selfNow)), ContainSubstring(selfNow)))
			Expect(readBack(t, dir, "a")).NotTo(ContainSubstring(utf16LE(string(self))))
		}

		stub := "<?php // " + utf16LE(string(self)) + "\n__HALT_COMPILER(); ?>\r\n"
		dir, report = fixedTree(t, regular("a", pharWith(stub, "", "a", "text")))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		archive := readBack(t, dir, "a")
		Expect(archive).To(ContainSubstring(utf16LE(selfNow)))
		sum := sha512.Sum512([]byte(archive[:len(archive)-72]))
		Expect(archive[len(archive)-72 : len(archive)-8]).To(Equal(string(sum[:])))
	})

	it("marks no byte code that is an archive, too, of which the header is rewritten", func() {
		contents := gzipped(script)
		header := make([]byte, 512)
		copy(header, pyc(magic311, 0, "\x01\x00\x00\x00"+number(len("# "+string(dep)))))
		copy(header[124:], fmt.Sprintf("%011o\x00", len(contents)))
		copy(header[257:], "ustar")
		fixedTree(t, regular("lib/__pycache__/m.cpython-311.pyc", string(header)+contents+strings.Repeat("\x00", -len(contents)&511)),
			regular("lib/m.py", "# "+string(dep)))
	})

	it("keeps no more of the scripts in pages, and of the columns of a table, than there may be", func() {
		var files []file
		for page := range 2 {
			var text strings.Builder
			for i := range 40_000 {
				script := fmt.Sprintf("%s/%d", dep, 40_000*page+i)
				sum := sha256.Sum256([]byte(script))
				fmt.Fprintf(&text, "<script>%s</script> sha256-%s", script, base64.StdEncoding.EncodeToString(sum[:]))
			}
			files = append(files, regular(fmt.Sprintf("a%d.html", page), text.String()))
		}
		Expect(bounded(files...).Blockers).To(ContainElement(And(
			HaveField("File", "a1.html"), HaveField("Detail", ContainSubstring("too many scripts")))))

		const page, pages = 64 << 10, 256
		const local, overflow = (page-12)*32/255 - 23, page - 4
		const size = local + pages*overflow
		database := make([]byte, page, size+page)
		copy(database, "SQLite format 3\x00\x00\x01\x01\x01\x00\x40\x20\x20")
		copy(database[100:], "\x0d\x00\x00\x00\x01")
		const cell = 200
		binary.BigEndian.PutUint16(database[108:], cell)
		varint := func(n int) string {
			return string([]byte{0x80 | byte(n>>21), 0x80 | byte(n>>14), 0x80 | byte(n>>7), byte(n & 0x7f)})
		}
		record := varint(size) + "\x01" + varint(size) // all of it says of which kinds columns are
		copy(database[cell:], record)
		binary.BigEndian.PutUint32(database[cell+len(record)-4+local:], 2)
		for n := range pages {
			next := make([]byte, page)
			if n < pages-1 {
				binary.BigEndian.PutUint32(next, uint32(n+3))
			}
			database = append(database, next...)
		}
		most := peak(func() { bounded(regular("a.db", string(database))) })
		Expect(most).To(BeNumerically("<", 128<<20))
	})

	it("looks for the ends of references all at once, however many there are", func() {
		program := func(machine byte) string {
			head := []byte(elf(strings.Repeat("\x00", 200)))[:120]
			head[4], head[5], head[18], head[19] = 2, 1, machine, 0
			binary.LittleEndian.PutUint64(head[32:], 64)
			binary.LittleEndian.PutUint16(head[56:], 1)
			head[64], head[68] = 1, 5 // all of it is code
			binary.LittleEndian.PutUint64(head[80:], 0x400000)
			binary.LittleEndian.PutUint64(head[96:], 1<<30)
			return string(head)
		}
		const amd64, arm64 = 62, 183
		// What may be the ends of a text before the text itself.
		text := program(amd64) + strings.Repeat("\xcc", 8) + strings.Repeat("\xcc\xcc\xccg-glibc-2.40\x00", 512) + strings.Repeat("\x00", 200) +
			strings.Repeat(string(dep)+"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 512)
		var files []file
		for i := range 200 {
			files = append(files, regular(fmt.Sprintf("a%03d", i), text))
		}
		Expect(bounded(files...).References).To(Equal(200 * 512))

		const digits = "0123456789abcdfghijklmnpqrsvwxyz"
		var refs []storepath.Path
		for i := range 5000 {
			end := string([]byte{digits[i/1024], digits[i/32%32], digits[i%32]})
			refs = append(refs, storepath.Path("/nix/store/"+strings.Repeat("b", 29)+end+"-"+digits[i/32%32:][:1]+digits[i/1024:][:1]))
		}
		code := []byte(program(arm64))
		for range 1 << 18 { // MOVZ of "b-", MOVK of "q"
			code = append(code, number(0xd2800000|('b'|'-'<<8)<<5)+number(0xf2a00000|'q'<<5)...)
		}
		begin := processorTime()
		rewriter := view(t).Rewrite(self, refs, discard{})
		send(t, rewriter, archive(regular("a", program(amd64)+strings.Repeat("\x00", 64<<20)), regular("b", string(code))), whole)
		Expect(processorTime() - begin).To(BeNumerically("<", 8*time.Second))
	})

	it("keeps little of each of many files that have much to be rewritten", func() {
		var members []string
		for i := range 40 {
			members = append(members, fmt.Sprint(i, strings.Repeat("n", 200)), string(dep))
		}
		archived := zippedMembers(members...)
		rewriter := view(t).Rewrite(self, []storepath.Path{dep}, discard{})
		var files []file
		for i := range 100 {
			files = append(files, regular(fmt.Sprintf("a%03d.zip", i), archived))
		}
		send(t, rewriter, archive(files...), whole)
		report := relocate.WithPending(rewriter.Report())
		Expect(report.Blocking).To(BeNumerically(">=", 100*40))
		Expect(relocate.PendingBlockers(rewriter.Report())).To(BeNumerically("<=", 32*32+100))
	})
}

// peak is how many bytes more than before the heap has at most while it does something.
func peak(something func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	runtime.GC()
	heap := func() int64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return int64(s[0].Value.Uint64())
	}
	before, stop, most := heap(), make(chan bool), make(chan int64)
	go func() {
		high := before
		for {
			select {
			case <-stop:
				most <- max(high, heap()) - before
				return
			case <-time.After(time.Millisecond):
				high = max(high, heap())
			}
		}
	}()
	something()
	close(stop)
	return <-most
}
