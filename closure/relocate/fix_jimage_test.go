package relocate_test

import (
	"encoding/binary"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
)

// resource is one of a run-time image: its name, and what is stored of it, behind headers if it is compressed.
type resource struct {
	name, stored string
	plain        int // its size, of one that is compressed
}

// packedResource is a resource in zlib, as jlink's "zip" makes it.
func packedResource(order binary.AppendByteOrder, name, text string) resource {
	stream := zlibbed(text)
	head := order.AppendUint64(order.AppendUint64(order.AppendUint32(nil, 0xcafefafa), uint64(len(stream))), uint64(len(text)))
	head = append(order.AppendUint32(order.AppendUint32(head, 1), 0xffffffff), 1) // the name of the compression, none of its settings
	return resource{name, string(head) + stream, len(text)}
}

// jimage is a JVM's run-time image.
func jimage(order binary.AppendByteOrder, resources ...resource) string {
	number := func(n int) string { return string(order.AppendUint32(nil, uint32(n))) }
	names, locations, offsets, redirect, contents := "\x00zip\x00", "", "", "", ""
	attribute := func(kind, n int) {
		if n > 0 {
			locations += string(rune(kind<<3|3)) + size32(strings.Repeat("x", n))
		}
	}
	for _, r := range resources {
		offsets, redirect = offsets+number(len(locations)), redirect+number(-1)
		attribute(3, len(names))
		attribute(5, len(contents))
		if r.plain > 0 {
			attribute(6, len(r.stored))
			attribute(7, r.plain)
		} else {
			attribute(7, len(r.stored))
		}
		locations += "\x00"
		names += r.name + "\x00"
		contents += r.stored
	}
	locations += strings.Repeat("\x00", -len(locations)&3)
	names += strings.Repeat("\x00", -len(names)&3)
	return number(0xcafedada) + number(1<<16) + number(0) + number(len(resources)) + number(len(resources)) + number(len(locations)) +
		number(len(names)) + redirect + offsets + locations + names + contents
}

// resourcesOf are those of an image by their names, inflated.
func resourcesOf(order binary.ByteOrder, image string) map[string]string {
	number := func(at int) int { return int(order.Uint32([]byte(image[at:]))) }
	count := number(16)
	offsets := 28 + 4*count
	locations := offsets + 4*count
	names := locations + number(20)
	contents := names + number(24)
	found := map[string]string{}
	for i := range count {
		attributes := map[byte]int{}
		for at := locations + number(offsets+4*i); image[at] != 0; {
			kind, size := image[at]>>3, int(image[at]&7)+1
			for _, b := range []byte(image[at+1 : at+1+size]) {
				attributes[kind] = attributes[kind]<<8 | int(b)
			}
			at += 1 + size
		}
		name, _, _ := strings.Cut(image[names+attributes[3]:], "\x00")
		text := image[contents+attributes[5]:]
		if size := attributes[6]; size > 0 {
			packed := int(order.Uint64([]byte(text[4:])))
			Expect(size).To(Equal(29+packed), name)
			text = unzlibbed(text[29 : 29+packed])
		}
		found[name] = text[:attributes[7]]
	}
	return found
}

func testRunTimeImages(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("rewrites resources, compressed ones too, and the switches over strings of classes", func() {
		for _, order := range []interface {
			binary.ByteOrder
			binary.AppendByteOrder
		}{binary.LittleEndian, binary.BigEndian} {
			class, long := decoded(switchClass), noise(5000)+strings.Repeat(script, 3)+noise(100)
			image := jimage(order, resource{name: "S", stored: class}, packedResource(order, "P", class), resource{name: "text", stored: script},
				packedResource(order, "long", long), packedResource(order, "other", noise(50)))
			dir, report := fixedTree(t, regular("lib/modules", image))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			_, alone := fixedTree(t, regular("S.class", class))
			Expect(alone.Relocatable()).To(BeTrue())
			got := resourcesOf(order, readBack(t, dir, "lib/modules"))
			Expect(got).To(HaveLen(5))
			Expect(switchTable(got["S"])).To(HaveKey(int32(javaHash(selfNow + "/a"))))
			Expect(got["P"]).To(Equal(got["S"]))
			Expect(got["text"]).To(Equal(strings.ReplaceAll(script, string(self), selfNow)))
			Expect(got["long"]).To(Equal(strings.ReplaceAll(long, string(self), selfNow)))
			Expect(got["other"]).To(Equal(noise(50)))
		}
	})

	it("refuses a class with a switch whose strings are shared with others, and rewrites one without", func() {
		hash := string(binary.BigEndian.AppendUint32(nil, javaHash(string(self)+"/a")))
		for text, ok := range map[string]bool{"no switch": true, "a switch: " + hash: false, string(dep): false} {
			shared := packedResource(binary.LittleEndian, "S", text)
			shared.stored = strings.Replace(shared.stored, "\x01\x00\x00\x00\xff", "\x02\x00\x00\x00\xff", 1) // not "zip"
			shared.stored = shared.stored[:29] + text
			shared.stored = shared.stored[:4] + string(binary.LittleEndian.AppendUint64(nil, uint64(len(text)))) + shared.stored[12:]
			image := jimage(binary.LittleEndian, shared, resource{name: string(self) + "/a", stored: "x"})
			dir, report := fixedTree(t, regular("lib/modules", image))
			Expect(report.Relocatable()).To(Equal(ok), "%v", report.Blockers)
			Expect(strings.Contains(readBack(t, dir, "lib/modules"), selfNow+"/a")).To(Equal(ok))
		}
	})

	it("keeps the virtual machine from using an archive of classes with store paths, and leaves any other alone", func() {
		for _, mark := range []string{"\xa2\xab\x0b\xf0", "\xa8\xab\x0b\xf0"} {
			archive := func(machine, text string) string {
				return mark + strings.Repeat("\x00", 100) + machine + " VM (21.0.1)" + strings.Repeat("\x00", 5000) + text + "\x00"
			}
			files := map[string]string{
				"a.jsa": archive("OpenJDK Server", script), "b.jsa": archive("OpenJDK Server", self.HashPart()),
				"c.jsa": archive("OpenJDK Server", string(dep)+"/lib/modules"), "d.jsa": archive("OpenJDK Server", "nothing"),
			}
			dir, report := fixedTree(t, regular("a.jsa", files["a.jsa"]), regular("b.jsa", files["b.jsa"]), regular("c.jsa", files["c.jsa"]),
				regular("d.jsa", files["d.jsa"]))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			for name, was := range files {
				if name < "c" {
					was = strings.Replace(was, " VM (", "_VM (", 1)
				}
				Expect(readBack(t, dir, name)).To(Equal(was), name)
			}
			_, report = fixedTree(t, regular("a.jsa", strings.Replace(files["a.jsa"], " VM (", " vm (", 1)))
			Expect(report.Blockers).To(ContainElement(HaveField("Detail", ContainSubstring("does not say which virtual machine"))))
		}
	})
}
