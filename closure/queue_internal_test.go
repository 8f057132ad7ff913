package closure

import (
	"cmp"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
)

func TestQueue(t *testing.T) {
	spec.Run(t, "work for several goroutines", testQueue)
}

func testQueue(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	// taken adds items, closes the queue and takes them all.
	taken := func(q *queue[int], items ...int) (all []int) {
		for _, i := range items {
			q.add(i)
		}
		q.close()
		for {
			i, ok := q.next()
			if !ok {
				return all
			}
			all = append(all, i)
		}
	}

	it("is taken in the order in which it was added, or in another one", func() {
		Expect(taken(newQueue[int](nil), 2, 3, 1, 3)).To(Equal([]int{2, 3, 1, 3}))
		Expect(taken(newQueue(cmp.Compare[int]), 2, 3, 1, 3)).To(Equal([]int{1, 2, 3, 3}))
	})

	it("is waited for, by all until it is closed", func() {
		q, got := newQueue[int](nil), make(chan int)
		for range 3 {
			go func() {
				i, _ := q.next()
				got <- i
			}()
		}
		Consistently(got).ShouldNot(Receive())
		q.add(7)
		Eventually(got, "20s").Should(Receive(Equal(7)))
		Consistently(got).ShouldNot(Receive())
		q.close()
		Eventually(got, "20s").Should(Receive(BeZero()))
		Eventually(got, "20s").Should(Receive(BeZero()))
	})
}
