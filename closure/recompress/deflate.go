package recompress

import (
	"cmp"
	"math/bits"
	"slices"
)

const (
	deflateEnd      = 256 // the symbol at a block's end
	deflateMinMatch = 3
	deflateMaxMatch = 258
	deflateWindow   = 32 << 10
	deflateLiterals = 286
	deflateFar      = 30
	deflateMaxBits  = 15
	deflateRawMax   = 65535
	// maxDeflateText is the largest text that is gone through, in bytes: it is done bit by bit.
	maxDeflateText = 8 << 20
)

// The smallest lengths and distances of symbols, and how many bits follow (RFC 1951, 3.2.5).
var (
	deflateLengths   = [29]int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	deflateLengthExt = [29]int{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	deflateDistances = [30]int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	deflateOrder     = [19]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

func deflateDistanceExt(symbol int) int { return max(0, symbol/2-1) }

// bitReader reads bits, the lowest of a byte first.
type bitReader struct {
	data []byte
	at   int // in bits
	bad  bool
}

func (r *bitReader) bits(n int) (v int) {
	if r.at+n > 8*len(r.data) {
		r.bad = true
		return 0
	}
	for i := range n {
		v |= int(r.data[r.at>>3]>>(r.at&7)&1) << i
		r.at++
	}
	return v
}

// deflateCode is a canonical Huffman code.
type deflateCode struct {
	count   [deflateMaxBits + 1]int
	symbols []int
}

func newDeflateCode(lengths []int) *deflateCode {
	c := &deflateCode{}
	for length := 1; length <= deflateMaxBits; length++ {
		for symbol, l := range lengths {
			if l == length {
				c.count[length]++
				c.symbols = append(c.symbols, symbol)
			}
		}
	}
	return c
}

// read reads a symbol, or gives -1.
func (c *deflateCode) read(r *bitReader) int {
	code, first, index := 0, 0, 0
	for length := 1; length <= deflateMaxBits; length++ {
		code |= r.bits(1)
		count := c.count[length]
		if code-count < first {
			return c.symbols[index+code-first]
		}
		index, first, code = index+count, (first+count)<<1, code<<1
	}
	r.bad = true
	return -1
}

// fixedLengths are those of the codes that need no table.
func fixedLengths() (literals, far []int) {
	for i := range 288 {
		literals = append(literals, [4]int{8, 9, 7, 8}[flag(i >= 144)+flag(i >= 256)+flag(i >= 280)])
	}
	return literals, slices.Repeat([]int{5}, 30)
}

// readTable reads the codes of a block.
func readTable(r *bitReader) (literals, far *deflateCode) {
	n, m, k := r.bits(5)+257, r.bits(5)+1, r.bits(4)+4
	var lengths [19]int
	for i := range k {
		lengths[deflateOrder[i]] = r.bits(3)
	}
	code := newDeflateCode(lengths[:])
	var all []int
	for len(all) < n+m && !r.bad {
		symbol := code.read(r)
		last := 0
		if symbol == 16 {
			if len(all) == 0 {
				r.bad = true
				break
			}
			last = all[len(all)-1]
		}
		switch symbol {
		case 16:
			all = append(all, slices.Repeat([]int{last}, 3+r.bits(2))...)
		case 17:
			all = append(all, make([]int, 3+r.bits(3))...)
		case 18:
			all = append(all, make([]int, 11+r.bits(7))...)
		default:
			all = append(all, symbol)
		}
	}
	if r.bad || len(all) != n+m {
		r.bad = true
		return nil, nil
	}
	return newDeflateCode(all[:n]), newDeflateCode(all[n:])
}

// deflateStep is length bytes as they stand distance bytes before, or, where length is 0, the byte literal.
type deflateStep struct {
	length, distance int
	literal          byte
}

// Deflate gives a DEFLATE stream (RFC 1951) of now by the steps of the stream packed, which holds was. The two texts are
// as long as each other, at most 8 MiB, and differ only in the edits, which are in order.
func Deflate(packed, was, now []byte, edits []Edit) (best []byte, err error) {
	if len(was) != len(now) || len(was) > maxDeflateText {
		return nil, ErrMalformed
	}
	least := deflateMinMatch
	if len(was) <= deflateWindow {
		least += 3 // literals may take fewer bits than a short match, which is worth trying where it does not take long
	}
	for ; least >= deflateMinMatch; least-- {
		next, err := deflateSteps(packed, was, now, edits, least)
		if err != nil {
			return nil, err
		}
		if best == nil || len(next) < len(best) {
			best = next
		}
	}
	return best, nil
}

// deflateSteps is Deflate with no matches shorter than least.
func deflateSteps(packed, was, now []byte, edits []Edit, least int) ([]byte, error) {
	r := &bitReader{data: packed}
	w := &deflateWriter{matcher: newMatcher(now, edits, deflateWindow, deflateMaxMatch), least: least}
	for at, last := 0, 0; last == 0; {
		last = r.bits(1)
		var literals, far *deflateCode
		switch r.bits(2) {
		case 0:
			r.at = (r.at + 7) &^ 7
			n := r.bits(16)
			r.bits(16)
			if r.at += 8 * n; r.bad || r.at > 8*len(packed) || at+n > len(was) {
				return nil, ErrMalformed
			}
			at += n
			for w.at < at {
				w.add(deflateStep{literal: now[w.at]})
			}
			w.block(last)
			continue
		case 1:
			l, f := fixedLengths()
			literals, far = newDeflateCode(l), newDeflateCode(f)
		case 2:
			literals, far = readTable(r)
		default:
			return nil, ErrMalformed
		}
		for !r.bad {
			symbol := literals.read(r)
			if symbol == deflateEnd {
				break
			}
			distance := 0
			switch {
			case symbol < deflateEnd:
				at++
			case symbol-257 < len(deflateLengths):
				length := deflateLengths[symbol-257] + r.bits(deflateLengthExt[symbol-257])
				d := far.read(r)
				if d < 0 || d >= deflateFar {
					return nil, ErrMalformed
				}
				if distance = deflateDistances[d] + r.bits(deflateDistanceExt(d)); distance > at {
					return nil, ErrMalformed
				}
				at += length
			default:
				return nil, ErrMalformed
			}
			if at > len(was) {
				return nil, ErrMalformed
			}
			w.take(distance, at)
		}
		if r.bad {
			return nil, ErrMalformed
		}
		w.block(last)
	}
	if w.at != len(now) {
		return nil, ErrMalformed
	}
	return w.out, nil
}

// deflateWriter makes a deflate stream of what data holds.
type deflateWriter struct {
	matcher
	least int // of the matches
	begin int // of the block at hand
	steps []deflateStep
	out   []byte
	used  int // bits of the last byte
}

func (w *deflateWriter) add(s deflateStep) {
	w.steps = append(w.steps, s)
	w.at += max(s.length, 1)
}

// take takes over a step that ends at end.
func (w *deflateWriter) take(distance, end int) {
	for w.at < end {
		distance, n := w.match(distance, end)
		if n >= w.least {
			w.add(deflateStep{length: n, distance: distance})
		} else {
			w.add(deflateStep{literal: w.data[w.at]})
		}
	}
}

func (w *deflateWriter) bits(v, n int) {
	for range n {
		if w.used == 0 {
			w.out = append(w.out, 0)
		}
		w.out[len(w.out)-1] |= byte(v&1) << w.used
		w.used, v = (w.used+1)&7, v>>1
	}
}

// symbols are a step's symbols, and what follows each: far is -1 for a literal.
func (s deflateStep) symbols() (symbol, ext, far, farExt int) {
	if s.length == 0 {
		return int(s.literal), 0, -1, 0
	}
	n, _ := slices.BinarySearch(deflateLengths[:], s.length+1)
	d, _ := slices.BinarySearch(deflateDistances[:], s.distance+1)
	return 257 + n - 1, s.length - deflateLengths[n-1], d - 1, s.distance - deflateDistances[d-1]
}

// block writes the steps so far as a block, in the form that is shortest.
func (w *deflateWriter) block(last int) {
	literals, far := make([]int, deflateLiterals), make([]int, deflateFar)
	literals[deflateEnd] = 1
	extra := 0
	for _, s := range w.steps {
		symbol, _, distance, _ := s.symbols()
		literals[symbol]++
		if distance >= 0 {
			far[distance]++
			extra += deflateLengthExt[symbol-257] + deflateDistanceExt(distance)
		}
	}
	l, f := codeLengths(literals, deflateMaxBits), codeLengths(far, deflateMaxBits)
	fixedL, fixedF := fixedLengths()
	table := newDeflateTable(l, f)
	own, fixed := table.size()+cost(literals, l)+cost(far, f), cost(literals, fixedL)+cost(far, fixedF)
	plain := w.data[w.begin:w.at]
	raw := (-(w.used + 3))&7 + 32 + 8*len(plain)
	w.bits(last, 1)
	switch {
	case len(plain) <= deflateRawMax && raw < min(own, fixed)+extra:
		w.bits(0, 2)
		w.used = 0
		n := len(plain)
		w.out = append(w.out, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		w.out = append(w.out, plain...)
	case own < fixed:
		w.bits(2, 2)
		table.write(w)
		w.write(l, f)
	default:
		w.bits(1, 2)
		w.write(fixedL, fixedF)
	}
	w.begin, w.steps = w.at, w.steps[:0]
}

func cost(frequencies, lengths []int) (n int) {
	for i, frequency := range frequencies {
		n += frequency * lengths[i]
	}
	return n
}

// write writes the steps in codes of these lengths.
func (w *deflateWriter) write(literals, far []int) {
	l, f := codes(literals), codes(far)
	for _, s := range w.steps {
		symbol, ext, distance, farExt := s.symbols()
		w.bits(l[symbol], literals[symbol])
		if distance >= 0 {
			w.bits(ext, deflateLengthExt[symbol-257])
			w.bits(f[distance], far[distance])
			w.bits(farExt, deflateDistanceExt(distance))
		}
	}
	w.bits(l[deflateEnd], literals[deflateEnd])
}

// codes are the canonical codes of these lengths, the first bit lowest.
func codes(lengths []int) []int {
	var count, next [deflateMaxBits + 1]int
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	for n := 1; n < len(next); n++ {
		next[n] = (next[n-1] + count[n-1]) << 1
	}
	all := make([]int, len(lengths))
	for symbol, n := range lengths {
		if n > 0 {
			all[symbol] = int(bits.Reverse16(uint16(next[n])) >> (16 - n))
			next[n]++
		}
	}
	return all
}

// coin is a leaf of codeLengths, or two that go together.
type coin struct {
	weight, symbol int
	a, b           *coin
}

// codeLengths are the lengths of a best code for these frequencies with at most limit bits (package-merge; Larmore and
// Hirschberg 1990). A symbol alone has one bit, and where there is none, the first has.
func codeLengths(frequencies []int, limit int) []int {
	lengths := make([]int, len(frequencies))
	var leaves []*coin
	for symbol, n := range frequencies {
		if n > 0 {
			leaves = append(leaves, &coin{weight: n, symbol: symbol})
		}
	}
	if len(leaves) < 2 {
		symbol := 0
		if len(leaves) == 1 {
			symbol = leaves[0].symbol
		}
		lengths[symbol] = 1
		return lengths
	}
	byWeight := func(x, y *coin) int { return cmp.Compare(x.weight, y.weight) }
	slices.SortStableFunc(leaves, byWeight)
	list := leaves
	for range limit - 1 {
		next := slices.Clone(leaves)
		for i := 0; i+1 < len(list); i += 2 {
			next = append(next, &coin{weight: list[i].weight + list[i+1].weight, a: list[i], b: list[i+1]})
		}
		slices.SortStableFunc(next, byWeight)
		list = next
	}
	var count func(p *coin)
	count = func(p *coin) {
		if p.a == nil {
			lengths[p.symbol]++
			return
		}
		count(p.a)
		count(p.b)
	}
	for _, p := range list[:2*len(leaves)-2] {
		count(p)
	}
	return lengths
}

// deflateTable is how a block says its codes.
type deflateTable struct {
	literals, far int      // how many
	symbols       [][3]int // a symbol, and what follows it in how many bits
	lengths       []int
	order         int // how many of the lengths are said
}

func newDeflateTable(literals, far []int) *deflateTable {
	t := &deflateTable{literals: used(literals, 257), far: used(far, 1)}
	all := slices.Concat(literals[:t.literals], far[:t.far])
	for at := 0; at < len(all); {
		n := 1
		for at+n < len(all) && all[at+n] == all[at] {
			n++
		}
		switch length := all[at]; {
		case length == 0 && n >= 11:
			n = min(n, 138)
			t.symbols = append(t.symbols, [3]int{18, n - 11, 7})
		case length == 0 && n >= 3:
			t.symbols = append(t.symbols, [3]int{17, n - 3, 3})
		case length != 0 && n >= 4:
			n = min(n, 7)
			t.symbols = append(t.symbols, [3]int{length}, [3]int{16, n - 4, 2})
		default:
			n = 1
			t.symbols = append(t.symbols, [3]int{length})
		}
		at += n
	}
	frequencies := make([]int, 19)
	for _, s := range t.symbols {
		frequencies[s[0]]++
	}
	t.lengths = codeLengths(frequencies, 7)
	for t.order = 19; t.order > 4 && t.lengths[deflateOrder[t.order-1]] == 0; t.order-- {
	}
	return t
}

// used is how many of the lengths are said, at least some.
func used(lengths []int, least int) int {
	n := len(lengths)
	for n > least && lengths[n-1] == 0 {
		n--
	}
	return n
}

func (t *deflateTable) size() int {
	n := 14 + 3*t.order
	for _, s := range t.symbols {
		n += t.lengths[s[0]] + s[2]
	}
	return n
}

func (t *deflateTable) write(w *deflateWriter) {
	w.bits(t.literals-257, 5)
	w.bits(t.far-1, 5)
	w.bits(t.order-4, 4)
	for _, symbol := range deflateOrder[:t.order] {
		w.bits(t.lengths[symbol], 3)
	}
	all := codes(t.lengths)
	for _, s := range t.symbols {
		w.bits(all[s[0]], t.lengths[s[0]])
		w.bits(s[1], s[2])
	}
}
