//go:build !purego

#include "go_asm.h"
#include "textflag.h"

// The decoder of run_amd64.go. What decides the speed is that bits of literals, lengths and distances are decoded
// without a branch on their value (it would be mispredicted a third of the time), and that the probabilities of both
// possible next bits are loaded before it is known which one comes.

#define RNG R8    // range of the coder
#define CODE R9   // its code
#define IN R10    // address of the next input byte
#define PROBS R11 // address of lzma.probs
#define OUT R12   // address of the next output byte

// The frame.
#define BASE 0(SP)      // address of the dictionary
#define END 8(SP)       // address behind its circle
#define LIMIT 16(SP)    // address to stop at
#define INEND 24(SP)    // address behind the chunk's input
#define FULLFROM 32(SP) // OUT less this is how much may be referenced, before the window bounds it
#define STATE 40(SP)
#define LENGTH 44(SP)
#define POSMASK 48(SP)
#define LITMASK 52(SP)  // which bits of the position, above eight of the byte before, choose a literal's tree
#define LITSHIFT 56(SP) // what scales them to its offset

// NORM keeps 24 bits in the range.
#define NORM \
	CMPL RNG, $0x1000000 \
	JCC  5(PC)           \
	SHLL $8, RNG         \
	SHLL $8, CODE        \
	MOVB (IN), CODE      \
	INCQ IN

// BOUND prepares a bit that is branched on: AX is its probability, CX the bound, and the carry is set for zero.
#define BOUND(prob) \
	NORM              \
	MOVWLZX prob, AX  \
	MOVL    RNG, CX   \
	SHRL    $11, CX   \
	IMULL   AX, CX    \
	CMPL    CODE, CX

#define ZERO(prob) \
	MOVL CX, RNG   \
	MOVL $2048, DX \
	SUBL AX, DX    \
	SHRL $5, DX    \
	ADDL DX, AX    \
	MOVW AX, prob

#define ONE(prob) \
	SUBL CX, RNG  \
	SUBL CX, CODE \
	MOVL AX, DX   \
	SHRL $5, DX   \
	SUBL DX, AX   \
	MOVW AX, prob

// CALC decodes the bit with probability AX without a branch. The carry is set for a zero; CX becomes what shifts
// right by five into the step that AX takes down. It uses CX and DX.
#define CALC \
	MOVL    RNG, CX       \
	SHRL    $11, RNG      \
	IMULL   AX, RNG       \
	MOVL    CODE, DX      \
	SUBL    RNG, CX       \
	SUBL    RNG, CODE     \
	CMOVLCC CX, RNG       \
	CMOVLCS DX, CODE      \
	LEAL    -2017(AX), CX \
	CMOVLCC AX, CX

// SYMBOL appends the bit to BX, by way of DX, and stores the new probability; the carry is used up.
#define SYMBOL(prob) \
	LEAL 1(BX)(BX*1), DX \
	SBBL $0, DX          \
	SARL $5, CX          \
	SUBL CX, AX          \
	MOVW AX, prob        \
	MOVL DX, BX

// TREE decodes one bit of a tree at R14: BX is the symbol so far and AX its probability, both are updated. It uses
// CX, DX, SI and R15.
#define TREE \
	MOVWLZX (R14)(BX*4), R15 \
	MOVWLZX 2(R14)(BX*4), SI \
	NORM                     \
	CALC                     \
	CMOVLCC SI, R15          \
	SYMBOL((R14)(BX*2))      \
	MOVL    R15, AX

// LAST is TREE for the last bit.
#define LAST \
	NORM \
	CALC \
	SYMBOL((R14)(BX*2))

#define ROOT \
	MOVL    $1, BX     \
	MOVWLZX 2(R14), AX

#define TREE3 ROOT; TREE; TREE; LAST
#define TREE6 ROOT; TREE; TREE; TREE; TREE; TREE; LAST
#define TREE8 ROOT; TREE; TREE; TREE; TREE; TREE; TREE; TREE; LAST

// LITERAL makes a literal's tree, as an offset, of R13: the position above eight bits of the byte before. A model has
// at most four bits of both, so that byte's lower four do not matter. It uses CX.
#define LITERAL \
	ANDL LITMASK, R13          \
	LEAL (R13)(R13*2), R13     \
	MOVL LITSHIFT, CX          \
	SHLL CX, R13

