package decompress

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
)

func TestDecompress(t *testing.T) {
	spec.Run(t, "decompress", testDecompress, spec.Report(report.Terminal{}))
}

// packed is data as a program packs it.
func packed(data []byte, program string, args ...string) []byte {
	cmd := exec.Command(program, append([]string{"-c"}, args...)...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	Expect(err).NotTo(HaveOccurred(), "the tests want the program "+program)
	return out
}

func testDecompress(t *testing.T, context spec.G, it spec.S) {
	var pool *Pool
	data := bytes.Repeat([]byte("not all alike, but nearly so. "), 10_000)

	it.Before(func() {
		RegisterTestingT(t)
		var err error
		pool, err = NewPool(Options{})
		Expect(err).NotTo(HaveOccurred())
	})

	unpack := func(name string, file []byte, size int64) ([]byte, error) {
		r, err := pool.Reader(name, bytes.NewReader(file), size)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}

	it("knows what it can read, and names what it cannot", func() {
		for _, name := range []string{"", "bzip2", "xz", "zstd", "br", "gzip", "none"} {
			Expect(Known(name)).To(BeTrue(), name)
		}
		for _, name := range []string{"compress", "grzip", "lrzip", "lz4", "lzip", "lzma", "lzop", "ZSTD"} {
			Expect(Known(name)).To(BeFalse(), name)
			_, err := pool.Reader(name, nil, 0)
			var unknown *UnknownError
			Expect(errors.As(err, &unknown)).To(BeTrue())
			Expect(unknown.Name).To(Equal(name))
		}
	})

	for _, program := range []string{"xz", "zstd", "gzip", "bzip2"} {
		it("uses its decoders again after success, errors and early ends: "+program, func() {
			file := packed(data, program)
			for range 5 {
				Expect(unpack(program, file, int64(len(data)))).To(Equal(data))
				_, err := unpack(program, file[:len(file)-5], 0)
				Expect(err).To(HaveOccurred())
				_, err = unpack(program, []byte("something else entirely"), 0)
				Expect(err).To(HaveOccurred())
				r, err := pool.Reader(program, bytes.NewReader(file), 0)
				Expect(err).NotTo(HaveOccurred())
				Expect(io.ReadFull(r, make([]byte, 100))).To(Equal(100))
				Expect(r.Close()).To(Succeed())
				Expect(r.Close()).To(Succeed())
				_, err = r.Read(make([]byte, 1))
				Expect(err).To(HaveOccurred(), "a closed decoder may be somebody else's")
			}
		})

		it("says that an input which is cut ended too early: "+program, func() {
			file := packed(data[:5000], program)
			for cut := 1; cut < len(file); cut += 7 {
				_, err := unpack(program, file[:cut], 0)
				Expect(err).To(HaveOccurred(), "cut at %d", cut)
				Expect(err).NotTo(Equal(io.EOF))
			}
		})
	}

	it("refuses a window that is out of bounds before making it", func() {
		_, err := unpack("zstd", []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xa0, 1, 0, 0}, 0)
		Expect(err).To(MatchError(zstd.ErrWindowSizeExceeded))
		_, err = unpack("xz", packed([]byte("x"), "xz", "--lzma2=dict=256MiB"), 0)
		Expect(err).To(MatchError(ContainSubstring("dictionary has 268435456 bytes")))
		Expect(unpack("xz", packed([]byte("x"), "xz", "--lzma2=dict=256MiB"), 1)).To(Equal([]byte("x")))
	})

	context("memory", func() {
		var file []byte

		// begin opens a decoder and lets it make its window.
		begin := func(r io.Reader) io.ReadCloser {
			z, err := pool.Reader("xz", r, 0)
			Expect(err).NotTo(HaveOccurred())
			Expect(io.ReadFull(z, make([]byte, 1))).To(Equal(1))
			return z
		}
		later := func() chan error {
			done := make(chan error)
			go func() {
				_, err := unpack("xz", file, 0)
				done <- err
			}()
			return done
		}

		it.Before(func() {
			var err error
			pool, err = NewPool(Options{Memory: 12 << 20})
			Expect(err).NotTo(HaveOccurred())
			file = packed(data, "xz") // wants 8 MiB
		})

		it("is had by a decoder for each core; others wait for each other", func() {
			var first io.Closer
			for range runtime.GOMAXPROCS(0) {
				first = begin(bytes.NewReader(file))
			}
			another := later()
			Consistently(another, 50*time.Millisecond).ShouldNot(Receive())
			Expect(first.Close()).To(Succeed())
			Eventually(another, 5*time.Second).Should(Receive(Not(HaveOccurred())))
		})

		it("lets one decoder run that wants more than all", func() {
			Expect(unpack("xz", packed(data, "xz", "-9"), 0)).To(Equal(data))
		})

		it("is lent out by those whose input does not come", func() {
			text := make([]byte, 1<<20) // does not get small, so that a part of it can be unpacked
			rand.NewChaCha8([32]byte{}).Read(text)
			large := packed(text, "xz")
			silent, end := io.Pipe()
			defer end.Close()
			for range runtime.GOMAXPROCS(0) {
				z := begin(io.MultiReader(bytes.NewReader(large[:len(large)/2]), silent))
				go func() { _, _ = io.Copy(io.Discard, z) }()
			}
			Eventually(later(), 10*time.Second).Should(Receive(Not(HaveOccurred())))
		})

		it("is never more than was reserved, whatever a file's later frames ask for", func() {
			frame := func(header ...byte) []byte {
				return append([]byte{0x28, 0xb5, 0x2f, 0xfd}, append(header, 1, 0, 0)...) // an empty last block
			}
			small, huge := frame(0, 0), frame(0, 17<<3) // windows of 1 KiB and 128 MiB
			Expect(unpack("zstd", huge, 0)).To(BeEmpty())
			_, err := unpack("zstd", append(small, huge...), 0)
			Expect(err).To(MatchError(zstd.ErrWindowSizeExceeded))
			skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9}, huge...)
			Expect(unpack("zstd", skippable, 0)).To(BeEmpty())
		})

		it("is bounded for Content-Encodings", func() {
			huge := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, 1, 0, 0}
			for _, open := range []func(string, io.Reader) (io.ReadCloser, error){pool.Encoding, pool.Answer} {
				z, err := open("zstd", bytes.NewReader(huge))
				Expect(err).NotTo(HaveOccurred())
				_, err = io.ReadAll(z)
				Expect(err).To(MatchError(zstd.ErrWindowSizeExceeded))
				Expect(z.Close()).To(Succeed())
			}
		})
	})
}
