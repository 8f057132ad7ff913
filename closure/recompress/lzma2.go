package recompress

import (
	"encoding/binary"
	"math/bits"
)

const (
	lzmaStates     = 12
	lzmaTop        = 1 << 24
	lzmaProbBits   = 11
	lzmaProbMoves  = 5
	lzmaLiteral    = 0x300 // probabilities of a literal
	lzmaMinMatch   = 2
	lzmaMaxMatch   = 273
	lzmaAlignBits  = 4
	lzmaFullSlots  = 14 // distances from this slot on have bits that are aligned
	lzmaChunk      = 1 << 16
	lzmaChunkPlain = 1 << 21
	// lzmaStep is more than what one step takes, compressed.
	lzmaStep = 64

	lzma2End, lzma2RawReset, lzma2Raw = 0, 1, 2
	lzma2Coded, lzma2StateReset       = 0x80, 0xa0
	lzma2Properties, lzma2DictReset   = 0xc0, 0xe0
)

// lzmaCoder codes a bit with a probability, or some that are as likely as not: a decoder gives them, an encoder is
// given them, and gives them back.
type lzmaCoder interface {
	bit(p *uint16, b uint32) uint32
	direct(v uint32, n int) uint32
}

// lzmaDecoder is a range decoder. Behind the end of its bytes it reads zeros.
type lzmaDecoder struct {
	in         []byte
	scope, now uint32
}

func newLZMADecoder(in []byte) *lzmaDecoder {
	d := &lzmaDecoder{in: in, scope: 0xffffffff}
	for range 5 {
		d.next()
	}
	return d
}

func (d *lzmaDecoder) next() {
	d.now <<= 8
	if len(d.in) > 0 {
		d.now |= uint32(d.in[0])
		d.in = d.in[1:]
	}
}

func (d *lzmaDecoder) normalize() {
	if d.scope < lzmaTop {
		d.scope <<= 8
		d.next()
	}
}

func (d *lzmaDecoder) bit(p *uint16, _ uint32) uint32 {
	d.normalize()
	bound := d.scope >> lzmaProbBits * uint32(*p)
	if d.now < bound {
		d.scope = bound
		*p += (1<<lzmaProbBits - *p) >> lzmaProbMoves
		return 0
	}
	d.scope, d.now = d.scope-bound, d.now-bound
	*p -= *p >> lzmaProbMoves
	return 1
}

func (d *lzmaDecoder) direct(_ uint32, n int) (v uint32) {
	for range n {
		d.normalize()
		d.scope >>= 1
		b := uint32(0)
		if d.now >= d.scope {
			d.now, b = d.now-d.scope, 1
		}
		v = v<<1 | b
	}
	return v
}

// lzmaEncoder is a range encoder.
type lzmaEncoder struct {
	out   []byte
	low   uint64
	scope uint32
	cache byte
	held  int // bytes that a carry may still change
}

func newLZMAEncoder() *lzmaEncoder { return &lzmaEncoder{scope: 0xffffffff, held: 1} }

func (e *lzmaEncoder) shift() {
	if uint32(e.low) < 0xff000000 || e.low>>32 != 0 {
		carry := byte(e.low >> 32)
		for ; e.held > 0; e.held-- {
			e.out = append(e.out, e.cache+carry)
			e.cache = 0xff
		}
		e.cache = byte(e.low >> 24)
	}
	e.held++
	e.low = uint64(uint32(e.low) << 8)
}

func (e *lzmaEncoder) normalize() {
	if e.scope < lzmaTop {
		e.scope <<= 8
		e.shift()
	}
}

func (e *lzmaEncoder) bit(p *uint16, b uint32) uint32 {
	bound := e.scope >> lzmaProbBits * uint32(*p)
	if b == 0 {
		e.scope = bound
		*p += (1<<lzmaProbBits - *p) >> lzmaProbMoves
	} else {
		e.low += uint64(bound)
		e.scope -= bound
		*p -= *p >> lzmaProbMoves
	}
	e.normalize()
	return b
}

func (e *lzmaEncoder) direct(v uint32, n int) uint32 {
	for i := n - 1; i >= 0; i-- {
		e.scope >>= 1
		if v>>i&1 != 0 {
			e.low += uint64(e.scope)
		}
		e.normalize()
	}
	return v
}

// size is what the chunk takes if it ends here.
func (e *lzmaEncoder) size() int { return len(e.out) + e.held + 5 }