// MATCHED decodes one bit of a literal at R14 after a match: BX is the symbol so far and AX its probability, SI the
// offset of the third of the tree, all three are updated. R15 is the byte at rep0, shifted along so that its bit 8
// is the one that this bit is likely to be; while all were, SI is 0x100. It uses CX, DX, DI, R13 and BP.
#define MATCHED \
	MOVL    R15, DI             \
	ANDL    SI, DI              \
	XORL    DI, SI              \
	ADDL    R15, R15            \
	MOVL    R15, R13            \
	ANDL    SI, R13             \
	ADDL    SI, R13             \
	MOVL    R15, BP             \
	ANDL    DI, BP              \
	ADDL    DI, BP              \
	LEAQ    (R14)(BX*4), CX     \
	MOVWLZX (CX)(R13*2), R13    \
	MOVWLZX 2(CX)(BP*2), BP     \
	NORM                        \
	CALC                        \
	CMOVLCC BP, R13             \
	LEAQ    (BX)(DI*2), BP      \
	LEAQ    (BP)(SI*1), BP      \
	CMOVLCC DI, SI              \
	SYMBOL((R14)(BP*2))         \
	MOVL    R13, AX

// LASTMATCHED is MATCHED for the last bit.
#define LASTMATCHED \
	ANDL SI, R15             \
	LEAQ (BX)(SI*1), BP      \
	LEAQ (BP)(R15*1), BP     \
	NORM                     \
	CALC                     \
	SYMBOL((R14)(BP*2))

// REVERSED decodes one bit of a tree at R14, from the lowest up, and adds its value to R13. BX is the symbol so far
// and AX its probability, both are updated. It uses CX, DX, SI and R15.
#define REVERSED(value) \
	MOVWLZX (R14)(BX*4), R15  \
	MOVWLZX 2(R14)(BX*4), SI  \
	NORM                      \
	CALC                      \
	LEAL    value, DX         \
	CMOVLCC DX, R13           \
	CMOVLCC SI, R15           \
	SYMBOL((R14)(BX*2))       \
	MOVL    R15, AX

// DECODELENGTH decodes a length, without the minimum, into BX, from the coder at R14 and the position state in the
// low bits of BX.
#define DECODELENGTH(mid, high, end) \
	ANDL  $15, BX                          \
	BOUND((R14))                           \
	JCC   mid                              \
	ZERO((R14))                            \
	SHLL  $4, BX                           \
	LEAQ  (const_lenLow*2)(R14)(BX*1), R14 \
	TREE3                                  \
	SUBL  $8, BX                           \
	JMP   end                              \
mid:                                       \
	ONE((R14))                             \
	BOUND(2(R14))                          \
	JCC   high                             \
	ZERO(2(R14))                           \
	SHLL  $4, BX                           \
	LEAQ  (const_lenMid*2)(R14)(BX*1), R14 \
	TREE3                                  \
	JMP   end                              \
high:                                      \
	ONE(2(R14))                            \
	ADDQ  $(const_lenHigh*2), R14          \
	TREE8                                  \
	SUBL  $240, BX                         \
end:

// NEXTSTATE sets STATE to low when the state in SI follows a literal, else to low+3 (or +2); it uses AX.
#define NEXTSTATE(low, step) \
	CMPL SI, $7         \
	SBBL AX, AX         \
	ANDL $(-step), AX   \
	ADDL $(low+step), AX \
	MOVL AX, STATE

