package hydra

import (
	"errors"
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func TestRetryAfterIsANumberOfSecondsOrADate(t *testing.T) {
	g := NewWithT(t)
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for given, want := range map[string]time.Duration{"": 0, "0": 0, "-1": 0, "soon": 0, "7": 7 * time.Second,
		"99999999999": 24 * time.Hour, in(time.Minute): time.Minute, in(-time.Minute): 0} {
		var later *retryAfter
		delay := time.Duration(0)
		if errors.As(delayOf(&http.Response{Header: http.Header{"Retry-After": {given}}}), &later) {
			delay = later.delay
		}
		g.Expect(delay).To(BeNumerically("~", want, 2*time.Second), given)
		g.Expect(delay > 0).To(Equal(want > 0), given)
	}
}
