package relocate_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// blocks writes each Write as a block with a header before it.
type blocks struct {
	next   io.Writer
	header func(n int) []byte
}

func (b *blocks) Write(p []byte) (int, error) {
	if _, err := b.next.Write(b.header(len(p))); err != nil {
		return 0, err
	}
	return b.next.Write(p)
}

// zstdOf begins a zstd frame, with a window of 1<<windowLog bytes, of what is written in pieces of up to 128 KiB.
func zstdOf(w io.Writer, windowLog int) io.Writer {
	_, _ = w.Write([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, byte(windowLog-10) << 3})
	return &blocks{w, func(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)<<3)[:3] }}
}

// xzOf begins an .xz file, with a window of 1<<windowLog bytes, of what is written in pieces of up to 64 KiB.
func xzOf(w io.Writer, windowLog int) io.Writer {
	sum := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }
	_, _ = io.WriteString(w, "\xfd7zXZ\x00")
	_, _ = w.Write(sum([]byte{0, 0}))
	_, _ = w.Write(sum([]byte{2, 0, 0x21, 1, byte(2 * (windowLog - 12)), 0, 0, 0}))
	control := byte(1)
	return &blocks{w, func(n int) []byte {
		header := []byte{control, byte((n - 1) >> 8), byte(n - 1)}
		control = 2
		return header
	}}
}

// contained is a file that write writes.
type contained struct {
	name  string
	write func(io.Writer)
}

// sendTo sends the file to a rewriter.
func (c contained) sendTo(rewriter *relocate.Rewriter) error {
	var size counter
	c.write(&size)
	if err := rewriter.Entry(&nar.Entry{Path: c.name, Kind: nar.Regular, Size: int64(size)}); err != nil {
		return err
	}
	c.write(rewriter)
	return nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// highWater samples the heap in use at what passes by.
type highWater struct {
	mutex     sync.Mutex
	until     int
	low, high uint64
}

func (h *highWater) sample(n int) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.until -= n; h.until > 0 {
		return
	}
	h.until = 12 << 20
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	if h.low == 0 {
		h.low = now.HeapInuse
	}
	h.high = max(h.high, now.HeapInuse)
}