// func decode(d *lzma, limit int) int
TEXT ·decode(SB), NOSPLIT, $64-24
	MOVQ d+0(FP), DI
	MOVQ lzma_dict(DI), AX
	MOVQ AX, BASE
	MOVQ lzma_size(DI), BX
	ADDQ AX, BX
	MOVQ BX, END
	MOVQ limit+8(FP), BX
	ADDQ AX, BX
	MOVQ BX, LIMIT
	MOVQ lzma_pos(DI), OUT
	ADDQ AX, OUT
	MOVQ OUT, BX
	SUBQ lzma_full(DI), BX
	MOVQ BX, FULLFROM
	MOVQ lzma_input(DI), IN
	MOVQ IN, BX
	ADDQ lzma_in(DI), IN
	ADDQ lzma_inEnd(DI), BX
	MOVQ BX, INEND
	MOVL lzma_rng(DI), RNG
	MOVL lzma_code(DI), CODE
	MOVL lzma_state(DI), AX
	MOVL AX, STATE
	LEAQ lzma_probs(DI), PROBS
	MOVL lzma_posMask(DI), AX
	MOVL AX, POSMASK
	MOVL lzma_lc(DI), CX
	MOVL $0x100, AX
	SHRL CX, AX
	MOVL lzma_litMask(DI), BX
	INCL BX
	SHLL $8, BX
	SUBL AX, BX
	MOVL BX, LITMASK
	INCL CX
	MOVL CX, LITSHIFT

loop:
	MOVQ d+0(FP), DI
	MOVL lzma_rep0(DI), CX
	MOVQ OUT, AX
	SUBQ CX, AX
	DECQ AX
	CMPQ AX, BASE
	JCC  3(PC)
	ADDQ END, AX
	SUBQ BASE, AX
	MOVBLZX (AX), DI
	MOVBLZX -1(OUT), BX

	// R13 becomes the tree of a literal that follows the byte BX. DI is the byte at rep0, for one after a match.
context:
	MOVQ OUT, R13
	SUBQ BASE, R13
	SHLL $8, R13
	ADDL BX, R13
	LITERAL

next:
	CMPQ  IN, INEND
	JHI   corrupt
	CMPQ  OUT, LIMIT
	JCC   done
	MOVQ  OUT, R14
	SUBQ  BASE, R14
	MOVL  POSMASK, BX
	ANDL  R14, BX
	MOVL  STATE, SI
	MOVL  SI, AX
	SHLL  $4, AX
	ADDL  AX, BX
	BOUND((PROBS)(BX*2))
	JCC   match
	ZERO((PROBS)(BX*2))

	LEAQ (const_oLiteral*2)(PROBS)(R13*1), R14
	CMPL SI, $7
	JCC  matched
	XORL AX, AX
	SUBL $3, SI
	CMOVLCS AX, SI
	MOVL SI, STATE
	ROOT
	TREE
	TREE
	TREE
	TREE

	// The next literal's tree is known by half of this one: BX<<4 is a byte's upper bits and one position more.
	MOVQ OUT, R13
	SUBQ BASE, R13
	SHLL $4, R13
	ADDL BX, R13
	SHLL $4, R13
	LITERAL
	TREE
	TREE
	TREE
	LAST
	MOVB BX, (OUT)
	INCQ OUT
	JMP  next

matched:
	LEAL -3(SI), AX
	LEAL -6(SI), CX
	CMPL SI, $10
	CMOVLCC CX, AX
	MOVL AX, STATE
	LEAL (DI)(DI*1), R15
	MOVL R15, AX
	ANDL $0x100, AX
	MOVWLZX 0x202(R14)(AX*2), AX
	MOVL $0x100, SI
	MOVL $1, BX
	MATCHED
	MATCHED
	MATCHED
	MATCHED
	MATCHED
	MATCHED
	MATCHED
	LASTMATCHED
	MOVB BX, (OUT)
	INCQ OUT
	MOVBLZX BX, BX
	JMP  context