func (e *lzmaEncoder) finish() []byte {
	for range 5 {
		e.shift()
	}
	return e.out
}

// lzmaTree is a binary tree of probabilities.
type lzmaTree []uint16

func newLZMATree(bits int) lzmaTree {
	t := make(lzmaTree, 1<<bits)
	for i := range t {
		t[i] = 1 << (lzmaProbBits - 1)
	}
	return t
}

func (t lzmaTree) code(c lzmaCoder, symbol uint32) uint32 {
	n := bits.Len(uint(len(t))) - 1
	m := uint32(1)
	for i := n - 1; i >= 0; i-- {
		m = m<<1 | c.bit(&t[m], symbol>>i&1)
	}
	return m - uint32(len(t))
}

// reverse codes n bits, the lowest first, with the probabilities from t[base:].
func (t lzmaTree) reverse(c lzmaCoder, base, n int, symbol uint32) (v uint32) {
	m := 1
	for i := range n {
		b := c.bit(&t[base+m], symbol>>i&1)
		m = m<<1 | int(b)
		v |= b << i
	}
	return v
}

// lzmaLengths codes the lengths of matches.
type lzmaLengths struct {
	choice, high lzmaTree
	low, mid     []lzmaTree
}

func newLZMALengths(positions int) lzmaLengths {
	l := lzmaLengths{choice: newLZMATree(1), high: newLZMATree(8)}
	for range positions {
		l.low, l.mid = append(l.low, newLZMATree(3)), append(l.mid, newLZMATree(3))
	}
	return l
}

func (l *lzmaLengths) code(c lzmaCoder, position, length int) int {
	at := uint32(length - lzmaMinMatch)
	switch {
	case c.bit(&l.choice[0], flag(at >= 8)) == 0:
		return lzmaMinMatch + int(l.low[position].code(c, at))
	case c.bit(&l.choice[1], flag(at >= 16)) == 0:
		return lzmaMinMatch + 8 + int(l.mid[position].code(c, at-8))
	}
	return lzmaMinMatch + 16 + int(l.high.code(c, at-16))
}

// lzmaStepOf is a step: length bytes as they stand distance bytes before, or, where length is 0, the byte literal.
type lzmaStepOf struct {
	length, distance int
	literal          byte
}

// lzmaModel is what an encoder and a decoder of LZMA know at a place.
type lzmaModel struct {
	lc, lp, pb        int
	state             int
	reps              [4]int // distances
	isMatch, isLong   [lzmaStates]lzmaTree
	isRep, g0, g1, g2 lzmaTree
	slots             [4]lzmaTree
	special, align    lzmaTree
	lengths, repLens  lzmaLengths
	literals          []uint16
}

// newLZMAModel reads the byte of properties.
func newLZMAModel(properties byte) (*lzmaModel, bool) {
	p := int(properties)
	m := &lzmaModel{lc: p % 9, lp: p / 9 % 5, pb: p / 45}
	if m.pb > 4 || m.lc+m.lp > 4 {
		return nil, false
	}
	m.reset()
	return m, true
}

// reset forgets everything but the properties.
func (m *lzmaModel) reset() {
	positions := m.pb
	*m = lzmaModel{lc: m.lc, lp: m.lp, pb: m.pb, reps: [4]int{1, 1, 1, 1}}
	for i := range lzmaStates {
		m.isMatch[i], m.isLong[i] = newLZMATree(positions), newLZMATree(positions)
	}
	m.isRep, m.g0, m.g1, m.g2 = newLZMATree(4), newLZMATree(4), newLZMATree(4), newLZMATree(4)
	for i := range m.slots {
		m.slots[i] = newLZMATree(6)
	}
	m.special, m.align = newLZMATree(7), newLZMATree(lzmaAlignBits)
	m.lengths, m.repLens = newLZMALengths(1<<positions), newLZMALengths(1<<positions)
	m.literals = make([]uint16, lzmaLiteral<<(m.lc+m.lp))
	for i := range m.literals {
		m.literals[i] = 1 << (lzmaProbBits - 1)
	}
}