func testRoom(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	chunk := bytes.Repeat([]byte("Lorem ipsum dolor sit amet. 3210 "), 1800) // nearly 64 KiB
	fill := func(w io.Writer, size int) {
		for ; size > 0; size -= len(chunk) {
			_, _ = w.Write(chunk)
		}
	}

	it("keeps to its memory however many streams want large windows at once", func() {
		const streams, size = 12, 24 << 20
		l := view(t)
		var water highWater
		water.sample(0)
		var running sync.WaitGroup
		reports := make([]relocate.Report, streams)
		for i := range streams {
			file := contained{"run.zst", func(w io.Writer) { fill(zstdOf(w, 27), size) }}
			switch i % 4 {
			case 1:
				file = contained{"run.xz", func(w io.Writer) { fill(xzOf(w, 26), size) }}
			case 2:
				file = contained{"xz.zst", func(w io.Writer) { fill(xzOf(zstdOf(w, 26), 26), size) }}
			case 3:
				file = contained{"small.xz", func(w io.Writer) { fill(xzOf(w, 23), size) }}
			}
			running.Go(func() {
				rewriter := l.Rewrite(self, []storepath.Path{dep}, sampled{discard{}, &water})
				if file.sendTo(rewriter) == nil && rewriter.Close() == nil {
					reports[i] = rewriter.Report()
				}
			})
		}
		running.Wait()
		for _, report := range reports {
			Expect(report.Blockers).To(BeEmpty())
		}
		// One of the large windows at a time, and the one before if it is not collected yet.
		Expect(water.high - water.low).To(BeNumerically("<", 400<<20))
		Expect(water.high-water.low).To(BeNumerically(">", 64<<20), "there was no large window")
	})

	it("waits for nobody who waits for it, where a NAR asks for more memory amid a file that has much", func() {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errors.New("they wait for each other"))
		defer cancel()
		const small, usual, large = 0, 13, 17 // windows of 1 KiB, 8 and 128 MiB
		frame := func(window byte, contents []byte) []byte {
			b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, window << 3}
			for blocks := slices.Collect(slices.Chunk(contents, 1<<10)); len(blocks) > 0; blocks = blocks[1:] {
				size := len(blocks[0]) << 3 // of a raw block
				if len(blocks) == 1 {
					size |= 1
				}
				b = append(append(b, byte(size), byte(size>>8), byte(size>>16)), blocks[0]...)
			}
			return b
		}
		var archive bytes.Buffer
		file := frame(large, make([]byte, 4<<20))
		w := nar.NewWriter(&archive)
		Expect(w.Entry(&nar.Entry{Kind: nar.Directory})).To(Succeed())
		Expect(w.Entry(&nar.Entry{Path: "a.zst", Kind: nar.Regular, Size: int64(len(file))})).To(Succeed())
		_, err := w.Write(file)
		Expect(err).NotTo(HaveOccurred())
		Expect(w.Close()).To(Succeed())

		l, pool := view(t), decompress.NewPool(10<<20)
		ended := make(chan error)
		unpack := func(r io.Reader) {
			ctx := pool.Share(ctx)
			plain, err := pool.Reader(ctx, "zstd", r, 0)
			if err == nil {
				rewriter := l.Rewrite(self, nil, discard{})
				rewriter.SetContext(ctx)
				err = errors.Join(nar.Copy(rewriter, nar.NewReader(plain), make([]byte, 32<<10)), plain.Close())
				rewriter.Discard()
			}
			ended <- err
		}
		r, first := io.Pipe()
		go unpack(r)
		half := archive.Len() / 2
		_, err = first.Write(frame(small, archive.Bytes()[:half]))
		Expect(err).NotTo(HaveOccurred())
		go unpack(bytes.NewReader(frame(usual, archive.Bytes())))
		time.Sleep(200 * time.Millisecond) // until it wants as much, too
		_, err = first.Write(frame(usual, archive.Bytes()[half:]))
		Expect(err).NotTo(HaveOccurred())
		Expect(first.Close()).To(Succeed())
		Expect(<-ended).To(Succeed())
		Expect(<-ended).To(Succeed())
	})

	it("lets a file that is rewritten have a large window in what cannot be", func() {
		var window strings.Builder
		_, _ = io.WriteString(zstdOf(&window, 27), script)
		member := window.String()
		archive := fmt.Sprintf("!<arch>\n%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", "data.tar.zst/", 1, 0, 0, 0o644, len(member), member)
		_, report := fixedTree(t, regular("a.gz", gzipped(archive)))
		Expect(report.Blockers).To(ContainElement(HaveField("Detail", ContainSubstring("the hash of"))))
	})

	it("finds what is behind large windows, and says so where there are too many of them", func() {
		reference := func(w io.Writer) { _, _ = io.WriteString(w, script) }
		for _, c := range []struct {
			contained
			kind   relocate.Kind
			detail string
		}{
			{contained{"a.zst", func(w io.Writer) { reference(zstdOf(w, 27)) }}, relocate.Compressed, "zstd: the hash of"},
			{contained{"a.xz", func(w io.Writer) { reference(xzOf(w, 27)) }}, relocate.Compressed, "xz: the hash of"},
			{contained{"a.xz.zst", func(w io.Writer) { reference(xzOf(zstdOf(w, 26), 26)) }}, relocate.Compressed,
				"zstd: xz: the hash of"},
			{contained{"b.xz.zst", func(w io.Writer) { reference(xzOf(zstdOf(w, 27), 23)) }}, relocate.Opaque,
				"zstd: xz: decoding it takes more than 128 MiB"},
			{contained{"b.zst", func(w io.Writer) { reference(zstdOf(w, 28)) }}, relocate.Opaque,
				"zstd: decoding it takes more than 128 MiB"},
			{contained{"b.xz", func(w io.Writer) { reference(xzOf(w, 28)) }}, relocate.Opaque, "xz: decoding it takes more"},
			{contained{"b.lzma", func(w io.Writer) {
				_, _ = io.WriteString(w, "\x5d\x00\x00\x00\x10"+decoded(scriptLZMA)[5:])
			}}, relocate.Opaque, "lzma: decoding it takes more"},
		} {
			rewriter := view(t).Rewrite(self, nil, discard{})
			Expect(c.sendTo(rewriter)).To(Succeed())
			Expect(rewriter.Close()).To(Succeed())
			Expect(relocate.WithPending(rewriter.Report()).Blockers).To(ContainElement(And(
				HaveField("Kind", c.kind), HaveField("Detail", ContainSubstring(c.detail)),
			)), c.name)
		}
	})

	it("lets the next stream have its large window when one ends, or is given up", func() {
		l := view(t)
		large := contained{"a.zst", func(w io.Writer) { fill(zstdOf(w, 27), 1<<20) }}
		first := l.Rewrite(self, nil, discard{})
		Expect(first.Entry(&nar.Entry{Path: "a.zst", Kind: nar.Regular, Size: 1 << 30})).To(Succeed())
		large.write(first)
		for _, end := range []func(){first.Discard, func() {}} {
			next := l.Rewrite(self, nil, discard{})
			ended := make(chan error)
			go func() { ended <- large.sendTo(next) }()
			end()
			Expect(<-ended).To(Succeed())
			Expect(next.Close()).To(Succeed())
		}
	})

	it("keeps no file for an inspection that is larger than it may, and says so where that has to be looked at", func() {
		plain, archived := noise(40<<20), elf(noise(40<<20)+zipped(zip.Deflate, "a", script))
		for most, blocking := range map[int64]int{1 << 20: 1, 64 << 20: 0} {
			i := view(t).Inspect(self, []storepath.Path{dep}, t.TempDir())
			i.KeepAtMost(most)
			send(t, i, archive(regular("a", plain), regular("b", archived), regular("c", elf(zipped(zip.Deflate, "a", script)))), whole)
			Expect(i.Report().Blocking).To(Equal(blocking), "%v", i.Report().Blockers)
			Expect(i.Report().Fixed).To(HaveLen(1))
			i.Discard()
		}
	})
}

// sampled is a sink that has the heap looked at.
type sampled struct {
	nar.Sink
	water *highWater
}

func (s sampled) Write(p []byte) (int, error) {
	s.water.sample(len(p))
	return s.Sink.Write(p)
}
