package decompress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	ulikunitz "github.com/ulikunitz/xz"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
)

func TestMemoryLimit(t *testing.T) {
	spec.Run(t, "the memory of decoders", testMemory)
}

func testMemory(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() {
		RegisterTestingT(t)
		limit, cores := debug.SetMemoryLimit(math.MaxInt64), runtime.GOMAXPROCS(2)
		t.Cleanup(func() {
			debug.SetMemoryLimit(limit)
			runtime.GOMAXPROCS(cores)
		})
	})

	group := func(name, text string) fstest.MapFS { return fstest.MapFS{name: {Data: []byte(text)}} }

	it("is enough for a window of xz -6 for each core, and an eighth of what the process may have", func() {
		Expect(defaultMemory(fstest.MapFS{})).To(BeEquivalentTo(2 * (8<<20 + 256<<10)))
		Expect(defaultMemory(group("memory.max", "67108864\n"))).To(BeEquivalentTo(8 << 20))
		debug.SetMemoryLimit(64 << 20)
		Expect(DefaultMemory()).To(BeEquivalentTo(8 << 20))
	})

	it("goes by the limit of a control group of either version", func() {
		const unlimited = "9223372036854771712\n"
		Expect(allowedMemory(group("memory.max", "1048576\n"))).To(BeEquivalentTo(1 << 20))
		Expect(allowedMemory(group("memory/memory.limit_in_bytes", "1048576\n"))).To(BeEquivalentTo(1 << 20))
		for _, none := range []fstest.MapFS{
			{}, group("memory.max", "max\n"), group("memory/memory.limit_in_bytes", unlimited),
		} {
			Expect(allowedMemory(none)).To(BeNumerically(">", 1<<40))
		}
	})
}

func TestSpareDecoders(t *testing.T) {
	RegisterTestingT(t)
	const mib = 1 << 20
	m := &windows{budget: memory.NewBudget(10 * mib)}
	leased := func(n int64) *lease {
		l := m.lease(t.Context())
		Expect(l.grow(n)).To(Succeed())
		return &l
	}
	for class, bytes := range []int64{4 * mib, 2 * mib, 4 * mib} {
		m.keep(class, bytes, class*10)
	}
	m.keep(3, mib, 30) // one too many: the first goes
	Expect(m.take(0)).To(BeNil())
	Expect(m.kept).To(BeEquivalentTo(7 * mib))

	// What is in use has its memory before what waits, which goes by when it was used last.
	one := leased(4 * mib)
	Expect(m.take(2)).To(Equal(20), "4 MiB are in use, 3 wait")
	two := leased(5 * mib)
	Expect(m.take("nothing")).To(BeNil())
	Expect(m.take(1)).To(BeNil())
	Expect(m.take(3)).To(Equal(30))
	m.keep(3, 2*mib, 31)
	Expect(m.take(3)).To(BeNil(), "there was room for 1 MiB")
	one.release()
	two.release()
	m.keep(3, 10*mib, 32)
	Expect(m.take(3)).To(Equal(32))
	Expect(m.held + m.kept).To(BeZero())
}

// free reports whether all memory was given back.
func free(t *testing.T, w *windows) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	all, err := w.budget.Share().Take(ctx, w.budget.Size())
	all.Return()
	return err == nil
}

// parts gives one after the other, each but the first when it is let.
type parts struct {
	parts [][]byte
	let   chan struct{}
}

func (s *parts) Read(p []byte) (int, error) {
	if len(s.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.parts[0])
	s.parts = s.parts[1:]
	if s.let != nil && len(s.parts) == 0 {
		<-s.let
	}
	return n, nil
}

