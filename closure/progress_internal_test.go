package closure

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
)

func TestProgress(t *testing.T) { spec.Run(t, "progress", testProgress) }

func testProgress(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("says now and then how far it is, and how long it takes once it is known how much there is to do", func() {
		lines := make(chan string, 1)
		p, stop := startProgress(func(format string, args ...any) {
			select {
			case lines <- fmt.Sprintf(format, args...):
			default:
			}
		}, time.Millisecond)
		for range 12 {
			p.add(1_000_000)
		}
		p.read(3_000_000)
		p.done(1_000_000, true)
		p.done(2_000_000, false)
		Eventually(lines).Should(Receive(MatchRegexp(
			`^Fetching: 2 of at least 12 paths, 3\.0 MB of at least 12\.0 MB, [\d.]+ [kMG]?B/s$`)))
		p.knowsAll()
		Eventually(lines).Should(Receive(MatchRegexp(`^Fetching: 2 of 12 paths, 3\.0 MB of 12\.0 MB, [\d.]+ [kMG]?B/s, \d+s left$`)))
		stop()
	})
}