match:
	MOVQ d+0(FP), DI
	ONE((PROBS)(BX*2))
	BOUND((const_oRep*2)(PROBS)(SI*2))
	JCC  rep
	ZERO((const_oRep*2)(PROBS)(SI*2))
	MOVL lzma_rep2(DI), AX
	MOVL AX, lzma_rep3(DI)
	MOVL lzma_rep1(DI), AX
	MOVL AX, lzma_rep2(DI)
	MOVL lzma_rep0(DI), AX
	MOVL AX, lzma_rep1(DI)
	NEXTSTATE(7, 3)
	LEAQ (const_oMatchLen*2)(PROBS), R14
	DECODELENGTH(mid1, high1, end1)
	MOVL BX, LENGTH

	// The distance's slot.
	MOVL $3, R14
	CMPL BX, R14
	CMOVLCS BX, R14
	SHLL $7, R14
	LEAQ (const_oSlot*2)(PROBS)(R14*1), R14
	TREE6
	SUBL $64, BX
	MOVL BX, R13
	CMPL BX, $4
	JCS  distance

	// R13 becomes the distance so far, DI the bits to come, BP the value of the next one.
	MOVL BX, CX
	SHRL $1, CX
	DECL CX
	ANDL $1, R13
	ORL  $2, R13
	CMPL BX, $14
	JCC  direct
	SHLL CX, R13
	MOVL CX, DI
	MOVL R13, AX
	SUBL BX, AX
	LEAQ (const_oSpecial*2)(PROBS)(AX*2), R14
	MOVL $1, BP
	ROOT

reverse:
	REVERSED((R13)(BP*1))
	ADDL BP, BP
	DECL DI
	JNE  reverse
	JMP  distance

direct:
	LEAL -4(CX), DI

directBit:
	NORM
	SHRL $1, RNG
	MOVL CODE, CX
	SUBL RNG, CODE
	CMOVLCS CX, CODE
	LEAL 1(R13)(R13*1), AX
	SBBL $0, AX
	MOVL AX, R13
	DECL DI
	JNE  directBit
	SHLL $4, R13

	// All but four bits of the distance are known: enough to fetch what may be far away in memory meanwhile.
	MOVQ    OUT, AX
	SUBQ    R13, AX
	MOVQ    AX, CX
	ADDQ    END, CX
	SUBQ    BASE, CX
	CMPQ    AX, BASE
	CMOVQCS CX, AX
	PREFETCHT0 -8(AX)
	LEAQ (const_oAlign*2)(PROBS), R14
	ROOT
	REVERSED(1(R13))
	REVERSED(2(R13))
	REVERSED(4(R13))
	REVERSED(8(R13))

distance:
	MOVQ d+0(FP), DI
	MOVL R13, lzma_rep0(DI)
	MOVL LENGTH, R14
	ADDL $2, R14
	JMP  copy

rep:
	ONE((const_oRep*2)(PROBS)(SI*2))
	BOUND((const_oRepG0*2)(PROBS)(SI*2))
	JCC  older
	ZERO((const_oRepG0*2)(PROBS)(SI*2))
	BOUND((const_oRepLong*2)(PROBS)(BX*2))
	JCC  long
	ZERO((const_oRepLong*2)(PROBS)(BX*2))
	NEXTSTATE(9, 2)
	MOVL lzma_rep0(DI), R13
	MOVL $1, R14
	JMP  copy

long:
	ONE((const_oRepLong*2)(PROBS)(BX*2))
	JMP repLength

older:
	ONE((const_oRepG0*2)(PROBS)(SI*2))
	BOUND((const_oRepG1*2)(PROBS)(SI*2))
	JCC  oldest
	ZERO((const_oRepG1*2)(PROBS)(SI*2))
	MOVL lzma_rep1(DI), R13
	JMP  swap1

oldest:
	ONE((const_oRepG1*2)(PROBS)(SI*2))
	BOUND((const_oRepG2*2)(PROBS)(SI*2))
	JCC  rep3
	ZERO((const_oRepG2*2)(PROBS)(SI*2))
	MOVL lzma_rep2(DI), R13
	JMP  swap2

rep3:
	ONE((const_oRepG2*2)(PROBS)(SI*2))
	MOVL lzma_rep3(DI), R13
	MOVL lzma_rep2(DI), AX
	MOVL AX, lzma_rep3(DI)

swap2:
	MOVL lzma_rep1(DI), AX
	MOVL AX, lzma_rep2(DI)

swap1:
	MOVL lzma_rep0(DI), AX
	MOVL AX, lzma_rep1(DI)
	MOVL R13, lzma_rep0(DI)

repLength:
	NEXTSTATE(8, 3)
	LEAQ (const_oRepLen*2)(PROBS), R14
	DECODELENGTH(mid2, high2, end2)
	MOVL lzma_rep0(DI), R13
	LEAL 2(BX), R14

	// Repeat R14 bytes from R13+1 back.
