package cache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
)

func TestPolicy(t *testing.T) {
	suite := spec.New("policy", spec.Report(report.Terminal{}))
	suite("Limiter", testLimiterState)
	suite("Attempts", testAttempts)
	suite("Notes", testNotes)
	suite.Run(t)
}

func testLimiterState(t *testing.T, _ spec.G, it spec.S) {
	var (
		l       *limiter
		now     time.Time
		refusal = &StatusError{Code: http.StatusTooManyRequests}
	)

	it.Before(func() {
		RegisterTestingT(t)
		l, now = &limiter{policy: Policy{Backoff: 320 * time.Millisecond, Disable: time.Minute}}, time.Now()
	})

	it("doubles the gap between two requests at a refusal, from a 32nd of the back-off to all of it", func() {
		for _, gap := range []int{10, 20, 40, 80, 160, 320, 320} {
			l.refused(now, now, refusal)
			Expect(l.gap).To(Equal(time.Duration(gap) * time.Millisecond))
			now = now.Add(time.Hour)
		}
	})

	it("takes what began before a pause for the same refusal, which only has the pause last longer", func() {
		l.refused(now, now, refusal)
		l.refused(now.Add(-time.Second), now.Add(time.Second), refusal)
		Expect(l.gap).To(Equal(10 * time.Millisecond))
		Expect(l.refusals).To(Equal(1))
		Expect(l.resume).To(BeTemporally(">", now.Add(time.Second)))
		l.refused(now.Add(-time.Second), now, &StatusError{Code: refusal.Code, retryAfter: 7 * time.Second})
		l.refused(now.Add(-time.Second), now, refusal)
		Expect(l.resume).To(Equal(now.Add(7 * time.Second)))
		l.alive()
		l.refused(now.Add(-time.Second), now.Add(time.Hour), refusal)
		Expect(l.resume).To(BeTemporally(">", now.Add(time.Hour)))
		Expect(l.refusals).To(BeZero())
	})

	it("takes the gap away bit by bit as answers come", func() {
		l.refused(now, now, refusal)
		l.finish(now, nil)
		Expect(l.gap).To(Equal(10*time.Millisecond - 312500*time.Nanosecond))
		for range 10_000 {
			l.finish(now, errAbsent)
		}
		Expect(l.gap).To(BeNumerically("<", time.Microsecond))
	})

	it("learns nothing from a connection that failed", func() {
		l.refused(now, now, refusal)
		l.finish(now, io.ErrUnexpectedEOF)
		Expect(l.gap).To(Equal(10 * time.Millisecond))
		Expect(l.refusals).To(Equal(1))
	})

	it("gives longer pauses until something comes, and the cache up after five in which nothing does", func() {
		for range 3 {
			for n := range 5 {
				Expect(l.refusesAll()).To(BeFalse())
				now = now.Add(time.Hour)
				l.refused(now, now, refusal)
				longest := l.policy.Backoff << n
				Expect(l.resume).To(BeTemporally("~", now.Add(longest*3/4), longest/4), "pause %d", n)
			}
			Expect(l.refusesAll()).To(BeTrue())
			l.alive()
		}
		l.refused(now.Add(time.Hour), now, refusal)
		l.finish(now, errAbsent)
		Expect(l.refusals).To(BeZero())
	})

	it("lets in any number until something is refused, and then, after the pause, one at a time with the gap between them", func() {
		for range 1000 {
			Expect(l.admit(now)).To(BeNumerically("<=", 0))
		}
		l.refused(now, now, refusal)
		pause := l.admit(now)
		Expect(pause).To(Equal(l.resume.Sub(now)))
		now = now.Add(pause)
		Expect(l.admit(now)).To(BeZero())
		Expect(l.admit(now)).To(Equal(10 * time.Millisecond))
	})
}

func testAttempts(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("are five, and one of a first byte that is late; of what takes too long, one where another cache has it", func() {
		none, one := fallback(nil), fallback(func(context.Context) bool { return true })
		decide := func(f fallback, failed int, err error) error { return f.decide(t.Context(), failed, err) }
		for _, f := range []fallback{none, one} {
			Expect(decide(f, 4, io.ErrUnexpectedEOF)).To(Succeed())
			Expect(decide(f, 5, io.ErrUnexpectedEOF)).To(MatchError("unexpected EOF (tried 5 times)"))
		}
		for _, err := range []error{errStalled, errRate} {
			Expect(decide(none, 4, err)).To(Succeed())
			Expect(decide(none, 5, err)).To(MatchError(err.Error() + " (tried 5 times)"))
		}
		Expect(decide(none, 1, errSlow)).To(Equal(errSlow))
		for _, err := range []error{errStalled, errRate, errSlow} {
			Expect(decide(one, 1, err)).To(Equal(&fallbackError{err}))
		}
	})

	it("wait for the first byte ten times as long as for the next, and as long as for any answer", func() {
		Expect(firstByteTime(Policy{Timeout: 15 * time.Second}, 30*time.Second)).To(Equal(300 * time.Second))
		Expect(firstByteTime(Policy{Timeout: 15 * time.Second}, time.Second)).To(Equal(15 * time.Second))
	})

	it("are not made of what will be the same again", func() {
		answer := func(code int) error { return &StatusError{Code: code} }
		for _, code := range []int{408, 425, 429, 500, 502, 503, 504} {
			Expect(worthRetrying(answer(code))).To(BeTrue(), "%d", code)
		}
		for _, code := range []int{400, 401, 403, 404, 416, 501, 505} {
			Expect(worthRetrying(answer(code))).To(BeFalse(), "%d", code)
		}
		Expect(isRefusal(answer(503))).To(BeTrue())
		Expect(isRefusal(answer(500))).To(BeFalse())
		Expect(isAnswer(answer(404))).To(BeTrue())
		Expect(isAnswer(answer(500))).To(BeFalse())
	})

	it("count anew when 4 KiB a second have come of a NAR, for the time in which it may stall, and are over when that is", func() {
		const stall, enough = 30 * time.Second, 30 * 4096
		var p pace
		add := func(n int, took time.Duration) (bool, error) { return p.add(n, took, stall) }
		Expect(add(enough-2, 0)).To(BeFalse())
		Expect(add(1, stall-1)).To(BeFalse())
		Expect(add(1, time.Hour)).To(BeTrue())
		Expect(add(enough-1, stall-1)).To(BeFalse(), "which is measured anew")
		_, slow := add(0, 1)
		Expect(slow).To(MatchError("too little arrives: 122879 bytes in 30s"))
		Expect(add(1, stall-1)).To(BeFalse(), "which is measured anew")
	})
}

func testNotes(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("are the first failure of each kind, of a hundred kinds and no more", func() {
		var n notes
		var lines []string
		for i := range 300 {
			for range 2 {
				if line := n.add(fmt.Sprint(i%200), fmt.Sprint("failure ", i)); line != "" {
					lines = append(lines, line)
				}
			}
		}
		Expect(lines).To(HaveLen(100))
		Expect(lines[98]).To(Equal("failure 98"))
		Expect(lines[99]).To(Equal("and more, which are not listed"))
	})
}
