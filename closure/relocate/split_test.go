package relocate_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// cut cuts text into pieces of size bytes as compilers do, the last of which overlaps the one before.
func cut(text string, size int) (pieces []string) {
	for i := 0; i < len(text); i += size {
		i = max(0, min(i, len(text)-size))
		pieces = append(pieces, text[i:i+size])
	}
	return pieces
}

// immediate is what an x86 program loads with the instruction MOVABS, and does not align.
func immediate(piece string) string { return "\x48\xb8" + piece }

// compiled is a program that copies text as GCC does with -O2: by constants of 16 bytes, which the linker puts in a
// row, and the rest with one more, which overlaps them, or by instructions. joined is what such a program copies.
func compiled(text string) (code string, joined func(code string) string) {
	const size = 16
	whole, rest := len(text)/size*size, len(text)%size
	last := size
	for last/2 >= max(rest, 1) {
		last /= 2
	}
	if rest == 0 {
		last = 0
	}
	code = elf("") + strings.Repeat("\xcc", -len(elf(""))&(size-1))
	from, end := len(code), len(text)-last
	code += text[:whole]
	if last < size {
		code += "\xcc\xcc\xcc" + immediate("")
	}
	at := len(code)
	code += text[end:]
	return code, func(code string) string { return code[from:][:end] + code[at:][:last] }
}

// arm64 is a program for 64-bit ARM that puts pieces of eight bytes into registers, all at the same time.
func arm64(pieces []string) string {
	code := []byte(elf(""))
	code[5], code[18] = 1, 183 // little-endian, AArch64
	for i := range 4 {
		for register, piece := range pieces {
			instruction := uint32(0xf2800000) // MOVK
			if i == 0 {
				instruction = 0xd2800000 // MOVZ
			}
			half := uint32(binary.LittleEndian.Uint16([]byte(piece[2*i:])))
			code = binary.LittleEndian.AppendUint32(code, instruction|uint32(i)<<21|half<<5|uint32(register))
			code = append(code, "\x1f\x20\x03\xd5"...) // NOP
		}
	}
	return string(code)
}

// amd64 is a program for x86-64 whose code takes the text, or what stands distance bytes from it, and puts end over its last
// bytes. The text is in front of the code or behind it, and its hash goes up to the end of a block, as by constants it does not.
func amd64(text, end string, distance int, textFirst bool) string {
	const header, size = 64, 56
	from, to, base := header+2*size, 0x3000, 0x400000
	code, data := make([]byte, 0x1000), []byte(strings.Repeat("\x00", 0x200-(strings.Index(text, "-")&15))+text+strings.Repeat("\x00", 0x200))
	codeAt, dataAt := base+from, base+0x200000+to // the linker puts what is written on pages of its own
	if textFirst {
		from, to = header+2*size+len(data), header+2*size
		codeAt, dataAt = base+0x200000+from, base+to
	}
	at := 0x100
	load := append(code[:at:at], "\x0f\x10\x05"...) // MOVUPS
	load = binary.LittleEndian.AppendUint32(load, uint32(dataAt+bytes.Index(data, []byte(text))+distance-codeAt-at-7))
	copy(code, append(load, "\x0f\x11\x07\x48\xb8"+end+"\x48\x89\x47\x2a\xc3"...)) // MOVUPS, MOVABS, MOV, RET
	head := []byte(elf(""))[:header:header]
	head[4], head[5], head[18] = 2, 1, 62
	binary.LittleEndian.PutUint64(head[32:], header)
	binary.LittleEndian.PutUint16(head[56:], 2)
	for _, s := range [][4]int{{5, from, codeAt, len(code)}, {4, to, dataAt, len(data)}} {
		head = binary.LittleEndian.AppendUint32(append(head, 1, 0, 0, 0), uint32(s[0]))
		for _, field := range []int{s[1], s[2], s[2], s[3], s[3], 0x1000} {
			head = binary.LittleEndian.AppendUint64(head, uint64(field))
		}
	}
	file := make([]byte, max(from+len(code), to+len(data)))
	copy(file[copy(file, head):], "")
	copy(file[from:], code)
	copy(file[to:], data)
	return string(file)
}

