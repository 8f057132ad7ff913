package closure_test

import (
	"fmt"
	"testing"

	"github.com/nixproot/nix-hydra-buildpack/closure"
)

// BenchmarkPlan plans closures of several sizes for the first time.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{300, 1000, 2000, 5000} {
		g := newWorld(uint64(n), n).graph()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				closure.Plan(g, nil, closure.Limits{})
			}
		})
	}
}
