package relocate_test

import (
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
)

func testLengths(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	gzipAt := func(level int) func(string) string {
		return func(text string) string {
			return packed(text, func(w io.Writer) io.WriteCloser { z, _ := gzip.NewWriterLevel(w, level); return z })
		}
	}
	brotliAt := func(quality int) func(string) string {
		return func(text string) string {
			return packed(text, func(w io.Writer) io.WriteCloser {
				return brotli.NewWriterOptions(w, brotli.WriterOptions{Quality: quality, LGWin: 22})
			})
		}
	}
	zstdAll := func(level zstd.EncoderLevel, options ...zstd.EOption) func(string) string {
		return func(text string) string {
			e, err := zstd.NewWriter(nil, append(options, zstd.WithEncoderLevel(level))...)
			Expect(err).NotTo(HaveOccurred())
			return string(e.EncodeAll([]byte(text), nil))
		}
	}
	unpack := map[string]func(string) string{
		".gz": gunzipped,
		".br": func(s string) string { return unpacked(brotli.NewReader(strings.NewReader(s)), nil) },
		".zst": func(s string) string {
			r, err := zstd.NewReader(strings.NewReader(s))
			return unpacked(r, err)
		},
	}
	// code is like what is served: words, some of which repeat.
	code := func(r *rand.Rand, words int) string {
		var b strings.Builder
		for range words {
			fmt.Fprintf(&b, "call%d(%d);", r.IntN(400), r.IntN(100000))
		}
		return b.String() + "open('" + string(self) + "/share');" + b.String()[:r.IntN(b.Len())]
	}

	it("keeps the length of what is compressed wherever that can be done", func() {
		r := rand.New(rand.NewPCG(1, 2))
		var kept, grown int
		for i := range 8 {
			text := code(r, 20+r.IntN(1200))
			for name, pack := range map[string]func(string) string{
				"weak.gz": gzipAt(gzip.BestSpeed), "a.gz": gzipAt(gzip.DefaultCompression), "best.gz": gzipAt(gzip.BestCompression),
				"weak.br": brotliAt(3), "a.br": brotliAt(9), "best.br": brotliAt(11),
				"fast.zst": zstdAll(zstd.SpeedFastest), "a.zst": zstdAll(zstd.SpeedDefault),
			} {
				was := pack(text)
				dir, report := fixedTree(t, regular(name, was))
				Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
				now := readBack(t, dir, name)
				Expect(unpack[filepath.Ext(name)](now)).To(Equal(strings.ReplaceAll(text, string(self), selfNow)), name)
				if strings.HasPrefix(name, "weak") {
					Expect(now).To(HaveLen(len(was)), "%d: %s", i, name)
				}
				if len(now) == len(was) {
					kept++
				} else {
					grown++
					Expect(len(now)-len(was)).To(And(BeNumerically(">", -8), BeNumerically("<", 100)), "%d: %s", i, name)
				}
			}
		}
		Expect(kept).To(BeNumerically(">", 4*grown), "%d of %d", kept, kept+grown)
	})

	it("keeps what the heads of zstd and lzma say of the size, and whether there is a checksum, and the check of xz", func() {
		r := rand.New(rand.NewPCG(3, 4))
		for _, words := range []int{0, 8, 300, 5000, 12000} {
			text := string(self)
			if words > 0 {
				text = code(r, words)
			}
			for _, checked := range []bool{true, false} {
				for name, was := range map[string]string{
					"all.zst":     zstdAll(zstd.SpeedDefault, zstd.WithEncoderCRC(checked))(text),
					"segment.zst": zstdAll(zstd.SpeedDefault, zstd.WithEncoderCRC(checked), zstd.WithSingleSegment(true))(text),
					"stream.zst": packed(text, func(w io.Writer) io.WriteCloser {
						e, err := zstd.NewWriter(w, zstd.WithEncoderCRC(checked), zstd.WithEncoderConcurrency(1))
						Expect(err).NotTo(HaveOccurred())
						_ = e.Flush()
						return e
					}),
				} {
					dir, report := fixedTree(t, regular(name, was))
					Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
					now := readBack(t, dir, name)
					var before, after zstd.Header
					Expect(before.Decode([]byte(was))).To(Succeed())
					Expect(after.Decode([]byte(now))).To(Succeed())
					Expect([]any{after.HasFCS, after.FrameContentSize, after.HasCheckSum, after.SingleSegment}).To(
						Equal([]any{before.HasFCS, before.FrameContentSize, before.HasCheckSum, before.SingleSegment}), "%s of %d words", name, words)
					Expect(unpack[".zst"](now)).To(Equal(strings.ReplaceAll(text, string(self), selfNow)), name)
				}
			}
		}
		for _, known := range []bool{true, false} {
			was := packed(script, func(w io.Writer) io.WriteCloser {
				config := lzma.WriterConfig{SizeInHeader: known}
				if known {
					config.Size = int64(len(script))
				}
				z, err := config.NewWriter(w)
				Expect(err).NotTo(HaveOccurred())
				return z
			})
			dir, report := fixedTree(t, regular("a.lzma", was))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			now := readBack(t, dir, "a.lzma")
			Expect(now[5:13]).To(Equal(was[5:13]))
			z, err := lzma.NewReader(strings.NewReader(now))
			Expect(unpacked(z, err)).To(Equal(strings.ReplaceAll(script, string(self), selfNow)))
		}
		for _, config := range []xz.WriterConfig{{CheckSum: xz.CRC32}, {CheckSum: xz.CRC64}, {CheckSum: xz.SHA256}, {NoCheckSum: true}} {
			was := packed(script, func(w io.Writer) io.WriteCloser {
				z, err := config.NewWriter(w)
				Expect(err).NotTo(HaveOccurred())
				return z
			})
			dir, report := fixedTree(t, regular("a.xz", was))
			Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
			now := readBack(t, dir, "a.xz")
			Expect(now[:12]).To(Equal(was[:12]))
			r, err := xz.NewReader(strings.NewReader(now))
			Expect(unpacked(r, err)).To(Equal(strings.ReplaceAll(script, string(self), selfNow)))
		}
	})

	it("is read by the programs that have the formats", func() {
		r := rand.New(rand.NewPCG(5, 6))
		for name, program := range map[string][]string{
			"a.gz":  {"gzip", "-dc"},
			"a.zst": {"zstd", "-dc"},
			"a.br":  {"node", "-e", "process.stdout.write(zlib.brotliDecompressSync(fs.readFileSync(process.argv[1])))"},
		} {
			if _, err := exec.LookPath(program[0]); err != nil {
				continue
			}
			text := code(r, 3000)
			was := map[string]func(string) string{"a.gz": gzipAt(1), "a.zst": zstdAll(zstd.SpeedFastest), "a.br": brotliAt(2)}[name](text)
			dir, _ := fixedTree(t, regular(name, was))
			Expect(readBack(t, dir, name)).To(HaveLen(len(was)))
			out, err := exec.Command(program[0], append(program[1:], filepath.Join(dir, name))...).Output()
			Expect(err).NotTo(HaveOccurred())
			Expect(string(out)).To(Equal(strings.ReplaceAll(text, string(self), selfNow)), name)
		}
	})

	// served is a tree with files that cannot keep their lengths, and what a server has of them.
	served := func(packed, other string, length, otherLength int) []file {
		return []file{
			regular("App.staticwebassets.endpoints.json", fmt.Sprintf(`{"Endpoints": [{"Route": "js/site.js", "AssetFile": "js/a.bin", `+
				`"Selectors": [], "ResponseHeaders": [{"Name": "Content-Length", "Value": "%d"}]}, {"AssetFile": "js/data.bin", "Value": "%d"}]}`, length, length)),
			regular("public/a.bin", packed), regular("public/de/a.bin", other),
			regular("server/index.mjs", fmt.Sprintf(`const assets = {"/a.bin": {"type": "text/javascript", "size": %d, `+
				`"path": "../public/a.bin"}, "/de/a.bin": {size:%d,path:"../public/de/a.bin"}, "/data.bin": {"size": %d}};`, length, otherLength, length)),
			regular("server/other.mjs", fmt.Sprintf("const size = %d;\n", length)),
		}
	}
	// term is of a format that has nothing to fill a file up with.
	term := func(text string) string {
		return "\x83P" + string(binary.BigEndian.AppendUint32(nil, uint32(len(text)))) + zlibbed(text)
	}

	it("puts right what a server has on record of a length that cannot be kept", func() {
		files := served(term(script), term(script+noise(3)), len(term(script)), len(term(script+noise(3))))
		dir, report := made(t, files...)
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		one, two := readBack(t, dir, "public/a.bin"), readBack(t, dir, "public/de/a.bin")
		Expect(len(one)).NotTo(Equal(len(term(script))))
		for i, want := range served(one, two, len(one), len(two)) {
			was := string(files[i].contents)
			now := readBack(t, dir, want.Path)
			switch want.Path {
			case "server/other.mjs":
				Expect(now).To(Equal(was))
			case "server/index.mjs", "App.staticwebassets.endpoints.json": // the last is of another file
				at := strings.LastIndex(was, "data.bin")
				Expect(now).To(Equal(string(want.contents)[:at] + was[at:]))
			}
		}
	})

	it("refuses one with another number of digits", func() {
		for pad := range 200 {
			was := term(noise(pad) + script)
			if n := len(was); n > 99 && n < 110 {
				dir, report := made(t, served(was, "other", n, n)...)
				if len(readBack(t, dir, "public/a.bin")) > 99 {
					continue
				}
				Expect(report.Blockers).To(ContainElement(And(HaveField("File", "server/index.mjs"), HaveField("Kind", relocate.Checksummed),
					HaveField("Detail", ContainSubstring("the length of a file")))))
				return
			}
		}
		t.Fatal("no file was of that kind")
	})
}
