package closure

import "math/bits"

// set is a set of nodes.
type set []uint64

func (s set) add(other set) {
	for i, word := range other {
		s[i] |= word
	}
}

func (s set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s set) len() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// common is how many two sets share.
func (s set) common(other set) (n int) {
	for i, word := range s {
		n += bits.OnesCount64(word & other[i])
	}
	return n
}
