package closure

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
)

func TestMachine(t *testing.T) {
	spec.Run(t, "what suits the machine", testMachine)
}

func testMachine(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	cores := func(n int) {
		before := runtime.GOMAXPROCS(n)
		t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	}

	it("downloads more at once on more cores, within bounds", func() {
		for n, want := range map[int]int{1: 16, 2: 16, 4: 32, 64: 64} {
			cores(n)
			Expect(DefaultDownloads()).To(Equal(want))
			options := Options{Downloads: 3}.withDefaults()
			Expect(options.Downloads).To(Equal(3))
			Expect(Options{}.withDefaults().Downloads).To(Equal(want))
		}
	})

	it("takes an eighth of the memory that it may have, and no more than its cores need", func() {
		cores(2)
		before := debug.SetMemoryLimit(64 << 20)
		t.Cleanup(func() { debug.SetMemoryLimit(before) })
		Expect(DefaultMemory()).To(BeEquivalentTo(8 << 20))
		debug.SetMemoryLimit(math.MaxInt64)
		Expect(DefaultMemory()).To(BeNumerically("<=", 48<<20))
	})

	it("reads the limit of a control group of either version", func() {
		const unlimited = "9223372036854771712\n"
		group := func(name, text string) fstest.MapFS { return fstest.MapFS{name: {Data: []byte(text)}} }
		Expect(allowedMemory(group("memory.max", "1048576\n"))).To(BeEquivalentTo(1 << 20))
		Expect(allowedMemory(group("memory/memory.limit_in_bytes", "1048576\n"))).To(BeEquivalentTo(1 << 20))
		for _, none := range []fstest.MapFS{
			{}, group("memory.max", "max\n"), group("memory/memory.limit_in_bytes", unlimited),
		} {
			Expect(allowedMemory(none)).To(BeNumerically(">", 1<<40))
		}
	})
}
