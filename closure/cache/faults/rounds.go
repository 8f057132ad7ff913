package faults

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Rounds are one test again and again, each time with the faults of another seed.
type Rounds struct {
	// Name names variables: $NAME_TEST_FAULT_SEEDS is how many seeds there are, else Seeds, and $NAME_TEST_FAULT_FIRST the
	// first, else 1.
	Name  string
	Seeds int
	// Time and Memory bound one round: how long it takes, and the heap after it, in bytes.
	Time   time.Duration
	Memory uint64
}

// Run calls round with each seed and gives how many there were, and a line about them. round gives the faults that
// happened. No goroutine may be left in the end.
func (r Rounds) Run(t *testing.T, round func(seed uint64) map[Fault]int) (count int, summary string) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // as the buildpack's program does
	debug.FreeOSMemory()
	goroutines := runtime.NumGoroutine()
	first := r.number("FIRST", 1)
	count = r.number("SEEDS", r.Seeds)
	happened := map[Fault]int{}
	began := time.Now()
	for seed := first; seed < first+count; seed++ {
		began := time.Now()
		for fault, n := range round(uint64(seed)) {
			happened[fault] += n
		}
		if took := time.Since(began); took > r.Time {
			t.Fatalf("seed %d: it took %v", seed, took)
		}
		var memory runtime.MemStats
		if runtime.ReadMemStats(&memory); memory.HeapInuse > r.Memory {
			t.Fatalf("seed %d: the heap has %d bytes", seed, memory.HeapInuse)
		}
	}
	var kinds []string
	for _, fault := range slices.Sorted(maps.Keys(happened)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", fault, happened[fault]))
	}
	summary = fmt.Sprintf("seeds %d to %d in %v; %s", first, first+count-1, time.Since(began).Round(time.Second),
		strings.Join(kinds, ", "))
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines+5; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("goroutines are left: %d of before, %d now", goroutines, runtime.NumGoroutine())
		}
	}
	return count, summary
}

func (r Rounds) number(which string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(r.Name + "_TEST_FAULT_" + which)); err == nil {
		return n
	}
	return otherwise
}
