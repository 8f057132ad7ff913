package closure

import "math/bits"

// bitset is a set of small integers.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) add(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

func (b bitset) union(other bitset) {
	for i, w := range other {
		b[i] |= w
	}
}

func (b bitset) clone() bitset { return append(bitset(nil), b...) }

// each calls f with every member in order.
func (b bitset) each(f func(i int)) {
	for i, w := range b {
		for ; w != 0; w &= w - 1 {
			f(i*64 + bits.TrailingZeros64(w))
		}
	}
}

// weight sums the members' weights, which are given per word.
func (b bitset) weight(weights []int64) int64 {
	var sum int64
	for i, w := range b {
		sum += int64(bits.OnesCount64(w)) * weights[i]
	}
	return sum
}

// common sums the weights of what two sets share.
func (b bitset) common(other bitset, weights []int64) int64 {
	var sum int64
	for i, w := range b {
		sum += int64(bits.OnesCount64(w&other[i])) * weights[i]
	}
	return sum
}
