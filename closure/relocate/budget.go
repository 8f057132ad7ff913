package relocate

import (
	"math"
	"sync/atomic"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
)

const (
	// inflateBase and inflateRatio bound how many bytes are looked at after inflating, by all rewriters of a budget
	// together: inflateBase, and inflateRatio times the size of what is looked into.
	inflateBase  = 1 << 30
	inflateRatio = 32
	// compressBase and compressRatio bound in the same way what is compressed anew, in bytes before that. What is slow
	// counts as slowCost times as much, the slowest of it as slowestCost.
	compressBase  = 1 << 30
	compressRatio = 2
	slowCost      = 8
	slowestCost   = 32
)

// budget is what relocating the paths of one closure may take, all of them together: memory for decoders, bytes to
// inflate and to compress anew, bytes that fixups record. A View has one, which all its rewriters share.
type budget struct {
	memory  *memory.Budget // of which only one at a time has the right to more
	inflate atomic.Int64
	anew    atomic.Int64
	fixups  atomic.Int64
}

// newBudget is the budget of one closure.
func newBudget(m *memory.Budget) *budget {
	b := &budget{memory: m}
	b.inflate.Store(inflateBase)
	b.anew.Store(compressBase)
	b.fixups.Store(maxClosureFixups)
	return b
}

// Beside is the view with a budget of its own, for another closure that is relocated to the same place. Only the memory is that
// of all of them.
func (v View) Beside() View {
	v.budget = newBudget(v.budget.memory)
	return v
}

// allow adds what a file of size bytes may inflate to.
func (b *budget) allow(size int64) {
	if size > 0 && size < (math.MaxInt64>>2)/inflateRatio && b.inflate.Load() < math.MaxInt64>>2 {
		b.inflate.Add(inflateRatio * size)
		b.anew.Add(compressRatio * size)
	}
}

// inflated takes n bytes, and reports whether they were there.
func (b *budget) inflated(n int64) bool { return b.inflate.Add(-n) >= 0 }

// takes is inflated for a decoder's n bytes of memory, which are taken and cleared faster than others are inflated.
func (b *budget) takes(n int64) bool { return b.inflated(n / inflateRatio) }

// compressed takes n bytes to be compressed anew, and reports whether they were there.
func (b *budget) compressed(n int64) bool { return b.anew.Add(-n) >= 0 }

// record takes n bytes of fixups, and reports whether they were there. A nil budget, of paths that are not relocated, has
// no end.
func (b *budget) record(n int64) bool { return b == nil || b.fixups.Add(-n) >= 0 }
