package relocate_test

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
)

// switchClass is what javac makes of a method with a switch over three strings:
//
//	switch (s) { case "SELF/a": return 1; case "DEP/b": return 2; case "other": return 3; } return 0;
const switchClass = `
yv66vgAAADQAHQoAAgADBwAEDAAFAAYBABBqYXZhL2xhbmcvT2JqZWN0AQAGPGluaXQ+AQADKClWCgAIAAkHAAoMAAsADAEAEGphdmEvbGFuZy9TdHJpbm
cBAAhoYXNoQ29kZQEAAygpSQgADgEANS9uaXgvc3RvcmUvMDBiZ2QwNDV6MGQ0aWNwYmMyeXl6NGd4NDhhazQ0bGEtYXBwLTEuMC9hCgAIABAMABEAEgEA
BmVxdWFscwEAFShMamF2YS9sYW5nL09iamVjdDspWggAFAEAOC9uaXgvc3RvcmUvMWI5cDA3ejc3cGh2djJoZjZnbTlmMjhzeXAzOWYxYWctZ2xpYmMtMi
40MC9iCAAWAQAFb3RoZXIHABgBAAFTAQAEQ29kZQEAAWYBABUoTGphdmEvbGFuZy9TdHJpbmc7KUkBAA1TdGFja01hcFRhYmxlACAAFwACAAAAAAACAAAA
BQAGAAEAGQAAABEAAQABAAAABSq3AAGxAAAAAAAIABoAGwABABkAAACcAAIAAwAAAHgqTAI9K7YAB6sAAAAAAABLAAAAA54+THIAAAAy4yIq3AAAACQGUn
8QAAAAQCsSDbYAD5kAIQM9pwAcKxITtgAPmQATBD2nAA4rEhW2AA+ZAAUFPRyqAAAAAAAAIgAAAAAAAAACAAAAHAAAAB4AAAAgBKwFrAasA6wAAAABABwA
AAASAAj9ACwHAAgBDQ0KHAEB+QABAAA=
`

// rowClass is what javac makes of a switch over strings whose hash codes are in a row: SELF/a, SELF/b, SELF/d, SELF/c.
const rowClass = `
yv66vgAAADQARwoAAgADBwAEDAAFAAYBABBqYXZhL2xhbmcvT2JqZWN0AQAGPGluaXQ+AQADKClWCgAIAAkHAAoMAAsADAEAEGphdmEvbGFuZy9TdHJpbm
cBAAhoYXNoQ29kZQEAAygpSQgADgEANS9uaXgvc3RvcmUvMDBiZ2QwNDV6MGQ0aWNwYmMyeXl6NGd4NDhhazQ0bGEtYXBwLTEuMC9hCgAIABAMABEAEgEA
BmVxdWFscwEAFShMamF2YS9sYW5nL09iamVjdDspWggAFAEANS9uaXgvc3RvcmUvMDBiZ2QwNDV6MGQ0aWNwYmMyeXl6NGd4NDhhazQ0bGEtYXBwLTEuMC
9iCAAWAQA1L25peC9zdG9yZS8wMGJnZDA0NXowZDRpY3BiYzJ5eXo0Z3g0OGFrNDRsYS1hcHAtMS4wL2QIABgBADUvbml4L3N0b3JlLzAwYmdkMDQ1ejBk
NGljcGJjMnl5ejRneDQ4YWs0NGxhLWFwcC0xLjAvYwkAGgAbBwAcDAAdAB4BABBqYXZhL2xhbmcvU3lzdGVtAQADb3V0AQAVTGphdmEvaW8vUHJpbnRTdH
JlYW07BwAgAQAXamF2YS9sYW5nL1N0cmluZ0J1aWxkZXIKAB8AAwoAIwAkBwAlDAAmACcBAANUYWIBAAFmAQAVKExqYXZhL2xhbmcvU3RyaW5nOylJCgAf
ACkMACoAKwEABmFwcGVuZAEAHChJKUxqYXZhL2xhbmcvU3RyaW5nQnVpbGRlcjsIAC0BAAEgCgAfAC8MACoAMAEALShMamF2YS9sYW5nL1N0cmluZzspTG
phdmEvbGFuZy9TdHJpbmdCdWlsZGVyOwoAHwAyDAAzADQBAAh0b1N0cmluZwEAFCgpTGphdmEvbGFuZy9TdHJpbmc7CgA2ADcHADgMADkAOgEAE2phdmEv
aW8vUHJpbnRTdHJlYW0BAAVwcmludAEAFShMamF2YS9sYW5nL1N0cmluZzspVgoANgA8DAA9AAYBAAdwcmludGxuAQAEQ29kZQEAD0xpbmVOdW1iZXJUYW
JsZQEADVN0YWNrTWFwVGFibGUBAARtYWluAQAWKFtMamF2YS9sYW5nL1N0cmluZzspVgcARAEAE1tMamF2YS9sYW5nL1N0cmluZzsBAApTb3VyY2VGaWxl
AQAIVGFiLmphdmEAIQAjAAIAAAAAAAMAAQAFAAYAAQA+AAAAHQABAAEAAAAFKrcAAbEAAAABAD8AAAAGAAEAAAABAAgAJgAnAAEAPgAAALYAAgADAAAAhi
pMAj0rtgAHqgAAAAAAAFXjIirc4yIq3wAAACAAAAAuAAAASgAAADwrEg22AA+ZAC8DPacAKisSE7YAD5kAIQQ9pwAcKxIVtgAPmQATBT2nAA4rEhe2AA+Z
AAUGPRyqAAAAACYAAAAAAAAAAwAAAB4AAAAgAAAAIgAAACQErAWsBqwHrAOsAAAAAgA/AAAABgABAAAAAQBAAAAAEgAK/QAoBwAIAQ0NDQoeAQEBAQAJAE
EAQgABAD4AAABmAAMABQAAADsqTCu+PQM+HRyiACsrHTI6BLIAGbsAH1m3ACEZBLgAIrYAKBIstgAutgAxtgA1hAMBp//WsgAZtgA7sQAAAAIAPwAAAAYA
AQAAAAEAQAAAAA0AAv4ABwcAQwEB+AAsAAEARQAAAAIARg==
`

