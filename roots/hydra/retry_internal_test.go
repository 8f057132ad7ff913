package hydra

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func TestPausesDoubleAndFollowRetryAfterUpToSixteenTimesTheFirst(t *testing.T) {
	g := NewWithT(t)
	r := Retry{Backoff: time.Second}
	for attempt, want := range []time.Duration{1, 2, 4, 8, 16, 16, 16} {
		g.Expect(r.delay(attempt+1, 0)).To(Equal(want * time.Second))
	}
	g.Expect(r.delay(100, 0)).To(Equal(16 * time.Second))
	g.Expect(r.delay(1, 3*time.Second)).To(Equal(3 * time.Second))
	g.Expect(r.delay(3, 3*time.Second)).To(Equal(4 * time.Second))
	g.Expect(r.delay(1, time.Hour)).To(Equal(16 * time.Second))
}
