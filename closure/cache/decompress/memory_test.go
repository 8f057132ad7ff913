package decompress

import (
	"bytes"
	"io"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	ulikunitz "github.com/ulikunitz/xz"
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
	m := newMemory(10 * mib)
	leased := func(n int64) *lease {
		l := &lease{ctx: t.Context(), memory: m}
		Expect(l.grow(n)).To(Succeed())
		return l
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
	Expect(p.files.TryAcquire(2*usualWindow - reserved)).To(BeTrue())
	Expect(io.ReadAll(r)).To(HaveLen(len(contents)))
	Expect(r.(*xzReader).lease.n).To(Equal(reserved))
	Expect(r.(*xzReader).z.Window()).To(BeNumerically("<=", reserved))
	Expect(r.Close()).To(Succeed())
	Expect(p.files.spare).To(HaveLen(1))
}
