package xz

import "encoding/binary"

// coder is the range decoder, passed by value so that it stays in registers.
type coder struct {
	rng, code uint32
	in        int
}

type input = [inputSize + inputSlack]byte

// fill keeps at least 24 bits in the range. in is inside the buffer because a symbol ends at most inputSlack bytes
// behind a chunk; the mask only tells the compiler so.
func (r coder) fill(in *input) coder {
	if r.rng < topValue {
		r.rng <<= 8
		r.code = r.code<<8 | uint32(in[r.in])
		r.in++
	}
	return r
}

// bit decodes one bit with its probability, for bits that decide what comes next. The range is full.
func (r coder) bit(p *uint16) (coder, bool) {
	prob := uint32(*p)
	bound := r.rng >> 11 * prob
	if r.code < bound {
		r.rng = bound
		*p = uint16(prob + (2048-prob)>>5)
		return r, false
	}
	r.rng -= bound
	r.code -= bound
	*p = uint16(prob - prob>>5)
	return r, true
}

// choose decodes one bit with its probability without a branch on its value, which would be mispredicted: zero has all
// bits of a zero bit, next is the probability afterwards. The range is full.
func (r coder) choose(prob uint32) (after coder, zero, next uint32) {
	bound := r.rng >> 11 * prob
	zero = uint32(int64(uint64(r.code)-uint64(bound)) >> 63)
	r.rng -= bound
	r.rng ^= (r.rng ^ bound) & zero
	r.code -= bound &^ zero
	return r, zero, prob - uint32(int32(prob+zero&negativeStep)>>5)
}

// negativeStep turns the step of a one bit, prob>>5, into that of a zero bit, -((2048-prob)>>5).
const negativeStep = 1<<32 - 2048 + 31

// tree decodes as many bits as make the number of a probability, from the highest down.
func (r coder) tree(probs []uint16, in *input) (coder, uint32) {
	symbol := uint32(1)
	for int(symbol) < len(probs) {
		var zero, next uint32
		r, zero, next = r.fill(in).choose(uint32(probs[symbol]))
		probs[symbol] = uint16(next)
		symbol = symbol<<1 + 1 + zero
	}
	return r, symbol - uint32(len(probs))
}

// unmatched decodes a literal that follows another. It loads what the bit after the next one may need before that is
// known.
func (r coder) unmatched(probs *[litCoder]uint16, in *input) (coder, uint32) {
	symbol, prob := uint32(1), uint32(probs[1])
	for symbol < 0x100 {
		one, other := uint32(probs[symbol<<1+1]), uint32(probs[symbol<<1])
		var zero, next uint32
		r, zero, next = r.fill(in).choose(prob)
		probs[symbol] = uint16(next)
		symbol = symbol<<1 + 1 + zero
		prob = one ^ (one^other)&zero
	}
	return r, symbol
}

// matched decodes a literal that follows a match, with the byte at rep0 as context.
func (r coder) matched(probs *[litCoder]uint16, match uint32, in *input) (coder, uint32) {
	symbol, offset := uint32(1), uint32(0x100)
	for symbol < 0x100 {
		match <<= 1
		want := match & offset
		p := &probs[offset+want+symbol]
		var zero, next uint32
		r, zero, next = r.fill(in).choose(uint32(*p))
		*p = uint16(next)
		symbol = symbol<<1 + 1 + zero
		offset = want ^ offset&zero
	}
	return r, symbol
}

// reverse decodes n bits from the lowest up.
func (r coder) reverse(probs []uint16, n int, in *input) (coder, uint32) {
	symbol, value := uint32(1), uint32(0)
	for i := range n {
		p := &probs[symbol]
		var zero, next uint32
		r, zero, next = r.fill(in).choose(uint32(*p))
		*p = uint16(next)
		symbol = symbol<<1 + 1 + zero
		value |= (1 + zero) << i
	}
	return r, value
}

// direct decodes n bits of equal odds, from the highest down.
func (r coder) direct(n uint32, in *input) (coder, uint32) {
	value := uint32(0)
	for range n {
		r = r.fill(in)
		r.rng >>= 1
		r.code -= r.rng
		zero := uint32(int32(r.code) >> 31)
		r.code += r.rng & zero
		value = value<<1 + 1 + zero
	}
	return r, value
}

// length decodes a match's length, without the minimum.
func (r coder) length(probs *[lenCoder]uint16, posState uint32, in *input) (coder, uint32) {
	r, one := r.fill(in).bit(&probs[lenChoice])
	if !one {
		return r.tree(probs[lenLow+posState*8:][:8], in)
	}
	if r, one = r.fill(in).bit(&probs[lenChoice2]); !one {
		r, n := r.tree(probs[lenMid+posState*8:][:8], in)
		return r, n + 8
	}
	r, n := r.tree(probs[lenHigh:][:256], in)
	return r, n + 16
}

// distance decodes a match's distance minus one.
func (r coder) distance(d *lzma, length uint32, in *input) (coder, uint32) {
	r, slot := r.tree(d.probs[oSlot+64*min(length, 3):][:64], in)
	if slot < 4 {
		return r, slot
	}
	bits := slot>>1 - 1
	base := (2 | slot&1) << bits
	var low uint32
	if slot < 14 {
		r, low = r.reverse(d.probs[oSpecial+base-slot:], int(bits), in)
		return r, base + low
	}
	r, high := r.direct(bits-4, in)
	r, low = r.reverse(d.probs[oAlign:][:16], 4, in)
	return r, base + high<<4 + low
}