// caseClass is what Clojure 1.11 compiles (defn g [s] (case s "SELF/a" 1 "DEP/b" 2 3)) to.
const caseClass = `
yv66vgAAADQARQEABXMvYyRnBwABAQAWY2xvanVyZS9sYW5nL0FGdW5jdGlvbgcAAwEABWMuY2xqAQAGPGluaXQ+AQADKClWDAAGAAcKAAQACAEADGludm
9rZVN0YXRpYwEAJihMamF2YS9sYW5nL09iamVjdDspTGphdmEvbGFuZy9PYmplY3Q7AQARY2xvanVyZS9sYW5nL1V0aWwHAAwBAARoYXNoAQAVKExqYXZh
L2xhbmcvT2JqZWN0OylJDAAOAA8KAA0AEAEACGNvbnN0X18wAQASTGphdmEvbGFuZy9TdHJpbmc7DAASABMJAAIAFAEABWVxdWl2AQAnKExqYXZhL2xhbm
cvT2JqZWN0O0xqYXZhL2xhbmcvT2JqZWN0OylaDAAWABcKAA0AGAEACGNvbnN0X18xAQASTGphdmEvbGFuZy9PYmplY3Q7DAAaABsJAAIAHAEACGNvbnN0
X18yDAAeABMJAAIAHwEACGNvbnN0X18zDAAhABsJAAIAIgEACGNvbnN0X180DAAkABsJAAIAJQEABkdfXzEzMAEAAXMBABBqYXZhL2xhbmcvT2JqZWN0Bw
ApAQAGaW52b2tlDAAKAAsKAAIALAEACDxjbGluaXQ+AQA1L25peC9zdG9yZS8wMGJnZDA0NXowZDRpY3BiYzJ5eXo0Z3g0OGFrNDRsYS1hcHAtMS4wL2EI
AC8BABBqYXZhL2xhbmcvU3RyaW5nBwAxAQAOamF2YS9sYW5nL0xvbmcHADMBAAd2YWx1ZU9mAQATKEopTGphdmEvbGFuZy9Mb25nOwwANQA2CgA0ADcBAD
gvbml4L3N0b3JlLzFiOXAwN3o3N3BodnYyaGY2Z205ZjI4c3lwMzlmMWFnLWdsaWJjLTIuNDAvYggAOQUAAAAAAAAAAgUAAAAAAAAAAwEABENvZGUBAA9M
aW5lTnVtYmVyVGFibGUBAA1TdGFja01hcFRhYmxlAQASTG9jYWxWYXJpYWJsZVRhYmxlAQAKU291cmNlRmlsZQEAFFNvdXJjZURlYnVnRXh0ZW5zaW9uAD
EAAgAEAAAABQAZABIAEwAAABkAGgAbAAAAGQAeABMAAAAZACEAGwAAABkAJAAbAAAABAABAAYABwABAD8AAAAdAAEAAQAAAAUqtwAJsQAAAAEAQAAAAAYA
AQAAAAEACQAKAAsAAQA/AAAAmQACAAIAAABIKgFLTCu4ABEEegR+qgAAAAAAADgAAAAAAAAAAQAAABgAAAAoK7IAFbgAGZkAGbIAHacAFiuyACC4ABmZAA
myACOnAAayACawAAAAAwBBAAAAEwAE/wAkAAIFBwAqAAAPD0IHACoAQAAAAAoAAgAAAAEABAABAEIAAAAWAAIABABDACcAGwABAAAARwAoABsAAAABACsA
CwABAD8AAAAfAAIAAgAAAAcrAUy4AC2wAAAAAQBAAAAABgABAAMAAQAJAC4ABwABAD8AAABCAAIAAAAAACoSMMAAMrMAFQq4ADizAB0SOsAAMrMAIBQAO7
gAOLMAIxQAPbgAOLMAJrEAAAABAEAAAAAGAAEAAAABAAIAQwAAAAIABQBEAAAAQVNNQVAKYy5qYXZhCkNsb2p1cmUKKlMgQ2xvanVyZQoqRgorIDEgYy5j
bGoKcy9jLmNsagoqTAoxIzEsMToxCipF
`

