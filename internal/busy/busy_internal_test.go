package busy

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func TestALimitGrowsWithTheLoadOfEachProcessor(t *testing.T) {
	RegisterTestingT(t)
	Expect(stretched(time.Second, "0.00 0.00 0.00 1/97 2465\n", 2)).To(Equal(time.Second))
	Expect(stretched(time.Second, "6.00 0.50 0.10 9/97 2465\n", 2)).To(Equal(4 * time.Second))
	Expect(stretched(time.Second, "", 2)).To(Equal(time.Second))
	Expect(Limit(time.Hour)).To(BeNumerically(">=", time.Hour))
}
