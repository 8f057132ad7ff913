package xz

import (
	"encoding/binary"
	"errors"
)

// The model of LZMA, as in the LZMA SDK's specification (lzma-specification.txt) and xz's lzma_decoder.c: one array
// of probabilities, addressed by these offsets.
const (
	numStates  = 12
	posStates  = 16
	litStates  = 7 // states below this follow a literal
	lenChoice  = 0
	lenChoice2 = 1
	lenLow     = 2
	lenMid     = lenLow + posStates*8
	lenHigh    = lenMid + posStates*8
	lenCoder   = lenHigh + 256

	oMatch    = 0
	oRep      = oMatch + numStates*posStates
	oRepG0    = oRep + numStates
	oRepG1    = oRepG0 + numStates
	oRepG2    = oRepG1 + numStates
	oRepLong  = oRepG2 + numStates
	oSlot     = oRepLong + numStates*posStates
	oSpecial  = oSlot + 4*64
	oAlign    = oSpecial + 128
	oMatchLen = oAlign + 16
	oRepLen   = oMatchLen + lenCoder
	oLiteral  = oRepLen + lenCoder
	litCoder  = 0x300
	maxLitPos = 4 // lc + lp of LZMA2 at most
	numProbs  = oLiteral + litCoder<<maxLitPos

	probInit = 1 << 10
	minMatch = 2
	topValue = 1 << 24
)

const (
	// inputSize holds one LZMA2 chunk's compressed bytes whole, wherever it starts in the buffer.
	inputSize = 1 << 18
	// inputSlack is read beyond a chunk's end at most before the end is looked at: one symbol is below 64 bits.
	inputSlack = 64
	// copySlack is written beyond a match's end at most, where nothing that may still be referenced lies.
	copySlack = 32
)

var errCorrupt = errors.New("xz: data is corrupt")

// lzma decodes the chunks of one LZMA2 stream into a circular dictionary. The compressed bytes of a whole chunk lie
// in input, so that nothing waits inside the loop.
//
// The amd64 assembly addresses the fields by name through go_asm.h.
type lzma struct {
	dict  []byte // size + copySlack bytes; the byte in front of it is what came before its first
	input []byte // inputSize + inputSlack bytes

	// size is that of the circle: at least window + copySlack once it turns, and a multiple of 16 so that positions keep
	// their low bits.
	size   int
	window int // the farthest distance allowed
	pos    int // next byte to write
	full   int // bytes that may be referenced, at most window

	in    int // next byte of input
	inEnd int // end of the chunk's compressed bytes

	rng, code        uint32
	rep0             uint32
	rep1, rep2, rep3 uint32
	state            uint32
	pending          uint32 // bytes of the last match that did not fit

	lc      uint32
	posMask uint32
	litMask uint32

	portable bool // run the Go code even where there is assembly

	probs [numProbs]uint16
}

func (d *lzma) resetState() {
	d.state, d.rep0, d.rep1, d.rep2, d.rep3, d.pending = 0, 0, 0, 0, 0, 0
	for i := range d.probs {
		d.probs[i] = probInit
	}
}

// setProps reads the byte (pb*5 + lp)*9 + lc.
func (d *lzma) setProps(b byte) error {
	if b > (4*5+4)*9+8 {
		return errCorrupt
	}
	lc, lp, pb := uint32(b%9), uint32(b/9%5), uint32(b/45)
	if lc+lp > maxLitPos {
		return errCorrupt
	}
	d.lc, d.litMask, d.posMask = lc, 1<<lp-1, 1<<pb-1
	return nil
}

// startChunk reads the range coder's first five bytes.
func (d *lzma) startChunk() error {
	if d.inEnd-d.in < 5 || d.input[d.in] != 0 {
		return errCorrupt
	}
	d.rng, d.code = 0xffffffff, binary.BigEndian.Uint32(d.input[d.in+1:])
	d.in += 5
	return nil
}

// endChunk checks that the chunk's bytes were used up exactly.
func (d *lzma) endChunk() error {
	if d.rng < topValue {
		d.rng <<= 8
		d.code = d.code<<8 | uint32(d.input[d.in])
		d.in++
	}
	if d.in != d.inEnd || d.code != 0 || d.pending != 0 {
		return errCorrupt
	}
	return nil
}

// copyPending writes what is left of a match that met the limit.
func (d *lzma) copyPending(limit int) {
	n := min(int(d.pending), limit-d.pos)
	d.pending -= uint32(n)
	d.copyMatch(n)
}

// copyMatch repeats n bytes from rep0+1 back, byte by byte. It wraps around on the source's side; the caller keeps
// pos+n within the circle.
func (d *lzma) copyMatch(n int) {
	from := d.pos - int(d.rep0) - 1
	if from < 0 {
		from += d.size
	}
	for range n {
		d.dict[d.pos] = d.dict[from]
		d.pos++
		if from++; from == d.size {
			from = 0
		}
	}
	d.full = min(d.full+n, d.window)
}
