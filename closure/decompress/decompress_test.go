package decompress

import (
	"bytes"
	stdcontext "context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os/exec"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

func TestDecompress(t *testing.T) {
	spec.Run(t, "decompress", testDecompress, spec.Report(report.Terminal{}))
}

// packed is data as a program packs it.
func packed(t *testing.T, data []byte, program string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		untested.Skip(t, "there is no %s here", program)
	}
	cmd := exec.Command(program, append([]string{"-c"}, args...)...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	Expect(err).NotTo(HaveOccurred())
	return out
}

func testDecompress(t *testing.T, context spec.G, it spec.S) {
	var pool *Pool
	data := bytes.Repeat([]byte("not all alike, but nearly so. "), 10_000)

	it.Before(func() {
		RegisterTestingT(t)
		pool = NewPool(DefaultMemory())
	})

	unpack := func(name string, file []byte, size int64) ([]byte, error) {
		r, err := pool.Reader(t.Context(), name, bytes.NewReader(file), size)
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
			_, err := pool.Reader(t.Context(), name, nil, 0)
			var unknown *UnknownError
			Expect(errors.As(err, &unknown)).To(BeTrue())
			Expect(unknown.Name).To(Equal(name))
		}
	})

	for _, program := range []string{"xz", "zstd", "gzip", "bzip2"} {
		it("uses its decoders again after success, errors and early ends: "+program, func() {
			file := packed(t, data, program)
			for range 5 {
				Expect(unpack(program, file, int64(len(data)))).To(Equal(data))
				_, err := unpack(program, file[:len(file)-5], 0)
				Expect(err).To(HaveOccurred())
				_, err = unpack(program, []byte("something else entirely"), 0)
				Expect(err).To(HaveOccurred())
				r, err := pool.Reader(t.Context(), program, bytes.NewReader(file), 0)
				Expect(err).NotTo(HaveOccurred())
				Expect(io.ReadFull(r, make([]byte, 100))).To(Equal(100))
				Expect(r.Close()).To(Succeed())
				Expect(r.Close()).To(Succeed())
				_, err = r.Read(make([]byte, 1))
				Expect(err).To(HaveOccurred(), "a closed decoder may be somebody else's")
			}
		})

		it("says that an input which is cut ended too early: "+program, func() {
			file := packed(t, data[:5000], program)
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
		_, err = unpack("xz", packed(t, []byte("x"), "xz", "--lzma2=dict=256MiB"), 0)
		Expect(err).To(MatchError(ContainSubstring("dictionary has 268435456 bytes")))
		Expect(unpack("xz", packed(t, []byte("x"), "xz", "--lzma2=dict=256MiB"), 1)).To(Equal([]byte("x")))
	})

	context("memory", func() {
		var file []byte

		// begin opens a decoder and lets it make its window.
		begin := func(ctx stdcontext.Context, r io.Reader) io.ReadCloser {
			z, err := pool.Reader(ctx, "xz", r, 0)
			Expect(err).NotTo(HaveOccurred())
			Expect(io.ReadFull(z, make([]byte, 1))).To(Equal(1))
			return z
		}
		later := func(ctx stdcontext.Context) chan error {
			done := make(chan error, 1)
			go func() {
				z, err := pool.Reader(ctx, "xz", bytes.NewReader(file), 0)
				if err == nil {
					_, err = io.Copy(io.Discard, z)
					z.Close()
				}
				done <- err
			}()
			return done
		}

		it.Before(func() {
			pool = NewPool(17 << 20)
			file = packed(t, data, "xz") // wants 8 MiB
		})

		it("is had by as many decoders as it is enough for; others wait, as long as anybody wants it", func() {
			first := begin(t.Context(), bytes.NewReader(file))
			second := begin(t.Context(), bytes.NewReader(file))
			defer second.Close()
			ctx, cancel := stdcontext.WithCancelCause(t.Context())
			third, given := later(ctx), errors.New("no longer wanted")
			Consistently(third, 50*time.Millisecond).ShouldNot(Receive())
			cancel(given)
			Eventually(third, 5*time.Second).Should(Receive(MatchError(given)))
			another := later(t.Context())
			Consistently(another, 50*time.Millisecond).ShouldNot(Receive())
			Expect(first.Close()).To(Succeed())
			Eventually(another, 5*time.Second).Should(Receive(Not(HaveOccurred())))
		})

		it("is given back after the end and after errors", func() {
			for _, name := range []string{"xz", "zstd", "br"} {
				_, err := unpack(name, []byte("something else entirely"), 0)
				Expect(err).To(HaveOccurred())
			}
			Expect(unpack("xz", file, 0)).To(Equal(data))
			Expect(unpack("zstd", packed(t, data, "zstd"), 0)).To(Equal(data))
			Expect(free(t, pool.files)).To(BeTrue())
		})

		it("lets a decoder run that wants more than all, alone", func() {
			Expect(unpack("xz", packed(t, data, "xz", "-9"), 0)).To(Equal(data))
		})

		it("is for each frame what that asks for", func() {
			frame := func(header ...byte) []byte {
				return append([]byte{0x28, 0xb5, 0x2f, 0xfd}, append(header, 1, 0, 0)...) // an empty last block
			}
			small, huge, beyond := frame(0, 0), frame(0, 17<<3), frame(0, 18<<3) // windows of 1 KiB, 128 MiB and 256 MiB
			Expect(unpack("zstd", huge, 0)).To(BeEmpty())
			Expect(unpack("zstd", append(small, huge...), 0)).To(BeEmpty())
			_, err := unpack("zstd", append(small, beyond...), 0)
			Expect(err).To(MatchError(zstd.ErrWindowSizeExceeded))
			skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9}, huge...)
			Expect(unpack("zstd", skippable, 0)).To(BeEmpty())
		})

		it("is bounded for Content-Encodings by windows of 8 MiB", func() {
			for window, refusal := range map[byte]error{13 << 3: nil, 13<<3 | 1: zstd.ErrWindowSizeExceeded} { // 8 MiB, and 9
				z, err := pool.Encoding(t.Context(), "zstd", bytes.NewReader([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, window, 1, 0, 0}))
				Expect(err).NotTo(HaveOccurred())
				_, err = io.ReadAll(z)
				Expect(errors.Is(err, refusal)).To(BeTrue(), "%v", err)
				Expect(z.Close()).To(Succeed())
			}
		})
	})

	it("reads zstd frames whose windows grow and shrink", func() {
		text := make([]byte, 12<<20)
		rand.NewChaCha8([32]byte{}).Read(text)
		copy(text[9<<20:], text[:2<<20]) // a match that only the large window reaches
		var file []byte
		for _, part := range []struct {
			to     []byte
			window string
		}{{text[:1000], "--zstd=wlog=10"}, {text, "--zstd=wlog=24"}, {text[:5<<20], "--zstd=wlog=17"}, {text[:70_000], "-19"}} {
			file = append(file, packed(t, part.to, "zstd", part.window, "--no-check")...)
			file = append(file, 0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3) // to skip
		}
		want := slices.Concat(text[:1000], text, text[:5<<20], text[:70_000])
		got, err := unpack("zstd", file, 0)
		Expect(err).NotTo(HaveOccurred())
		Expect(bytes.Equal(got, want)).To(BeTrue())
		got, err = unpack("zstd", append(packed(t, want, "zstd", "-B1MiB"), packed(t, want, "zstd", "--check")...), 0)
		Expect(err).NotTo(HaveOccurred())
		Expect(bytes.Equal(got, append(want, want...))).To(BeTrue())
	})

	it("counts the parts of a zstd file, and gives it as it is", func() {
		frame := func(data []byte, options ...zstd.EOption) []byte {
			w, err := zstd.NewWriter(nil, append(options, zstd.WithEncoderConcurrency(1))...)
			Expect(err).NotTo(HaveOccurred())
			return w.EncodeAll(data, nil)
		}
		one, noise := frame(data), make([]byte, 300<<10) // several blocks, which are not packed
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		skip := []byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}
		for what, c := range map[string]struct {
			file  []byte
			parts int // more than one frame
		}{
			"nothing":                         {nil, 0},
			"a frame":                         {one, 0},
			"a frame without a checksum":      {frame(data, zstd.WithEncoderCRC(false)), 0},
			"a frame of several blocks":       {frame(noise), 0},
			"a frame of one byte, repeated":   {frame(make([]byte, 1<<20)), 0},
			"a frame of nothing":              {frame(nil, zstd.WithZeroFrames(true)), 0},
			"two frames":                      {slices.Concat(one, frame(noise)), 1},
			"three, one of them of nothing":   {slices.Concat(one, frame(nil, zstd.WithZeroFrames(true)), one), 2},
			"one to skip":                     {skip, 1},
			"one to skip before":              {slices.Concat(skip, one), 2},
			"one to skip behind":              {slices.Concat(one, skip), 1},
			"an empty one to skip":            {slices.Concat(one, []byte{0x5f, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}), 1},
			"one to skip that is a frame":     {slices.Concat(one, []byte{0x50, 0x2a, 0x4d, 0x18, byte(len(one)), byte(len(one) >> 8), 0, 0}, one), 1},
			"something that is none behind":   {slices.Concat(one, []byte("something else that is longer than a header")), 0},
			"something that is none at first": {[]byte("something else that is longer than a header"), 0},
		} {
			for _, in := range []io.Reader{bytes.NewReader(c.file), iotest.OneByteReader(bytes.NewReader(c.file))} {
				parts := 0
				Expect(io.ReadAll(ZstdParts(in, func() { parts++ }))).To(Equal(append([]byte{}, c.file...)), what)
				Expect(parts).To(Equal(c.parts), what)
			}
		}
		for _, end := range []int{1, 4, 5, len(one) / 2, len(one) - 1, len(one) + 3, len(one) + 9} {
			parts := 0
			got, err := io.ReadAll(ZstdParts(bytes.NewReader(slices.Concat(one, skip)[:end]), func() { parts++ }))
			decoder, newErr := zstd.NewReader(bytes.NewReader(got), zstd.WithDecoderConcurrency(1))
			Expect(newErr).NotTo(HaveOccurred())
			_, decodeErr := io.Copy(io.Discard, decoder)
			decoder.Close()
			Expect(errors.Join(err, decodeErr)).To(HaveOccurred(), "cut after %d bytes", end)
		}
	})

	it("reads deflate with the header of zlib and without", func() {
		var wrapped, raw bytes.Buffer
		w := zlib.NewWriter(&wrapped)
		_, _ = w.Write(data)
		Expect(w.Close()).To(Succeed())
		f, err := flate.NewWriter(&raw, 6)
		Expect(err).NotTo(HaveOccurred())
		_, _ = f.Write(data)
		Expect(f.Close()).To(Succeed())
		for _, file := range [][]byte{wrapped.Bytes(), raw.Bytes()} {
			z, err := pool.Encoding(t.Context(), "deflate", bytes.NewReader(file))
			Expect(err).NotTo(HaveOccurred())
			Expect(io.ReadAll(z)).To(Equal(data))
			Expect(z.Close()).To(Succeed())
			z, err = pool.Encoding(t.Context(), "deflate", bytes.NewReader(file[:len(file)-5]))
			Expect(err).NotTo(HaveOccurred())
			_, err = io.ReadAll(z)
			Expect(err).To(MatchError(io.ErrUnexpectedEOF))
		}
	})
}

func TestWindows(t *testing.T) {
	spec.Run(t, "windows", testWindows, spec.Report(report.Terminal{}))
}

func testWindows(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("are those of RFC 7932, 9.1", func() {
		for first, bits := range map[byte]int{
			0: 16, 0b0000001: 17, 0b0011: 18, 0b0101: 19, 0b1111: 24, 0b0100001: 10, 0b1110001: 15, 0b0010001: 17, 0b1111_1110: 16,
		} {
			Expect(BrotliWindow(first)).To(BeEquivalentTo(1<<bits), "%b", first)
		}
	})

	it("are those of RFC 8878, 3.1.1.1, of a single segment all of it", func() {
		Expect(ZstdWindow(zstd.Header{WindowSize: 8 << 20})).To(BeEquivalentTo(8 << 20))
		Expect(ZstdWindow(zstd.Header{SingleSegment: true, FrameContentSize: 77})).To(BeEquivalentTo(77))
		Expect(ZstdWindow(zstd.Header{WindowSize: math.MaxUint64})).To(BeEquivalentTo(int64(math.MaxInt64)))
	})
}
