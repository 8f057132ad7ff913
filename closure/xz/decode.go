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

// bit decodes one bit with its probability, for bits that decide what comes next.
func (r coder) bit(p *uint16, in *input) (coder, bool) {
	r = r.fill(in)
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

// tree decodes bits from the highest down until symbol reaches end, without a branch on their values, which would be
// mispredicted.
func (r coder) tree(probs []uint16, symbol, end uint32, in *input) (coder, uint32) {
	for symbol < end {
		r = r.fill(in)
		p := &probs[symbol]
		prob := uint32(*p)
		bound := r.rng >> 11 * prob
		zero := uint32(int64(uint64(r.code)-uint64(bound)) >> 63)
		r.rng += bound&zero<<1 - r.rng&zero - bound
		r.code -= bound &^ zero
		*p = uint16(prob - uint32(int32(prob+zero&negativeStep)>>5))
		symbol = symbol<<1 + 1 + zero
	}
	return r, symbol
}

// negativeStep turns the step of a one bit, prob>>5, into that of a zero bit, -((2048-prob)>>5).
const negativeStep = 1<<32 - 2048 + 31

// matched decodes a literal that follows a match, with the byte at rep0 as context.
func (r coder) matched(probs []uint16, match uint32, in *input) (coder, uint32) {
	symbol, offset := uint32(1), uint32(0x100)
	for symbol < 0x100 {
		r = r.fill(in)
		match <<= 1
		want := match & offset
		p := &probs[offset+want+symbol]
		prob := uint32(*p)
		bound := r.rng >> 11 * prob
		zero := uint32(int64(uint64(r.code)-uint64(bound)) >> 63)
		r.rng += bound&zero<<1 - r.rng&zero - bound
		r.code -= bound &^ zero
		*p = uint16(prob - uint32(int32(prob+zero&negativeStep)>>5))
		symbol = symbol<<1 + 1 + zero
		offset = want ^ offset&zero
	}
	return r, symbol
}

// reverse decodes n bits from the lowest up.
func (r coder) reverse(probs []uint16, n int, in *input) (coder, uint32) {
	symbol, value := uint32(1), uint32(0)
	for i := range n {
		var one bool
		r, one = r.bit(&probs[symbol], in)
		symbol <<= 1
		if one {
			symbol++
			value |= 1 << i
		}
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
	r, one := r.bit(&probs[lenChoice], in)
	if !one {
		r, n := r.tree(probs[lenLow+posState*8:][:8], 1, 8, in)
		return r, n - 8
	}
	if r, one = r.bit(&probs[lenChoice2], in); !one {
		r, n := r.tree(probs[lenMid+posState*8:][:8], 1, 8, in)
		return r, n
	}
	r, n := r.tree(probs[lenHigh:][:256], 1, 256, in)
	return r, n - 256 + 16
}

// distance decodes a match's distance minus one.
func (r coder) distance(d *lzma, length uint32, in *input) (coder, uint32) {
	slots := d.probs[oSlot+64*min(length, 3):][:64]
	r, slot := r.tree(slots, 1, 64, in)
	slot -= 64
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
		posState := uint32(d.pos) & d.posMask
		var one bool
		r, one = r.bit(&d.probs[oMatch+d.state*posStates+posState], in)
		if !one {
			r = d.literal(r, in)
		} else {
			var length uint32
			r, length = d.match(r, posState, in)
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

// literal decodes one byte.
func (d *lzma) literal(r coder, in *input) coder {
	prev := uint32(0)
	if d.full > 0 {
		at := d.pos - 1
		if at < 0 {
			at = d.size - 1
		}
		prev = uint32(d.dict[at])
	}
	sub := uint32(d.pos)&d.litMask<<d.lc + prev>>(8-d.lc)
	probs := d.probs[oLiteral+sub*litCoder:][:litCoder]
	var symbol uint32
	if d.state < litStates {
		r, symbol = r.tree(probs, 1, 0x100, in)
	} else {
		at := d.pos - int(d.rep0) - 1
		if at < 0 {
			at += d.size
		}
		r, symbol = r.matched(probs, uint32(d.dict[at]), in)
	}
	d.dict[d.pos] = byte(symbol)
	d.pos++
	d.full = min(d.full+1, d.window)
	switch {
	case d.state < 4:
		d.state = 0
	case d.state < 10:
		d.state -= 3
	default:
		d.state -= 6
	}
	return r
}

// match decodes what follows a one bit: a match or a repetition. It sets rep0 and gives the length minus minMatch.
func (d *lzma) match(r coder, posState uint32, in *input) (coder, uint32) {
	afterMatch := uint32(0)
	if d.state >= litStates {
		afterMatch = 3
	}
	r, one := r.bit(&d.probs[oRep+d.state], in)
	if !one {
		var length uint32
		r, length = r.length((*[lenCoder]uint16)(d.probs[oMatchLen:]), posState, in)
		d.rep3, d.rep2, d.rep1 = d.rep2, d.rep1, d.rep0
		r, d.rep0 = r.distance(d, length, in)
		d.state = 7 + afterMatch
		return r, length
	}
	if r, one = r.bit(&d.probs[oRepG0+d.state], in); !one {
		if r, one = r.bit(&d.probs[oRepLong+d.state*posStates+posState], in); !one {
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
	r, one := r.bit(&d.probs[oRepG1+d.state], in)
	if !one {
		d.rep0, d.rep1 = d.rep1, d.rep0
		return r
	}
	if r, one = r.bit(&d.probs[oRepG2+d.state], in); !one {
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
	from := d.pos - distance
	if from < 0 {
		from += d.size
	}
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
