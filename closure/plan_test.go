package closure_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func testPlan(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it.Pend("explore", func() {
		for _, n := range []int{300, 600, 2000, 5000} {
			w := newWorld(uint64(n), n)
			g := w.graph()
			at := time.Now()
			groups := closure.Plan(g, nil, closure.Limits{})
			took := time.Since(at)
			var ratios, mb []float64
			for i := range w.names {
				if i%(n/100) != 0 {
					continue
				}
				w.version[i]++
				g2 := w.graph()
				next := closure.Plan(g2, groups, closure.Limits{})
				r := float64(exported(g2, groups, next)) / float64(change(g, g2))
				ratios = append(ratios, r)
				if w.sizes[i] > 700e3 && w.sizes[i] < 1400e3 {
					mb = append(mb, r)
				}
				w.version[i]--
			}
			slices.Sort(ratios)
			slices.Sort(mb)
			sum := 0.0
			for _, r := range ratios {
				sum += r
			}
			fmt.Println(n, len(g.Nodes), g.Bytes()/1e6, len(groups), took, "median", ratios[len(ratios)/2], "p90", ratios[len(ratios)*9/10], "mean", sum/float64(len(ratios)), "max", ratios[len(ratios)-1], "mb", mb)
		}
		_ = rand.IntN
		_ = storepath.Path("")
	})
}