// runGo is run in plain Go: the only one where there is no assembly, and the one it is compared with.
func (d *lzma) runGo(limit int) error {
	in := (*input)(d.input)
	r := coder{rng: d.rng, code: d.code, in: d.in}
	for d.pos < limit {
		var isMatch bool
		if r, isMatch = d.literals(r, limit, in); isMatch {
			var length uint32
			r, length = d.match(r, uint32(d.pos)&d.posMask, in)
			if int(d.rep0) >= d.full {
				return errCorrupt
			}
			d.repeat(int(length+minMatch), limit)
		}
		if r.in > d.inEnd {
			return errCorrupt
		}
	}
	d.rng, d.code, d.in = r.rng, r.code, r.in
	return nil
}

// literals decodes what comes before the next match, up to limit or beyond the chunk's end.
func (d *lzma) literals(r coder, limit int, in *input) (after coder, isMatch bool) {
	dict, probs, pos, state := d.dict, &d.probs, d.pos, d.state
	prev := uint32(0)
	if d.full > 0 {
		prev = uint32(dict[d.behind(pos, 1)])
	}
	for pos < limit && r.in <= d.inEnd {
		posState := uint32(pos) & d.posMask
		if r, isMatch = r.fill(in).bit(&probs[oMatch+state*posStates+posState]); isMatch {
			break
		}
		sub := uint32(pos)&d.litMask<<d.lc + prev>>(8-d.lc)
		tree := (*[litCoder]uint16)(probs[oLiteral+sub*litCoder:])
		if state < litStates {
			r, prev = r.unmatched(tree, in)
		} else {
			r, prev = r.matched(tree, uint32(dict[d.behind(pos, int(d.rep0)+1)]), in)
		}
		prev &= 0xff
		dict[pos] = byte(prev)
		pos++
		state = uint32(afterLiteral[state&0xf])
	}
	d.full = min(d.full+pos-d.pos, d.window)
	d.pos, d.state = pos, state
	return r, isMatch
}

// afterLiteral is the state that a literal leads to.
var afterLiteral = [16]uint8{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 4, 5}

// behind is the place of the byte so far before pos.
func (d *lzma) behind(pos, distance int) int {
	if pos < distance {
		pos += d.size
	}
	return pos - distance
}

// match decodes what follows a one bit: a match or a repetition. It sets rep0 and gives the length minus minMatch.
func (d *lzma) match(r coder, posState uint32, in *input) (coder, uint32) {
	afterMatch := uint32(0)
	if d.state >= litStates {
		afterMatch = 3
	}
	r, one := r.fill(in).bit(&d.probs[oRep+d.state])
	if !one {
		var length uint32
		r, length = r.length((*[lenCoder]uint16)(d.probs[oMatchLen:]), posState, in)
		d.rep3, d.rep2, d.rep1 = d.rep2, d.rep1, d.rep0
		r, d.rep0 = r.distance(d, length, in)
		d.state = 7 + afterMatch
		return r, length
	}
	if r, one = r.fill(in).bit(&d.probs[oRepG0+d.state]); !one {
		if r, one = r.fill(in).bit(&d.probs[oRepLong+d.state*posStates+posState]); !one {
			d.state = 9 + afterMatch*2/3
			return r, shortRep
		}
	} else {
		r = d.olderRep(r, in)
	}
	var length uint32
	r, length = r.length((*[lenCoder]uint16)(d.probs[oRepLen:]), posState, in)
	d.state = 8 + afterMatch
	return r, length
}

// olderRep moves rep1, rep2 or rep3 to the front.
func (d *lzma) olderRep(r coder, in *input) coder {
	r, one := r.fill(in).bit(&d.probs[oRepG1+d.state])
	if !one {
		d.rep0, d.rep1 = d.rep1, d.rep0
		return r
	}
	if r, one = r.fill(in).bit(&d.probs[oRepG2+d.state]); !one {
		d.rep0, d.rep1, d.rep2 = d.rep2, d.rep0, d.rep1
		return r
	}
	d.rep0, d.rep1, d.rep2, d.rep3 = d.rep3, d.rep0, d.rep1, d.rep2
	return r
}

// repeat writes n bytes from rep0+1 back, the part beyond limit later.
func (d *lzma) repeat(n, limit int) {
	if over := d.pos + n - limit; over > 0 {
		d.pending = uint32(over)
		n -= over
	}
	distance := int(d.rep0) + 1
	from := d.behind(d.pos, distance)
	if distance < 8 || from+n > d.size {
		d.copyMatch(n)
		return
	}
	to := d.pos
	d.pos += n
	d.full = min(d.full+n, d.window)
	for ; n > 0; n -= 8 {
		binary.LittleEndian.PutUint64(d.dict[to:], binary.LittleEndian.Uint64(d.dict[from:]))
		to += 8
		from += 8
	}
}

// shortRep is the length of a repetition of one byte, as length gives it.
const shortRep = 1<<32 + 1 - minMatch
