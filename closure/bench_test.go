package closure_test

import (
	"fmt"
	"slices"
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

// BenchmarkLayers tells what the number of layers buys, for the table in docs/layers.md: what a change of each path in
// turn exports, divided by what it rebuilds, both with the megabyte that any push costs on top.
func BenchmarkLayers(b *testing.B) {
	for _, n := range []int{100, 300, 1000} {
		for _, layers := range []int{5, 10, 20, 40, 60, 80, 100} {
			b.Run(fmt.Sprintf("paths=%d/layers=%d", n, layers), func(b *testing.B) {
				for b.Loop() {
					used, ratios := amplifications(newWorld(uint64(n), n), layers)
					b.ReportMetric(float64(used), "layers")
					b.ReportMetric(ratios[len(ratios)/2], "median")
					b.ReportMetric(ratios[len(ratios)*9/10], "p90")
					b.ReportMetric(sum(ratios)/float64(len(ratios)), "mean")
				}
			})
		}
	}
}

// amplifications are the sorted ratios for changes of some thirty of the paths, and how many layers the first plan has.
func amplifications(w *world, layers int) (used int, ratios []float64) {
	const push = 1 << 20
	limits := closure.Limits{Layers: layers}
	before := w.graph()
	groups := closure.Plan(before, nil, limits)
	for i := 0; i < len(w.names); i += max(1, len(w.names)/30) {
		w.version[i]++
		g := w.graph()
		w.version[i]--
		moved := exported(g, groups, closure.Plan(g, groups, limits))
		ratios = append(ratios, float64(moved+push)/float64(change(before, g)+push))
	}
	slices.Sort(ratios)
	return len(groups), ratios
}

func sum(all []float64) (total float64) {
	for _, one := range all {
		total += one
	}
	return total
}