// step codes the step at data[at:]; data holds what is before. ok is false where a distance leads before the beginning.
func (m *lzmaModel) step(c lzmaCoder, data []byte, at int, s lzmaStepOf) (done lzmaStepOf, ok bool) {
	position := at & (1<<m.pb - 1)
	if c.bit(&m.isMatch[m.state][position], flag(s.length > 0)) == 0 {
		return lzmaStepOf{literal: m.literal(c, data, at, s.literal)}, true
	}
	rep := 0
	for rep < 4 && m.reps[rep] != s.distance {
		rep++
	}
	if c.bit(&m.isRep[m.state], flag(rep < 4)) == 0 {
		s.length = m.lengths.code(c, position, s.length)
		s.distance = m.distance(c, s.length, s.distance)
		m.reps = [4]int{s.distance, m.reps[0], m.reps[1], m.reps[2]}
		m.state = after(m.state, 7, 10)
		return s, s.distance > 0 && s.distance <= at
	}
	switch {
	case c.bit(&m.g0[m.state], flag(rep > 0)) == 0:
		if c.bit(&m.isLong[m.state][position], flag(s.length > 1)) == 0 {
			m.state = after(m.state, 9, 11)
			return lzmaStepOf{length: 1, distance: m.reps[0]}, m.reps[0] <= at
		}
	case c.bit(&m.g1[m.state], flag(rep > 1)) == 0:
		m.reps[0], m.reps[1] = m.reps[1], m.reps[0]
	case c.bit(&m.g2[m.state], flag(rep > 2)) == 0:
		m.reps[0], m.reps[1], m.reps[2] = m.reps[2], m.reps[0], m.reps[1]
	default:
		m.reps[0], m.reps[1], m.reps[2], m.reps[3] = m.reps[3], m.reps[0], m.reps[1], m.reps[2]
	}
	s = lzmaStepOf{length: m.repLens.code(c, position, s.length), distance: m.reps[0]}
	m.state = after(m.state, 8, 11)
	return s, s.distance <= at
}

// after is the state after a match: whether a literal was before it counts.
func after(state, literal, match int) int {
	if state < 7 {
		return literal
	}
	return match
}

func (m *lzmaModel) literal(c lzmaCoder, data []byte, at int, b byte) byte {
	before := byte(0)
	if at > 0 {
		before = data[at-1]
	}
	which := (at&(1<<m.lp-1))<<m.lc | int(before)>>(8-m.lc)
	probs := m.literals[lzmaLiteral*which:][:lzmaLiteral]
	symbol := uint32(1)
	if m.state >= 7 && m.reps[0] <= at {
		match := uint32(data[at-m.reps[0]])
		for i := 7; i >= 0; i-- {
			predicted := match >> i & 1
			got := c.bit(&probs[(1+predicted)<<8|symbol], uint32(b)>>i&1)
			symbol = symbol<<1 | got
			if got != predicted {
				break
			}
		}
	}
	for symbol < 0x100 {
		i := 8 - bits.Len32(symbol)
		symbol = symbol<<1 | c.bit(&probs[symbol], uint32(b)>>i&1)
	}
	switch {
	case m.state < 4:
		m.state = 0
	case m.state < 10:
		m.state -= 3
	default:
		m.state -= 6
	}
	return byte(symbol)
}

func (m *lzmaModel) distance(c lzmaCoder, length, distance int) int {
	far := uint32(distance - 1)
	slot := far
	if far >= 4 {
		n := bits.Len32(far) - 1
		slot = uint32(n)<<1 | far>>(n-1)&1
	}
	slot = m.slots[min(length-lzmaMinMatch, 3)].code(c, slot)
	if slot < 4 {
		return int(slot) + 1
	}
	n := int(slot>>1) - 1
	base := (2 | slot&1) << n
	rest := far - base
	if slot < lzmaFullSlots {
		return int(base+m.special.reverse(c, int(base)-int(slot), n, rest)) + 1
	}
	high := c.direct(rest>>lzmaAlignBits, n-lzmaAlignBits)
	return int(base+high<<lzmaAlignBits+m.align.reverse(c, 0, lzmaAlignBits, rest)) + 1
}

// lzma2Writer makes an LZMA2 stream of what data holds.
type lzma2Writer struct {
	matcher
	out     []byte
	props   byte
	model   *lzmaModel // nil before the first coded chunk
	begin   int        // of the chunk at hand
	encoder *lzmaEncoder
	// What the stream has had.
	dictionary, properties, stale bool
}

// start begins a coded chunk.
func (w *lzma2Writer) start() {
	w.begin, w.encoder = w.at, newLZMAEncoder()
	if w.model == nil || w.stale {
		w.model, _ = newLZMAModel(w.props)
	}
}

