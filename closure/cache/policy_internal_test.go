package cache

import (
	"context"
	"errors"
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
		l = newLimiter(Policy{Backoff: time.Millisecond, Disable: time.Minute})
		l.unanswered, now = 16, time.Now()
	})

	it("halves what may be unanswered at a refusal, and doubles the gap from 4 ms to a second", func() {
		l.refused(now, now, 1, refusal)
		Expect(l.allowed).To(BeEquivalentTo(8))
		for _, gap := range []int{4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000} {
			Expect(l.gap).To(Equal(time.Duration(gap) * time.Millisecond))
			now = now.Add(time.Hour)
			l.refused(now, now, 1, refusal)
		}
		l.unanswered = 1
		l.refused(now.Add(time.Hour), now, 1, refusal)
		Expect(l.allowed).To(BeEquivalentTo(1), "one may always be")
	})

	it("takes what began before a pause for the same refusal, unless the server says for how long", func() {
		l.refused(now, now, 1, refusal)
		resume := l.resume
		l.refused(now.Add(-time.Second), now.Add(time.Second), 1, refusal)
		Expect(l.gap).To(Equal(4 * time.Millisecond))
		Expect(l.allowed).To(BeEquivalentTo(8))
		Expect(l.resume).To(Equal(resume))
		l.refused(now.Add(-time.Second), now, 1, &StatusError{Code: refusal.Code, retryAfter: 7 * time.Second})
		Expect(l.resume).To(Equal(now.Add(7 * time.Second)))
	})

	it("lets one more in when as many were answered as may be unanswered, and takes the gap away bit by bit", func() {
		l.refused(now, now, 1, refusal)
		l.refused(now.Add(time.Second), now, 1, refusal)
		for range 9 {
			l.finish(now, 1, nil)
		}
		Expect(l.allowed).To(BeNumerically("~", 9, 0.2))
		Expect(l.gap).To(BeNumerically("~", 6012*time.Microsecond, time.Microsecond), "a 32nd less each time")
		for range 10_000 {
			l.finish(now, 1, nil)
		}
		Expect(l.gap).To(BeNumerically("<", time.Microsecond))
	})

	it("learns nothing from a connection that failed", func() {
		l.refused(now, now, 1, refusal)
		l.finish(now, 1, io.ErrUnexpectedEOF)
		Expect(l.allowed).To(BeEquivalentTo(8))
		Expect(l.gap).To(Equal(4 * time.Millisecond))
		Expect(l.aliveSince(now)).To(BeFalse())
		l.finish(now, 1, errAbsent)
		Expect(l.allowed).To(BeNumerically(">", 8))
		Expect(l.aliveSince(now)).To(BeTrue())
	})

	it("gives a longer pause after each attempt at the same", func() {
		for n := 1; n < 5; n++ {
			now = now.Add(time.Hour)
			l.refused(now, now, n, refusal)
			longest := time.Millisecond << (n - 1)
			Expect(l.resume).To(BeTemporally("~", now.Add(longest*3/4), longest/4), "attempt %d", n)
		}
	})

	it("lets in any number until something is refused, then as many as may be unanswered, with the gap between them", func() {
		admitted := func() bool { _, less := l.admit(now); return less == nil }
		l.unanswered = 0
		for range 1000 {
			Expect(admitted()).To(BeTrue())
		}
		Expect(l.unanswered).To(Equal(1000))
		l.unanswered = 2
		l.refused(now, now.Add(-time.Second), 1, refusal)
		Expect(admitted()).To(BeFalse(), "one may be, and two are")
		l.finish(now, 1, io.ErrUnexpectedEOF)
		Expect(admitted()).To(BeFalse())
		_, less := l.admit(now)
		l.finish(now, 1, io.ErrUnexpectedEOF)
		Expect(less).To(BeClosed())
		Expect(admitted()).To(BeTrue())
		l.finish(now, 1, io.ErrUnexpectedEOF)
		pause, _ := l.admit(now)
		Expect(pause).To(Equal(4 * time.Millisecond))
		now = now.Add(pause)
		Expect(admitted()).To(BeTrue())
	})
}

func testAttempts(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("count anew after 256 KiB", func() {
		tr := &transfer{offset: 100 + 256<<10 - 1, failures: 3, counted: 100}
		tr.advance()
		Expect(tr.failures).To(Equal(3))
		tr.offset++
		tr.advance()
		Expect(tr.failures).To(BeZero())
		tr.offset, tr.failures = tr.offset+256<<10-1, 1
		tr.advance()
		Expect(tr.failures).To(Equal(1))
	})

	it("are five, and two of what takes too long, after which another cache is asked", func() {
		none, one := fallback(nil), fallback(func(context.Context) bool { return true })
		decide := func(f fallback, failed int, err error) error { return f.decide(t.Context(), failed, err) }
		for _, f := range []fallback{none, one} {
			Expect(decide(f, 4, io.ErrUnexpectedEOF)).To(Succeed())
			Expect(decide(f, 5, io.ErrUnexpectedEOF)).To(MatchError("unexpected EOF (tried 5 times)"))
			Expect(decide(f, 1, errSlow)).To(Succeed())
		}
		Expect(decide(none, 2, errSlow)).To(MatchError("no answer in time (tried 2 times)"))
		var left *fallbackError
		Expect(errors.As(decide(one, 2, errSlow), &left)).To(BeTrue())
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

	it("are given up where too little comes in the time for it", func() {
		var p pace
		Expect(p.add(4096*29, 29*time.Second, 30*time.Second)).To(Succeed())
		Expect(p.add(4096, time.Second, 30*time.Second)).To(Succeed(), "4 KiB a second")
		Expect(p.add(4096*30-1, 30*time.Second, 30*time.Second)).To(MatchError(errRate))
		Expect(p.add(4096, time.Second, 30*time.Second)).To(Succeed(), "which is measured anew")
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
