package retry_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/retry"
)

func TestPausesDoubleUpToABoundAndAreShortenedByChance(t *testing.T) {
	g := NewWithT(t)
	for n, longest := range map[int]time.Duration{1: 100, 2: 200, 3: 400, 4: 800, 5: 1600, 6: 3200, 7: 4000, 60: 4000} {
		longest *= time.Millisecond
		seen := map[time.Duration]bool{}
		for range 50 {
			d := retry.Pause(100*time.Millisecond, n)
			g.Expect(d).To(And(BeNumerically("<=", longest), BeNumerically(">=", longest/2)))
			seen[d] = true
		}
		g.Expect(len(seen)).To(BeNumerically(">", 25), "pauses are alike")
	}
}

func TestRetryAfterIsANumberOfSecondsOrADate(t *testing.T) {
	g := NewWithT(t)
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for given, want := range map[string]time.Duration{"": 0, "0": 0, "-3": 0, "soon": 0, "7": 7 * time.Second,
		"99999999999": 24 * time.Hour, "99999999999999999999": 0, in(time.Minute): time.Minute, in(-time.Minute): 0} {
		wait := retry.After(http.Header{"Retry-After": {given}})
		g.Expect(wait).To(BeNumerically("~", want, 2*time.Second), given)
		g.Expect(wait > 0).To(Equal(want > 0), given)
	}
	g.Expect(retry.After(nil)).To(BeZero())
}

func TestASleepEndsWithItsContextAndItsCause(t *testing.T) {
	g := NewWithT(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	g.Expect(retry.Sleep(ctx, time.Nanosecond)).To(Succeed())
	cause := errors.New("no longer wanted")
	cancel(cause)
	g.Expect(retry.Sleep(ctx, time.Hour)).To(MatchError(cause))
}
