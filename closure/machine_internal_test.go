package closure

import (
	"runtime"
	"testing"

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
}