// What R 4.2 writes of an environment, assign("SELF", "DEP", e), and of list(a = "SELF", b = 1).
const (
	rEnvironment = `
WAoAAAADAAQCAgADBQAAAAAFVVRGLTgAAAAEAAAAAAAAAP0AAAD+AAAAEwAAAB0AAAD+AAAEAgAAAAEABAAJAAAAMy9uaXgvc3RvcmUvMDBiZ2QwNDV6MG
Q0aWNwYmMyeXl6NGd4NDhhazQ0bGEtYXBwLTEuMAAAABAAAAABAAQACQAAADYvbml4L3N0b3JlLzFiOXAwN3o3N3BodnYyaGY2Z205ZjI4c3lwMzlmMWFn
LWdsaWJjLTIuNDAAAAD+AAAA/gAAAP4AAAD+AAAA/gAAAP4AAAD+AAAA/gAAAP4AAAD+AAAA/gAAAP4AAAD+AAAA/gAAAP4AAAD+AAAA/gAAAP4AAAD+AA
AA/gAAAP4AAAD+AAAA/gAAAP4AAAD+AAAA/gAAAP4AAAD+AAAA/g==
`
	rList = `
WAoAAAADAAQCAgADBQAAAAAFVVRGLTgAAAITAAAAAgAAABAAAAABAAQACQAAADMvbml4L3N0b3JlLzAwYmdkMDQ1ejBkNGljcGJjMnl5ejRneDQ4YWs0NG
xhLWFwcC0xLjAAAAAOAAAAAT/wAAAAAAAAAAAEAgAAAAEABAAJAAAABW5hbWVzAAAAEAAAAAIABAAJAAAAAWEABAAJAAAAAWIAAAD+
`
)

func sha256sum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// javaHash is java.lang.String.hashCode.
func javaHash(s string) (hash uint32) {
	for _, c := range s {
		hash = 31*hash + uint32(c)
	}
	return hash
}

// switchTable is the table of the class's switch, as pairs of a key and where it leads.
func switchTable(class string) map[int32]uint32 {
	at := strings.Index(class, "\xab\x00\x00\x00\x00\x00\x00\x4b\x00\x00\x00\x03") // lookupswitch, default, three pairs
	Expect(at).To(BeNumerically(">", 0))
	table, last := map[int32]uint32{}, int64(-1<<40)
	for pair := range slices.Chunk([]byte(class[at+12:at+12+3*8]), 8) {
		key := int32(binary.BigEndian.Uint32(pair))
		Expect(int64(key)).To(BeNumerically(">", last), "the table is sorted")
		last = int64(key)
		table[key] = binary.BigEndian.Uint32(pair[4:])
	}
	return table
}

