package memory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/closure/memory"
)

func ExampleBudget() {
	ctx := context.Background()
	b := memory.NewBudget(8 << 20)
	stream := b.Share()
	window, _ := stream.Take(ctx, 8<<20) // all there is
	inner, _ := stream.Take(ctx, 1<<20)  // beyond it, where no other stream goes
	inner.Return()
	window.Return()
	fmt.Println(b.Size()>>20, "MiB")
	// Output: 8 MiB
}

// TestStreamsWithDecodersOnTopOfEachOtherAllComeToTheirEnd has many streams take, grow and overdraw in any order, with far
// less memory than they want.
func TestStreamsWithDecodersOnTopOfEachOtherAllComeToTheirEnd(t *testing.T) {
	g := NewWithT(t)
	const size, streams, most = 3, 24, 5
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("they wait for each other"))
	defer cancel()
	b := memory.NewBudget(size)
	var beyond atomic.Int64
	var running sync.WaitGroup
	failed := make(chan error, streams)
	for i := range streams {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for range 200 {
				s, loans := b.Share(), map[int]*memory.Loan{}
				giveBack := func(at int) {
					if at == 3 && loans[at] != nil {
						beyond.Add(-1)
					}
					loans[at].Return()
					loans[at].Return() // the second time it is nothing
					delete(loans, at)
				}
				for range 8 {
					at := random.IntN(4)
					giveBack(at) // a decoder that grows
					var err error
					if at == 3 {
						loans[at], err = s.Overdraw(ctx)
					} else {
						loans[at], err = s.Take(ctx, 1+random.Int64N(most))
					}
					if err != nil {
						failed <- err
						return
					}
					if at == 3 && beyond.Add(1) > 1 {
						failed <- errors.New("two shares overdraw")
						return
					}
				}
				for at := range loans {
					giveBack(at)
				}
			}
		})
	}
	running.Wait()
	close(failed)
	g.Expect(failed).NotTo(Receive())

	all, err := b.Share().Take(ctx, size)
	g.Expect(err).NotTo(HaveOccurred(), "nothing is missing")
	last, err := b.Share().Overdraw(ctx)
	g.Expect(err).NotTo(HaveOccurred())
	all.Return()
	last.Return()
}

func TestWhoHoldsNothingWaitsInLineAndWhoHoldsSomethingOverdraws(t *testing.T) {
	g := NewWithT(t)
	b := memory.NewBudget(4)
	first, second, third := b.Share(), b.Share(), b.Share()
	soon := func(s *memory.Share, n int64) (*memory.Loan, error) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("too late"))
		defer cancel()
		return s.Take(ctx, n)
	}
	two, err := soon(first, 2)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = soon(second, 1)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = soon(third, 2)
	g.Expect(err).To(MatchError("too late"), "it holds nothing, and 1 is free")
	large, err := soon(first, 100)
	g.Expect(err).NotTo(HaveOccurred(), "it overdraws")
	_, err = soon(second, 2)
	g.Expect(err).To(MatchError("too late"), "one does already")
	more, err := soon(first, 2)
	g.Expect(err).NotTo(HaveOccurred(), "that one waits for nothing")
	large.Return()
	_, err = soon(second, 2)
	g.Expect(err).To(MatchError("too late"), "it still does")
	more.Return()
	_, err = soon(second, 2)
	g.Expect(err).NotTo(HaveOccurred())
	two.Return()
	_, err = soon(third, 2)
	g.Expect(err).NotTo(HaveOccurred())
}

func TestAStreamHasOneShareForAllOfIt(t *testing.T) {
	g := NewWithT(t)
	b, other := memory.NewBudget(1), memory.NewBudget(1)
	s := b.Share()
	ctx := memory.With(t.Context(), s)
	g.Expect(memory.Of(ctx, other)).To(BeIdenticalTo(s))
	g.Expect(memory.Has(ctx)).To(BeTrue())
	g.Expect(memory.Has(t.Context())).To(BeFalse())
	g.Expect(memory.Of(t.Context(), other)).NotTo(BeIdenticalTo(memory.Of(t.Context(), other)))
}