copy:
	MOVQ OUT, AX
	SUBQ FULLFROM, AX
	CMPQ R13, AX
	JCC  corrupt
	CMPQ R13, lzma_window(DI)
	JCC  corrupt
	MOVQ LIMIT, CX
	SUBQ OUT, CX
	CMPQ R14, CX
	JHI  clip

fits:
	MOVQ OUT, SI
	SUBQ R13, SI
	DECQ SI
	CMPQ SI, BASE
	JCS  wrap

linear:
	LEAQ (OUT)(R14*1), BX
	CMPL R13, $15
	JCS  near

	// Most matches are shorter than two steps, so these are taken without a question. The last byte and the one at
	// rep0 afterwards are known sooner from where they are copied from, unless it is the match that makes them.
	MOVBLZX -1(SI)(R14*1), DX
	MOVBLZX (SI)(R14*1), AX
	MOVOU (SI), X0
	MOVOU X0, (OUT)
	MOVOU 16(SI), X0
	MOVOU X0, 16(OUT)
	CMPQ  R14, $32
	JHI   far
	MOVQ  BX, OUT
	CMPQ  R14, R13
	JHI   loop
	MOVL  DX, BX
	MOVL  AX, DI
	JMP   context

far:
	ADDQ  $32, SI
	ADDQ  $32, OUT
	MOVOU (SI), X0
	MOVOU X0, (OUT)
	MOVOU 16(SI), X0
	MOVOU X0, 16(OUT)
	LEAQ  32(OUT), AX
	CMPQ  AX, BX
	JCS   far
	MOVQ  BX, OUT
	JMP   loop

	// The source overlaps: eight bytes by one, after which the pattern reaches back a multiple of its length.
near:
	CMPL R13, $7
	JCC  eights
	MOVBLZX (SI), AX
	MOVB AX, (OUT)
	MOVBLZX 1(SI), AX
	MOVB AX, 1(OUT)
	MOVBLZX 2(SI), AX
	MOVB AX, 2(OUT)
	MOVBLZX 3(SI), AX
	MOVB AX, 3(OUT)
	MOVBLZX 4(SI), AX
	MOVB AX, 4(OUT)
	MOVBLZX 5(SI), AX
	MOVB AX, 5(OUT)
	MOVBLZX 6(SI), AX
	MOVB AX, 6(OUT)
	MOVBLZX 7(SI), AX
	MOVB AX, 7(OUT)
	ADDQ $8, OUT
	LEAQ ·periods(SB), AX
	MOVBLZX (AX)(R13*1), CX
	MOVQ OUT, SI
	SUBQ CX, SI
	CMPQ OUT, BX
	JCC  copied

eights:
	MOVQ (SI), AX
	MOVQ AX, (OUT)
	ADDQ $8, SI
	ADDQ $8, OUT
	CMPQ OUT, BX
	JCS  eights

copied:
	MOVQ BX, OUT
	JMP  loop

clip:
	SUBQ CX, R14
	MOVL R14, lzma_pending(DI)
	MOVQ CX, R14
	JMP  fits

	// The source lies before the circle's start, so at its end; one that goes round, or up to there, is left to Go.
wrap:
	ADDQ END, SI
	SUBQ BASE, SI
	LEAQ (SI)(R14*1), AX
	CMPQ AX, END
	JCS  linear
	ADDL R14, lzma_pending(DI)

done:
	MOVQ $0, AX

leave:
	MOVQ d+0(FP), DI
	SUBQ BASE, OUT
	MOVQ OUT, lzma_pos(DI)
	SUBQ lzma_input(DI), IN
	MOVQ IN, lzma_in(DI)
	MOVL RNG, lzma_rng(DI)
	MOVL CODE, lzma_code(DI)
	MOVL STATE, CX
	MOVL CX, lzma_state(DI)
	MOVQ AX, ret+16(FP)
	RET

corrupt:
	MOVQ $1, AX
	JMP  leave

// periods are the multiples of 1 to 7 from 8 on.
DATA ·periods+0(SB)/8, $0x080e0c0a08090808
GLOBL ·periods(SB), RODATA|NOPTR, $8
