package closure

import (
	"runtime"
	"syscall"
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
			Expect(defaultDownloads()).To(Equal(want))
			options := Options{Downloads: 3}.withDefaults()
			Expect(options.Downloads).To(Equal(3))
			Expect(Options{}.withDefaults().Downloads).To(Equal(want))
		}
	})

	it("downloads and asks less at once where there are few descriptors", func() {
		var before syscall.Rlimit
		Expect(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before)).To(Succeed())
		defer func() { Expect(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)).To(Succeed()) }()
		for limit, want := range map[uint64]int{4: 1, 64: 8, 80: 10, before.Cur: 16} {
			Expect(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: before.Max})).To(Succeed())
			cores(2)
			Expect(defaultDownloads()).To(Equal(want))
			Expect(atOnce()).To(Equal(min(64, max(1, int(limit)/8))))
		}
	})
}