// step writes one step.
func (w *lzma2Writer) step(s lzmaStepOf) {
	if w.encoder == nil {
		w.start()
	}
	w.model.step(w.encoder, w.data, w.at, s)
	w.at += max(s.length, 1)
	if w.encoder.size() > lzmaChunk-lzmaStep || w.at-w.begin > lzmaChunkPlain-lzmaMaxMatch {
		w.end()
	}
}

// end ends the chunk at hand.
func (w *lzma2Writer) end() {
	if w.encoder == nil {
		return
	}
	control := byte(lzma2Coded)
	switch {
	case !w.dictionary:
		control = lzma2DictReset
	case !w.properties:
		control = lzma2Properties
	case w.stale:
		control = lzma2StateReset
	}
	packed, plain := w.encoder.finish(), w.at-w.begin-1
	w.out = append(w.out, control|byte(plain>>16))
	w.out = binary.BigEndian.AppendUint16(w.out, uint16(plain))
	w.out = binary.BigEndian.AppendUint16(w.out, uint16(len(packed)-1))
	if control >= lzma2Properties {
		w.out = append(w.out, w.props)
	}
	w.out = append(w.out, packed...)
	w.encoder, w.dictionary, w.properties, w.stale = nil, true, true, false
}

// raw writes what stands before end as it is, at most 64 KiB.
func (w *lzma2Writer) raw(end int) {
	w.end()
	n := end - w.at
	if n <= 0 {
		return
	}
	control := byte(lzma2Raw)
	if !w.dictionary {
		control = lzma2RawReset
	}
	w.out = append(binary.BigEndian.AppendUint16(append(w.out, control), uint16(n-1)), w.data[w.at:end]...)
	w.at, w.dictionary, w.stale = end, true, true
}

// take takes over a step that ends at end.
func (w *lzma2Writer) take(distance, end int) {
	for w.at < end {
		distance, n := w.match(distance, end)
		switch {
		case n >= lzmaMinMatch, n == 1 && w.model != nil && !w.stale && distance == w.model.reps[0]:
			w.step(lzmaStepOf{length: n, distance: distance})
		default:
			w.step(lzmaStepOf{literal: w.data[w.at]})
		}
	}
}

// LZMA2 gives an LZMA2 stream (xz-file-format, 5.3.1; liblzma, lzma2_decoder.c) of now by the steps of the stream
// packed, which holds was. The two texts are as long as each other and differ only in the edits, which are in order.
// packed may end with the mark of the stream's end or without; what is given has none.
func LZMA2(packed, was, now []byte, edits []Edit) ([]byte, error) {
	if len(was) != len(now) {
		return nil, ErrMalformed
	}
	w := &lzma2Writer{matcher: newMatcher(now, edits, len(now), lzmaMaxMatch)}
	var from *lzmaModel
	for at := 0; len(packed) > 0 && packed[0] != lzma2End; {
		control := packed[0]
		if control < lzma2Coded {
			if control > lzma2Raw || len(packed) < 3 {
				return nil, ErrMalformed
			}
			n := int(binary.BigEndian.Uint16(packed[1:])) + 1
			if len(packed) < 3+n || at+n > len(was) {
				return nil, ErrMalformed
			}
			packed, at = packed[3+n:], at+n
			w.raw(at)
			continue
		}
		if len(packed) < 6 {
			return nil, ErrMalformed
		}
		plain := int(control&0x1f)<<16 + int(binary.BigEndian.Uint16(packed[1:])) + 1
		size, head := int(binary.BigEndian.Uint16(packed[3:]))+1, 5
		switch {
		case control >= lzma2Properties:
			if head = 6; from != nil && packed[5] != w.props {
				return nil, ErrMalformed // which no compressor does
			}
			var ok bool
			if from, ok = newLZMAModel(packed[5]); !ok {
				return nil, ErrMalformed
			}
			w.props = packed[5]
		case from == nil:
			return nil, ErrMalformed
		case control >= lzma2StateReset:
			from.reset()
		}
		if len(packed) < head+size || at+plain > len(was) {
			return nil, ErrMalformed
		}
		decoder := newLZMADecoder(packed[head : head+size])
		for end := at + plain; at < end; {
			s, ok := from.step(decoder, was, at, lzmaStepOf{})
			at += max(s.length, 1)
			if !ok || at > end {
				return nil, ErrMalformed
			}
			w.take(s.distance, at)
		}
		packed = packed[head+size:]
	}
	w.end()
	if w.at != len(was) {
		return nil, ErrMalformed
	}
	return w.out, nil
}
