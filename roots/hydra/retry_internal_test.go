package hydra

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func TestAPauseIsThatOfRetryAfterUpToSixteenTimesTheFirst(t *testing.T) {
	g := NewWithT(t)
	c := &Client{timeout: 2 * time.Minute}
	for range 20 {
		g.Expect(c.pause(1, 0)).To(And(BeNumerically("<=", time.Second), BeNumerically(">=", time.Second/2)))
		g.Expect(c.pause(3, 3*time.Second)).To(And(BeNumerically("<=", 4*time.Second), BeNumerically(">=", 3*time.Second)))
	}
	g.Expect(c.pause(1, 3*time.Second)).To(Equal(3 * time.Second))
	g.Expect(c.pause(1, time.Hour)).To(Equal(16 * time.Second))
}
