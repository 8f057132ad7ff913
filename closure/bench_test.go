package closure_test

import (
	"fmt"
	"slices"
	"testing"
)

// BenchmarkPlan plans closures of several sizes.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{300, 1000, 2000, 5000} {
		g := newWorld(uint64(n), n).graph()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				plan(g, 0)
			}
		})
	}
}

// BenchmarkLayers tells what the number of layers buys: what a change of each path in
// turn exports, divided by what it rebuilds, both with the megabyte that any push costs on top.
func BenchmarkLayers(b *testing.B) {
	for _, n := range []int{100, 300, 1000} {
		for _, layers := range []int{5, 10, 20, 40, 60, 80, 100} {
			b.Run(fmt.Sprintf("paths=%d/layers=%d", n, layers), func(b *testing.B) {
				for b.Loop() {
					ratios := amplifications(newWorld(uint64(n), n), layers)
					b.ReportMetric(ratios[len(ratios)/2], "median")
					b.ReportMetric(ratios[len(ratios)*9/10], "p90")
				}
			})
		}
	}
}

// amplifications are the sorted ratios for changes of some thirty of the paths.
func amplifications(w *world, layers int) (ratios []float64) {
	const push = 1 << 20
	before := w.graph()
	groups := plan(before, layers)
	for i := 0; i < len(w.names); i += max(1, len(w.names)/30) {
		w.version[i]++
		g := w.graph()
		w.version[i]--
		moved := exported(g, groups, plan(g, layers))
		ratios = append(ratios, float64(moved+push)/float64(change(before, g)+push))
	}
	slices.Sort(ratios)
	return ratios
}