// TestFramesWhoseWindowsGrowWaitForNobodyWhoWaitsForThem has a Content-Encoding ask for a larger window in its second frame,
// while others hold all of that memory and wait for that of the file beneath which it is undone.
func TestFramesWhoseWindowsGrowWaitForNobodyWhoWaitsForThem(t *testing.T) {
	RegisterTestingT(t)
	frame := func(window byte, text string) []byte {
		size := len(text)<<3 | 1 // a raw block, the last
		return append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, window << 3, byte(size), byte(size >> 8), byte(size >> 16)}, text...)
	}
	const small, usual = 0, 13 // windows of 1 KiB and 8 MiB
	file := string(frame(usual, strings.Repeat("contents ", 20)))
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errors.New("they wait for each other"))
	defer cancel()
	p := NewPool(usualWindow) // one file at a time
	open := func(r io.Reader) error {
		ctx := p.Share(ctx)
		content, err := p.Encoding(ctx, "zstd", r)
		if err != nil {
			return err
		}
		defer content.Close()
		nar, err := p.Reader(ctx, "zstd", content, 0)
		if err != nil {
			return err
		}
		defer nar.Close()
		_, err = io.Copy(io.Discard, nar)
		return err
	}
	ended := make(chan error)
	grows := &parts{parts: [][]byte{frame(small, file[:60]), frame(usual, file[60:])}, let: make(chan struct{})}
	go func() { ended <- open(grows) }()
	time.Sleep(50 * time.Millisecond) // until it has the memory for a file
	for range 3 {
		go func() { ended <- open(bytes.NewReader(frame(usual, file))) }()
	}
	time.Sleep(50 * time.Millisecond)
	close(grows.let)
	for range 4 {
		Expect(<-ended).To(Succeed())
	}
	Expect(free(t, p.files)).To(BeTrue())
	Expect(free(t, p.pages)).To(BeTrue())
}

func TestXZReservesAtOnceWhatItHolds(t *testing.T) {
	RegisterTestingT(t)
	contents := make([]byte, 9<<20)
	var packed bytes.Buffer
	w, err := ulikunitz.WriterConfig{DictCap: 8 << 20}.NewWriter(&packed)
	Expect(err).NotTo(HaveOccurred())
	Expect(w.Write(contents)).To(Equal(len(contents)))
	Expect(w.Close()).To(Succeed())

	p := NewPool(2 * usualWindow)
	r, err := p.Reader(t.Context(), "xz", &packed, int64(len(contents)))
	Expect(err).NotTo(HaveOccurred())
	reserved := r.(*xzReader).lease.n
	// Who has to wait for more holds its window meanwhile, which nobody counts.
	rest, err := p.files.budget.Share().Take(t.Context(), 2*usualWindow-reserved)
	Expect(err).NotTo(HaveOccurred())
	defer rest.Return()
	Expect(io.ReadAll(r)).To(HaveLen(len(contents)))
	Expect(r.(*xzReader).lease.n).To(Equal(reserved))
	Expect(r.(*xzReader).z.Window()).To(BeNumerically("<=", reserved))
	Expect(r.Close()).To(Succeed())
	Expect(p.files.spare).To(HaveLen(1))
}

func TestZstdKeepsDecodersOfOneMiBAndFromEightOn(t *testing.T) {
	RegisterTestingT(t)
	for window, want := range map[int64]zstdClass{1: 20, 1 << 20: 20, 1<<20 + 1: 23, 8 << 20: 23, 8<<20 + 1: 24} {
		Expect(zstdClassOf(window)).To(Equal(want), "%d bytes", window)
	}
}

func TestXZReservesOneMiBForASmallFile(t *testing.T) {
	RegisterTestingT(t)
	p := NewPool(64 << 20)
	for size, want := range map[int64]int64{1: 1 << 20, 1 << 20: 1 << 20, 1<<20 + 1: 8 << 20, 0: 8 << 20} {
		r, err := p.Reader(t.Context(), "xz", nil, size)
		Expect(err).NotTo(HaveOccurred())
		Expect(r.(*xzReader).lease.n).To(Equal(want+windowSlack), "%d bytes", size)
		Expect(r.Close()).To(Succeed())
	}
}