func testKeys(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })
	class := func() string { return decoded(switchClass) }

	it("puts right the hash codes of a Java switch over strings, in order", func() {
		was := switchTable(class())
		dir, report := fixedTree(t, regular("S.class", class()), regular("s.jar", zippedMembers("S.class", class())))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		for _, got := range []string{readBack(t, dir, "S.class"), unzipped(readBack(t, dir, "s.jar"))["S.class"]} {
			now := switchTable(got)
			for before, after := range map[string]string{
				string(self) + "/a": selfNow + "/a", string(dep) + "/b": depNow + "/b", "other": "other",
			} {
				Expect(got).To(ContainSubstring(after))
				Expect(now).To(HaveKeyWithValue(int32(javaHash(after)), was[int32(javaHash(before))]))
			}
			Expect(now).To(HaveLen(3))
		}
	})

	it("leaves a class alone whose code has such a hash elsewhere", func() {
		hash := string(binary.BigEndian.AppendUint32(nil, javaHash(string(self)+"/a")))
		spoilt := class() + hash
		dir, report := fixedTree(t, regular("S.class", spoilt))
		Expect(report.Blockers).To(ContainElement(HaveField("Kind", relocate.HashKeyed)))
		Expect(readBack(t, dir, "S.class")).To(Equal(spoilt))
	})

	it("puts right the hash codes of a Java switch over strings that are in a row", func() {
		was := decoded(rowClass)
		dir, report := fixedTree(t, regular("S.class", was))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		keys := func(store string) string {
			return string(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, javaHash(store+"/a")), javaHash(store+"/d")))
		}
		Expect(was).To(ContainSubstring(keys(string(self))))
		Expect(readBack(t, dir, "S.class")).To(Equal(strings.ReplaceAll(strings.Replace(was, keys(string(self)), keys(selfNow), 1), string(self), selfNow)))

		other := strings.Replace(was, string(self)+"/b", string(self)+"/x", 1) // its hash is no longer in the row
		dir, report = fixedTree(t, regular("S.class", other))
		Expect(report.Blockers).To(ContainElement(HaveField("Detail", ContainSubstring("no longer in a row"))))
		Expect(readBack(t, dir, "S.class")).To(Equal(other))
	})

	it("leaves a class of Clojure's alone that goes by bits of the hash codes of strings, and none that does not", func() {
		was := decoded(caseClass)
		dir, report := fixedTree(t, regular("c$g.class", was))
		Expect(report.Blockers).To(ContainElement(HaveField("Detail", ContainSubstring("Clojure's case over strings"))))
		Expect(readBack(t, dir, "c$g.class")).To(Equal(was))
		for _, other := range []string{strings.Replace(was, "equiv", "equal", 1), strings.Replace(was, "\x7e\xaa", "\x7e\xab", 1)} {
			dir, report = fixedTree(t, regular("c$g.class", other))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			Expect(readBack(t, dir, "c$g.class")).To(Equal(strings.ReplaceAll(strings.ReplaceAll(other, string(self), selfNow), string(dep), depNow)))
		}
	})

	it("leaves an environment of R's alone whose variables are found by a hash, and no other value", func() {
		env, list := decoded(rEnvironment), decoded(rList)
		for name, contents := range map[string]string{"env.rds": env, "packed.rds": gzipped(env), "env.rda": "RDX3\n" + env} {
			dir, report := fixedTree(t, regular(name, contents))
			Expect(report.Blockers).To(ContainElement(HaveField("Detail", ContainSubstring("the name of a variable"))), name)
			Expect(readBack(t, dir, name)).To(Equal(contents), name)
		}
		dir, report := fixedTree(t, regular("list.rds", list), regular("packed.rds", gzipped(list)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(readBack(t, dir, "list.rds")).To(Equal(strings.ReplaceAll(list, string(self), selfNow)))
		Expect(gunzipped(readBack(t, dir, "packed.rds"))).To(Equal(strings.ReplaceAll(list, string(self), selfNow)))
	})

	it("knows variables of R's in data as text and in the machine's order, too", func() {
		variable := map[string]string{
			"A": "4\n0\n1026\n1\n262153\n51\nNAME\n16\n1\n262153\n51\nVALUE\n254\n",
			"B": "\x02\x04\x00\x00\x01\x00\x00\x00\x09\x00\x04\x00\x33\x00\x00\x00NAME\x10\x00\x00\x00\x01\x00\x00\x00\x09\x00\x04\x00\x33\x00\x00\x00VALUE",
		}
		head := map[string][]string{"A": {"A\n2\n263168\n131840\n", "A\n3\n263168\n197888\n5\nUTF-8\n"}, "B": {"B\n\x02\x00\x00\x00", "B\n\x03\x00\x00\x00"}}
		other := strings.Repeat("x", 51)
		for form, heads := range head {
			for n, head := range heads {
				for _, before := range []string{"", "RD" + form + strconv.Itoa(n+2) + "\n"} {
					data := func(name, value string) string {
						return before + head + strings.NewReplacer("NAME", name, "VALUE", value).Replace(variable[form])
					}
					dir, report := fixedTree(t, regular("a.rds", data(string(self), other)), regular("b.rds", data(other, string(self))))
					Expect(report.Blockers).To(ConsistOf(And(HaveField("File", "a.rds"), HaveField("Detail", ContainSubstring("the name of a variable")))))
					Expect(readBack(t, dir, "b.rds")).To(Equal(data(other, selfNow)))
				}
			}
		}
		_, report := fixedTree(t, regular("text", "A\n2\nis a text of "+string(self)+"\n1026\n1\n262153\n51\n"+string(self)))
		Expect(report.Blockers).To(BeEmpty())
	})

	it("rewrites a class without a switch, and what only begins like a class, in place", func() {
		dir, report := fixedTree(t, regular("S.class", strings.Replace(class(), "\xab", "\xaa", 1)[:len(class())-200]), regular("fat", "\xca\xfe\xba\xbe\x00\x00\x00\x02"+string(dep)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(report.References).To(Equal(3))
		Expect(report.Fixed).To(BeEmpty())
		Expect(readBack(t, dir, "S.class")).To(ContainSubstring(selfNow + "/a"))
		Expect(readBack(t, dir, "fat")).To(HaveSuffix(depNow))
	})

	it("rewrites what is not looked up: values of cdb, translations, HDF5 without checksums", func() {
		for name, contents := range map[string]string{
			"a.cdb": cdb("key", string(dep)), "a.mo": catalogue("greeting", string(dep)), "a.h5": "\x89HDF\r\n\x1a\n\x00" + string(dep),
		} {
			dir, report := fixedTree(t, regular(name, contents))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			Expect(report.Fixups).To(BeEmpty())
			Expect(readBack(t, dir, name)).To(Equal(strings.ReplaceAll(contents, string(dep), depNow)))
		}
	})

	it("rewrites the values of an SDBM table, and leaves one alone that has a store path among its keys", func() {
		table := func(size int, pairs ...string) string {
			page, at := make([]byte, size), size
			binary.LittleEndian.PutUint16(page, uint16(len(pairs)))
			for i, text := range pairs {
				at -= len(text)
				copy(page[at:], text)
				binary.LittleEndian.PutUint16(page[2*i+2:], uint16(at))
			}
			return strings.Repeat("\x00", size) + string(page)
		}
		for _, size := range []int{1 << 10, 8 << 10} {
			values := table(size, "key", string(self)+"/a", "other", string(dep))
			dir, report := fixedTree(t, regular("a.pag", values), regular("text.pag", "a text of "+string(self)+noise(2<<10)))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			Expect(report.References).To(Equal(3))
			Expect(readBack(t, dir, "a.pag")).To(Equal(table(size, "key", selfNow+"/a", "other", depNow)))
			for _, keys := range []string{table(size, string(self), "value"), table(size, "a", "b", string(dep)+"/x", "value")} {
				dir, report = fixedTree(t, regular("a.pag", keys))
				Expect(report.Blockers).To(ConsistOf(HaveField("Detail", ContainSubstring("SDBM table: a reference in a key"))))
				Expect(readBack(t, dir, "a.pag")).To(Equal(keys))
			}
			_, report = fixedTree(t, regular("a.pag", values+"x"))
			Expect(report.Relocatable()).To(BeFalse())
		}
	})

	it("refuses tables with a checksum over each block, known by how they end", func() {
		for _, end := range []string{"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "\xf7\xcf\xf4\x85\xb7\x41\xe2\x88"} {
			for _, size := range []int{10, 300 << 10} {
				table := noise(size) + string(dep) + noise(size) + end
				_, report := fixedTree(t, regular("000005.ldb", table))
				Expect(report.Blockers).To(ConsistOf(HaveField("Kind", relocate.Checksummed)))
				_, report = fixedTree(t, regular("000005.ldb", noise(size)+end))
				Expect(report.Blockers).To(BeEmpty())
				dir, report := fixedTree(t, regular("a.zip", storedZip("000005.ldb", table)))
				Expect(report.Relocatable()).To(BeFalse())
				Expect(readBack(t, dir, "a.zip")).To(Equal(storedZip("000005.ldb", table)))
			}
		}
	})

	it("refuses tables keyed by hashes, sorted ones, and files of database servers, by name", func() {
		// How what the servers and tools of these formats wrote begins.
		for _, f := range [][3]string{
			{"a.tcb", "Tokyo Cabinet table", "ToKyO CaBiNeT\n1.0:911\n\x00"}, {"a.kch", "Kyoto Cabinet table", "KC\n\x00\x10\x0e\x06\xbc"},
			{"a.dp", "QDBM table", "[depot]\n\x0c\x00\x00\x0014\x00"}, {"a.tkh", "Tkrzw table", "TkrzwHDB\n\x00"},
			{"a.db", "bbolt", strings.Repeat("\x00", 8) + "\x04" + strings.Repeat("\x00", 7) + "\xed\xda\x0c\xed\x02\x00\x00\x00"},
			{"t.MYI", "MyISAM index", "\xfe\xfe\x07\x01\x00\x03"},
			{"16384", "PostgreSQL table", "\x00\x00\x00\x00\x40\x92\x79\x01\x04\xca\x00\x00\x28\x00\x18\x1f\x00\x20\x04\x20\x00\x00\x00\x00"},
			{"2608_fsm", "PostgreSQL table", "\x00\x00\x00\x00\x40\x92\x79\x01\x04\xca\x00\x00\x28\x00\x18\x1f\x00\x20\x04\x20\x00\x00\x00\x00"},
			{"000000010000000000000001", "PostgreSQL write-ahead log", "\x18\xd1\x07\x00\x01\x00\x00\x00" + strings.Repeat("\x00", 32)},
			{"GPATH", "Berkeley DB B-tree", "\x62\x31\x05\x00\x03\x00\x00\x00\x00\x20\x00\x00"},        // GNU global's
			{"cert8.db", "Berkeley DB hash table", "\x00\x06\x15\x61\x00\x00\x00\x02\x00\x00\x04\xd2"}, // of NSS
			{"a.mv.db", "H2 database", "H:2,block:2,blockSize:1000,chunk:1,created:18c2d1,format:2,version:1,fletcher:4d3c\n"},
			{"a.parquet", "Parquet", "PAR1\x15\x04\x15\x12\x15\x16"}, {"a.eszip2", "eszip", "ESZIP2.3\x00\x00\x00\x06"}, {"a", "eszip", "ESZIP_V2\x00\x00\x00\x06"},
			{"a.nar", "NAR", "\r\x00\x00\x00\x00\x00\x00\x00nix-archive-1\x00\x00\x00"}, {"classes.dex", "Dalvik program", "dex\n035\x00\x11\x22"},
			{"postlist.glass", "Xapian table", "\x00\x00\x00\x01\x00\x1f\x91\x1f\x91\x00\x13"}, {"docdata.honey", "Xapian table", "\x00\x01\x01\x3a"},
			{"ibdata1", "InnoDB table", strings.Repeat("\x00", 40)}, {"t.ibd", "InnoDB table", strings.Repeat("\x00", 40)},
			{"MANIFEST-000002", "LevelDB log", "\x56\xf9\xb8\xf8\x1c\x00\x01\x01\x1aleveldb.BytewiseComparator"},
			{"000003.log", "LevelDB log", "\x56\xf9\xb8\xf8\x1c\x00\x01\x01" + strings.Repeat("\x00", 20)},
			{"r.zo", "Racket code", "#~\x048.18\x05ta6leD\x02\x00\x00\x00"}, {"r.zo", "Racket code", "#~\x058.101\x0bchez-schemeB\x00"},
		} {
			_, report := fixedTree(t, regular(f[0], f[2]+string(dep)))
			Expect(report.Blockers).To(ConsistOf(HaveField("Detail", ContainSubstring(f[1]))), f[1])
			_, report = fixedTree(t, regular(f[0], f[2]))
			Expect(report.Blockers).To(BeEmpty(), f[1])
		}
		for name, contents := range map[string]string{"16384": "nothing of a server: ", "000003.log": "a text with lines\n", "x.zo": "#~ text of its own: ",
			"a.parquet": "PAR1 is a name: ", "a.mv.db": "H:2, and more: ", "a.glass": "of stained glass: "} {
			dir, report := fixedTree(t, regular(name, contents+string(dep)))
			Expect(report.Blockers).To(BeEmpty(), name)
			Expect(readBack(t, dir, name)).To(HaveSuffix(depNow))
		}
		for _, head := range []string{"MSCF\x00\x00\x00\x00", "xar!\x00\x1c", "\xed\xab\xee\xdb", "\x45\x3d\xcd\x28", "MSWIM\x00\x00\x00"} {
			_, report := fixedTree(t, regular("image", head+noise(100)))
			Expect(report.Blockers).To(ConsistOf(HaveField("Kind", relocate.Opaque)), "%q", head)
		}
	})

	it("looks into bundles of git", func() {
		const head = "# v2 git bundle\n28f6c4b4a1c4d3a3d7a3b1c5e3f5a7d9e1b3c5d7 refs/heads/main\n\n"
		_, report := fixedTree(t, regular("a.bundle", head+gitPack(script)))
		Expect(report.Blockers).To(ConsistOf(HaveField("Detail", ContainSubstring("git bundle: the hash of"))))
		_, report = fixedTree(t, regular("a.bundle", head+gitPack("nothing")))
		Expect(report.Blockers).To(BeEmpty())
	})

	it("leaves a file alone that is named by its hash, and rewrites one that is not", func() {
		text := "{\"Cmd\": [\"" + string(self) + "/bin/app\"]}"
		md5, sha256, sha512 := md5.Sum([]byte(text)), sha256.Sum256([]byte(text)), sha512.Sum512([]byte(text))
		for _, name := range []string{
			hex.EncodeToString(md5[:]), "blobs/sha256/" + hex.EncodeToString(sha256[:]), "blobs/sha256-" + hex.EncodeToString(sha256[:]),
			"content-v2/sha512/00/11/" + hex.EncodeToString(sha512[:])[4:], "dhall/1220" + hex.EncodeToString(sha256[:]),
			"blobs/sha256/" + hex.EncodeToString(sha256[:]) + "/data", "content/00/" + hex.EncodeToString(sha512[:])[2:] + "/content",
		} {
			dir, report := fixedTree(t, regular(name, text))
			Expect(report.Blockers).To(ConsistOf(HaveField("Detail", ContainSubstring("named by its hash"))), name)
			Expect(readBack(t, dir, name)).To(Equal(text))
			dir, report = fixedTree(t, regular(name, text+"\n"))
			Expect(report.Blockers).To(BeEmpty(), name)
			Expect(readBack(t, dir, name)).To(ContainSubstring(selfNow))
		}
		packed := gzipped(text)
		sum := sha256sum(packed)
		dir, report := fixedTree(t, regular(sum, packed))
		Expect(report.Relocatable()).To(BeFalse())
		Expect(readBack(t, dir, sum)).To(Equal(packed))
	})

	it("finds what Erlang's compiler makes of patterns with several store paths: parts of their hashes", func() {
		// One clause has its string in whole; of two, what is the same stands once and the rest apart.
		one := beam("StrT", string(self)+"/a"+string(dep)+"/b")
		dir, report := fixedTree(t, regular("one.beam", one))
		Expect(report.Blockers).To(BeEmpty())
		Expect(readBack(t, dir, "one.beam")).To(Equal(strings.ReplaceAll(strings.ReplaceAll(one, string(self), selfNow), string(dep), depNow)))
		two := beam("StrT", "/nix/store"+string(dep)[12:]+"/b"+string(self)[12:]+"/a")
		for name, contents := range map[string]string{"two.beam": two, "packed.beam": gzipped(two)} {
			dir, report = fixedTree(t, regular(name, contents))
			Expect(report.Relocatable()).To(BeFalse(), name)
			Expect(readBack(t, dir, name)).To(Equal(contents))
		}
	})
}
