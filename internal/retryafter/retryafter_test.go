package retryafter_test

import (
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/retryafter"
)

func TestRetryAfterIsANumberOfSecondsOrADate(t *testing.T) {
	g := NewWithT(t)
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for given, want := range map[string]time.Duration{"": 0, "0": 0, "-3": 0, "soon": 0, "7": 7 * time.Second,
		"99999999999": 24 * time.Hour, "99999999999999999999": 0, in(time.Minute): time.Minute, in(-time.Minute): 0} {
		wait := retryafter.Of(http.Header{"Retry-After": {given}})
		g.Expect(wait).To(BeNumerically("~", want, 2*time.Second), given)
		g.Expect(wait > 0).To(Equal(want > 0), given)
	}
	g.Expect(retryafter.Of(nil)).To(BeZero())
}
