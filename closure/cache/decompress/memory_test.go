package decompress

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
)

func TestMemory(t *testing.T) {
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

	it("is enough for a window of xz -6 for each core and one more, and an eighth of what the process may have", func() {
		Expect(defaultMemory(fstest.MapFS{})).To(BeEquivalentTo(3 * (8<<20 + 64<<10)))
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
