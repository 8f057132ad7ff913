package xz

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
)

func TestReader(t *testing.T) { spec.Run(t, "xz reader", testReader, spec.Report(report.Terminal{})) }

func testReader(t *testing.T, context spec.G, it spec.S) {
	small := Options{Size: 3000}

	it.Before(func() { RegisterTestingT(t) })

	context("what xz writes", func() {
		for _, kind := range []string{"mixed", "noise", "zeros", "periods"} {
			for _, args := range [][]string{
				{"-0"}, {"-6"}, {"-9e"}, {"--check=none"}, {"--check=crc32"}, {"--check=sha256"},
				{"--block-size=50000"}, {"-T2", "--block-size=70000"},
				{"--lzma2=dict=4KiB"}, {"--lzma2=dict=5KiB,mf=hc3,nice=4"}, {"--lzma2=dict=64KiB,lc=0,lp=4,pb=4"},
				{"--lzma2=lc=4,lp=0,pb=0"}, {"--lzma2=lc=2,lp=2,pb=1"}, {"--lzma2=lc=0,lp=0,nice=273"},
			} {
				it("reads "+kind+" packed with "+args[0], func() {
					for _, size := range []int{0, 1, 4096, 300_001} {
						data := sample(kind, size)
						file := pack(t, data, args...)
						for _, options := range []Options{{SkipCheck: true}, {Size: int64(size)}} {
							got, err := unpack(file, options)
							Expect(err).NotTo(HaveOccurred())
							Expect(bytes.Equal(got, data)).To(BeTrue())
						}
						got, err := unpack(file, Options{Size: 100})
						if size > 100 {
							Expect(err).To(MatchError(ErrSize))
							Expect(got).To(Equal(data[:101]), "one byte too much shows that there is more")
						}
					}
				})
			}
		}

		it("reads several chunks and turns of the dictionary", func() {
			data := append(sample("mixed", 3<<20), sample("noise", 1<<20)...)
			data = append(data, sample("periods", 3<<20)...)
			got, err := unpack(pack(t, data, "--lzma2=preset=0,dict=1MiB"), Options{})
			Expect(err).NotTo(HaveOccurred())
			Expect(bytes.Equal(got, data)).To(BeTrue())
		})
	})

	it("reads concatenated streams with padding between and after them", func() {
		one, two := pack(t, []byte("one, "), "-0"), pack(t, []byte("two"), "--check=sha256")
		empty := pack(t, nil)
		file := bytes.Join([][]byte{one, make([]byte, 8), empty, two, make([]byte, 4)}, nil)
		Expect(unpack(file, Options{})).To(Equal([]byte("one, two")))
	})

	it("refuses what follows a stream and is none", func() {
		for _, rest := range []string{"x", "\x00\x00\x00", "not a stream at all"} {
			_, err := unpack(append(pack(t, []byte("data")), rest...), Options{})
			Expect(err).To(HaveOccurred(), "%q", rest)
		}
	})

	it("gives the same through any size of reads and writes", func() {
		data := sample("mixed", 200_000)
		file := pack(t, data)
		Expect(iotest.TestReader(NewReader(iotest.OneByteReader(bytes.NewReader(file)), Options{}), data)).To(Succeed())
		var out bytes.Buffer
		Expect(NewReader(iotest.HalfReader(bytes.NewReader(file)), Options{}).WriteTo(&out)).To(BeEquivalentTo(len(data)))
		Expect(bytes.Equal(out.Bytes(), data)).To(BeTrue())
	})

	it("is ready for another input after Reset, whatever happened before", func() {
		data := sample("mixed", 100_000)
		file := pack(t, data)
		r := NewReader(nil, Options{})
		for _, cut := range []int{0, 5, 1000, 20_000} {
			r.Reset(bytes.NewReader(file[:cut]), Options{})
			_, err := io.ReadAll(r)
			Expect(err).To(HaveOccurred())
			r.Reset(bytes.NewReader(file), Options{})
			Expect(io.ReadAll(r)).To(Equal(data))
		}
	})

	it("says of every cut that the input ended too early", func() {
		file := pack(t, sample("mixed", 3000), "--block-size=1000")
		for cut := 1; cut < len(file); cut++ {
			_, err := unpack(file[:cut], small)
			Expect(err).To(MatchError(io.ErrUnexpectedEOF), "cut at %d", cut)
		}
	})

	it("notices every changed bit", func() {
		data := sample("mixed", 1500)
		file := pack(t, data, "--block-size=1000")
		for i := range file {
			for bit := range 8 {
				changed := bytes.Clone(file)
				changed[i] ^= 1 << bit
				got, err := unpack(changed, small)
				Expect(err != nil || bytes.Equal(got, data)).To(BeTrue(), "byte %d bit %d", i, bit)
			}
		}
	})

	it("passes the error of its input on", func() {
		cause := errors.New("the line is cut")
		file := pack(t, sample("mixed", 100_000))
		_, err := unpack(file, Options{})
		Expect(err).NotTo(HaveOccurred())
		r := NewReader(io.MultiReader(bytes.NewReader(file[:5000]), iotest.ErrReader(cause)), Options{})
		_, err = io.ReadAll(r)
		Expect(err).To(MatchError(cause))
	})

	it("refuses other formats, filters and too large dictionaries, each by its own error", func() {
		_, err := unpack([]byte("<html>not xz</html>"), Options{})
		Expect(err).To(MatchError(ErrFormat))
		_, err = unpack(nil, Options{})
		Expect(err).To(MatchError(io.ErrUnexpectedEOF))
		_, err = unpack(pack(t, []byte("data"), "--x86", "--lzma2"), Options{})
		Expect(err).To(MatchError(ErrFilter))
		_, err = unpack(pack(t, []byte("data"), "--lzma2=dict=64MiB"), Options{MaxWindow: 1 << 20})
		var window *WindowError
		Expect(errors.As(err, &window)).To(BeTrue())
		Expect(window.Want).To(BeEquivalentTo(64 << 20))
	})

	it("lets a dictionary grow where it does not know how large the output is", func() {
		for size, window := range map[int]int{1000: 300 << 10, 1 << 20: 1200 << 10, 3 << 20: 2200 << 10} {
			data := sample("mixed", size)
			r := NewReader(bytes.NewReader(pack(t, data, "--lzma2=preset=0,dict=2MiB")), Options{})
			got, err := io.ReadAll(r)
			Expect(err).NotTo(HaveOccurred())
			Expect(bytes.Equal(got, data)).To(BeTrue())
			Expect(r.Window()).To(BeNumerically("<", window))
		}
	})

	it("makes no larger dictionary than the output needs", func() {
		r := NewReader(bytes.NewReader(pack(t, []byte("data"), "-9")), Options{Size: 4, MaxWindow: 1 << 20})
		Expect(io.ReadAll(r)).To(Equal([]byte("data")))
		Expect(r.Window()).To(BeNumerically("<", 10<<10))
	})
}