func testSplit(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	names := []string{"a", "app", "hello", "bash-5.2", "a-long-name-1.2.3"}
	named := func(name string) storepath.Path { return self[:44] + storepath.Path(name) }
	inPieces := func(hash storepath.Path) any {
		return And(HaveField("Kind", relocate.SplitReference), HaveField("Harmless", ""), HaveField("Detail", "a part of "+string(hash)))
	}
	reported := func(p storepath.Path, name, contents string) relocate.Report {
		rewriter := view(t).Rewrite(p, []storepath.Path{dep}, discard{})
		send(t, rewriter, archive(regular(name, contents)), whole)
		return relocate.WithPending(rewriter.Report())
	}

	it("finds a reference in pieces of eight bytes or more, wherever the cuts are", func() {
		r := rand.New(rand.NewPCG(15, 16))
		for before := range 33 {
			for _, size := range []int{8, 16, 32} {
				if (before+11)%size == 0 && size == 32 {
					continue // the whole hash is in one piece
				}
				for _, after := range []string{"", "/x", "/share/app/main.conf"} {
					pieces := cut(strings.Repeat("=", before)+string(self)+after+"\x00", size)
					r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
					code := elf(noise(100+r.IntN(20)) + strings.Join(pieces, "\x48\xb8") + noise(100))
					Expect(reported(self, "bin/x", code).Blockers).To(ConsistOf(inPieces(self)), "%d %d %q", before, size, after)
				}
			}
		}
	})

	it("reports a whole reference of which another piece has the end, where that spoils it and nowhere else", func() {
		spoilt := 0
		for before := range 17 {
			for _, name := range names {
				for after := range 33 {
					p := named(name)
					text := strings.Repeat("=", before) + string(p) + "/share/locale/de/LC_MESSAGES/x.mo"[:after] + "\x00"
					code, joined := compiled(text)
					out := &events{}
					rewriter := view(t).Rewrite(p, []storepath.Path{dep}, out)
					send(t, rewriter, archive(regular("bin/x", code)), whole)
					right := joined(contentsOf(out.files, "bin/x")) == strings.Replace(text, string(p), view(t).Rename(p), 1)
					Expect(rewriter.Report().Relocatable()).To(Equal(right), "%q", text)
					if !right {
						Expect(relocate.WithPending(rewriter.Report()).Blockers).To(ContainElement(inPieces(p)))
						spoilt++
					}
				}
			}
		}
		Expect(spoilt).To(BeNumerically(">", 300))
	})

	it("finds what a program for 64-bit ARM puts together in registers", func() {
		for before := range 8 {
			pieces := cut(strings.Repeat("=", before)+string(self)+"/x", 8)
			Expect(reported(self, "bin/x", arm64(pieces)).Blockers).To(ConsistOf(inPieces(self)), "%d", before)
			for i, piece := range pieces {
				pieces[i] = strings.ToUpper(piece)
			}
			Expect(reported(self, "bin/x", arm64(pieces)).Blockers).To(BeEmpty())
		}
	})

	it("finds the end that a program for x86-64 puts over a whole reference, by the code around it", func() {
		for _, name := range []string{"a", "env", "source"} {
			p := named(name)
			for _, textFirst := range []bool{false, true} {
				for n := 1; n < 3; n++ {
					end := (string(p)[43-n:] + "/share")[:8]
					for _, before := range []string{"", "PATH="} {
						text := before + string(p) + "/share"
						copied := func(distance int) string { return amd64(text, end, distance, textFirst) }
						Expect(reported(p, "bin/x", copied(0)).Blockers).To(ConsistOf(inPieces(p)), "%q %v", end, textFirst)
						Expect(reported(p, "bin/x", copied(16)).Blockers).To(ConsistOf(inPieces(p)), "%q %v", end, textFirst)
						Expect(reported(p, "bin/x", copied(100)).Blockers).To(BeEmpty(), "another text: %q %v", end, textFirst)
						Expect(reported(p, "bin/x", copied(-100)).Blockers).To(BeEmpty(), "another text: %q %v", end, textFirst)
						Expect(reported(p, "bin/x", amd64(text, end[:n-1]+"="+end[n:], 0, textFirst)).Blockers).To(BeEmpty(), "another end")
						Expect(reported(p, "bin/x", amd64(strings.ToUpper(text), end, 0, textFirst)).Blockers).To(BeEmpty(), "no reference")
					}
				}
			}
		}
	})

	it("finds what a program compares in the order of texts, eight bytes in reverse", func() {
		for before := range 8 {
			pieces := cut(strings.Repeat("=", before)+string(self)+"/x", 8)
			for i, piece := range pieces {
				reversed := []byte(piece)
				slices.Reverse(reversed)
				pieces[i] = string(reversed)
			}
			code := elf(strings.Join(pieces, "\x48\xb8"))
			Expect(reported(self, "bin/x", code).Blockers).To(ConsistOf(inPieces(self)), "%d", before)
			Expect(reported(self, "bin/x", arm64(pieces)).Blockers).To(ConsistOf(inPieces(self)), "%d", before)
		}
	})

	it("finds what a program for 64-bit ARM makes of one instruction, where the bytes repeat", func() {
		for char, operand := range map[string]uint32{"f": 3<<16 | 0x39<<10, "3": 0x39 << 10, "x": 5<<16 | 0x33<<10,
			"8": 5<<16 | 0x32<<10, "p": 4<<16 | 0x32<<10, "0": 4<<16 | 0x31<<10} {
			for other := range 4 { // the two bytes that MOVK puts in
				piece := []byte(strings.Repeat(char, 8))
				copy(piece[2*other:], "zq")
				p := self[:16] + storepath.Path(piece) + self[24:]
				code := []byte(arm64(nil))
				for _, instruction := range []uint32{0xb20003e5 | operand, 0xf2800005 | uint32(other)<<21 | 0x717a<<5} {
					code = binary.LittleEndian.AppendUint32(code, instruction)
				}
				Expect(reported(p, "bin/x", string(code)).Blockers).To(ConsistOf(inPieces(p)), "%s", piece)
				Expect(reported(self, "bin/x", string(code)).Blockers).To(BeEmpty())
			}
		}
	})

	it("finds the end that a program for 64-bit ARM puts over a whole reference from half a register", func() {
		for _, name := range []string{"a", "ab"} {
			p := named(name)
			piece := binary.LittleEndian.Uint32([]byte((string(p)[42:] + "/")[:4]))
			code := []byte(arm64(nil))
			for _, instruction := range []uint32{0x52800005 | piece&0xffff<<5, 0x72a00005 | piece>>16<<5} { // MOVZ, MOVK
				code = binary.LittleEndian.AppendUint32(code, instruction)
			}
			whole := string(code) + string(p) + "/\x00"
			Expect(reported(p, "bin/x", whole).Blockers).To(ConsistOf(inPieces(p)), name)
			Expect(reported(p, "bin/x", string(code)).Blockers).To(BeEmpty(), name)
		}
	})

	it("finds the end that a program for 64-bit ARM puts over a whole reference from a register, and nothing like it", func() {
		whole := func(text string) string { return strings.Repeat("\x00", 5) + text + "\x00" }
		for _, name := range names {
			p := named(name)
			for n := 1; n < 8; n++ {
				for _, after := range []string{"", "/", "/share/x"} {
					piece := (string(p)[43-n:] + after + strings.Repeat("\x00", 8))[:8]
					if !strings.Contains(piece, "-") {
						continue
					}
					copied := arm64([]string{piece}) + whole(string(p)+after)
					Expect(reported(p, "bin/x", copied).Blockers).To(ConsistOf(inPieces(p)), "%q", piece)
					if n < 3 { // so few of a hash stand anywhere
						alone := arm64([]string{piece}) + whole("/nix/store")
						Expect(reported(p, "bin/x", alone).Blockers).To(BeEmpty(), "%q", piece)
					}
					other := arm64([]string{"=" + piece[1:]}) + whole(string(p)+after)
					Expect(reported(p, "bin/x", other).Blockers).To(BeEmpty(), "%q", piece)
				}
			}
		}
	})

	it("finds pieces at the edges of what is searched at once, however contents are cut", func() {
		r := rand.New(rand.NewPCG(17, 18))
		for edge := 128<<10 - 400; edge < 128<<10+200; edge += 7 {
			b := []byte(elf(strings.Repeat("\xcc", 300<<10)))
			for i, piece := range cut(string(self)+"/x", 8) {
				copy(b[edge+11*i:], piece)
			}
			rewriter := view(t).Rewrite(self, nil, discard{})
			send(t, rewriter, archive(regular("bin/x", string(b))), pieces(r))
			Expect(relocate.WithPending(rewriter.Report()).Blockers).To(ConsistOf(inPieces(self)), "%d", edge)

			clear(b[edge:][:100])
			copy(b[edge:], string(self)+"/x")
			rewriter = view(t).Rewrite(self, nil, discard{})
			send(t, rewriter, archive(regular("bin/x", string(b))), pieces(r))
			Expect(relocate.WithPending(rewriter.Report()).Blockers).To(BeEmpty(), "%d", edge)
			Expect(rewriter.Report().References).To(Equal(1))
		}
	})

	it("finds pieces in the programs that containers hold", func() {
		code := elf(strings.Join(cut(string(self)+"/x", 8), "\x48\xb8"))
		for name, contents := range map[string]string{"x.tar": tarred("bin/x", code, ""), "x.a": arred("x.o/", code)} {
			Expect(reported(self, name, contents).Blockers).To(ConsistOf(inPieces(self)), name)
		}
		for _, name := range []string{"x.gz", "x.tar.gz"} {
			contents := gzipped(code)
			if name == "x.tar.gz" {
				contents = gzipped(tarred("bin/x", code, ""))
			}
			Expect(reported(self, name, contents).Blockers).To(ContainElement(And(
				HaveField("Kind", relocate.Compressed), HaveField("Detail", ContainSubstring("the hash of "+string(self)+" split")),
			)), name)
		}
	})

	it("has nothing against whole references, whatever stands behind them, nor against what only looks like a piece", func() {
		dev := "/nix/store/" + dep.HashPart() + "-app-1.0-dev"
		short := named("app")
		for _, text := range []string{
			string(self), string(self) + "/bin", string(self) + ":" + string(self), string(self) + "text behind it",
			string(self) + "-dev", string(self) + ".drv", string(self)[:43], string(self)[:43] + "/bin", string(self)[:46],
			dev, dev + "/include:" + string(self) + "/include", string(short), string(short) + "/x", string(short) + "s",
			"/nix/store", "/nix/store/", "/nix/store/%s-%s", "/nix/store/" + strings.Repeat("e", 32) + "-app-1.0",
			string(other) + string(other), "/nix/store/" + self.HashPart()[:4] + other.HashPart()[4:] + "-app-1.0",
			"/nix/store/" + other.HashPart()[:28] + self.HashPart()[28:] + "-app-1.0",
			"GNU C17 -O2 -frandom-seed=" + self.HashPart()[:10] + " -g",
			"__pyx_k_nix_store_" + self.HashPart()[:22] + "\x00_", "__pyx_k_nix_store_" + self.HashPart()[:22] + "_2",
			"_binary__nix_store_" + self.HashPart() + "_app_1_0_x_start",
			"bug-app-1.0", "data-app-1.0", "aa-app", "a-app", "a-app-1.0", "la-app-1.0",
		} {
			for shift := range 16 {
				code := elf(strings.Repeat("\x00", shift) + text + "\x00")
				rewriter := view(t).Rewrite(self, []storepath.Path{storepath.Path(dev)}, discard{})
				send(t, rewriter, archive(regular("bin/x", code)), whole)
				Expect(relocate.WithPending(rewriter.Report()).Blockers).To(BeEmpty(), "%d %q", shift, text)
				Expect(reported(short, "bin/x", code).Blocking).To(BeZero(), "%d %q", shift, text)
			}
		}
		Expect(reported(self, "notes", strings.Join(cut(string(self), 8), "\n")).Blockers).To(BeEmpty(), "no compiler cuts text")
	})

	it("tells the pieces of many references from each other", func() {
		refs := references(400)
		var code strings.Builder
		for i, p := range refs {
			pieces := []string{string(p) + "/x"}
			if i%40 == 7 {
				pieces = cut(string(p)+"/x", 8)
			}
			code.WriteString("\x00" + strings.Join(pieces, "\x48\xb8"))
		}
		rewriter := view(t).Rewrite(self, refs, discard{})
		send(t, rewriter, archive(regular("bin/x", elf(code.String()))), whole)
		var want []any
		for i := 7; i < len(refs); i += 40 {
			want = append(want, inPieces(refs[i]))
		}
		Expect(relocate.WithPending(rewriter.Report()).Blockers).To(ConsistOf(slices.Clone(want)...))
		Expect(rewriter.Report().References).To(Equal(390))
	})
}
