//go:build !purego

#include "textflag.h"

// A byte is of Nix's base-32 if its low half's entry in lows and its high half's in highs have a bit in common: 1 for
// digits, 2 for what begins with 6, 4 for what begins with 7.
DATA lows<>+0(SB)/8, $0x0707010307070705
DATA lows<>+8(SB)/8, $0x0002020202060707
DATA lows<>+16(SB)/8, $0x0707010307070705
DATA lows<>+24(SB)/8, $0x0002020202060707
GLOBL lows<>(SB), RODATA|NOPTR, $32

DATA highs<>+0(SB)/8, $0x0402000001000000
DATA highs<>+8(SB)/8, $0
DATA highs<>+16(SB)/8, $0x0402000001000000
DATA highs<>+24(SB)/8, $0
GLOBL highs<>(SB), RODATA|NOPTR, $32

DATA halves<>+0(SB)/8, $0x0f0f0f0f0f0f0f0f
DATA halves<>+8(SB)/8, $0x0f0f0f0f0f0f0f0f
DATA halves<>+16(SB)/8, $0x0f0f0f0f0f0f0f0f
DATA halves<>+24(SB)/8, $0x0f0f0f0f0f0f0f0f
GLOBL halves<>(SB), RODATA|NOPTR, $32

// func findBlock(p *byte, n int) int
TEXT ·findBlock(SB), NOSPLIT, $0-24
	MOVQ    p+0(FP), SI
	MOVQ    n+8(FP), CX
	VMOVDQU lows<>(SB), Y4
	VMOVDQU highs<>(SB), Y5
	VMOVDQU halves<>(SB), Y6
	VPXOR   Y7, Y7, Y7
	XORQ    AX, AX

block:
	CMPQ      AX, CX
	JGE       found
	VMOVDQU   (SI), Y0
	VPSRLW    $4, Y0, Y1
	VPAND     Y6, Y1, Y1
	VPSHUFB   Y0, Y4, Y2 // nothing for bytes beyond ASCII
	VPSHUFB   Y1, Y5, Y3
	VPAND     Y2, Y3, Y2
	VPCMPEQB  Y7, Y2, Y2 // what is not of base-32
	VPCMPEQQ  Y7, Y2, Y3 // eights that have none of it
	VMOVMSKPD Y3, DX
	LEAL      (DX)(DX*1), BX
	TESTL     DX, BX
	JNE       found      // two in a row
	VPCMPEQB  Y7, Y0, Y3
	VPANDN    Y2, Y3, Y3 // what is neither of base-32 nor zero
	VPTEST    Y3, Y3
	JEQ       sparse

next:
	ADDQ $32, SI
	INCQ AX
	JMP  block

sparse:
	VPTEST Y0, Y0
	JEQ    next

found:
	VZEROUPPER
	MOVQ AX, ret+16(FP)
	RET

// func findName(p *byte, n int, name *byte, middle, last int) int
TEXT ·findName(SB), NOSPLIT, $0-48
	MOVQ         p+0(FP), SI
	MOVQ         n+8(FP), CX
	MOVQ         name+16(FP), DI
	MOVQ         middle+24(FP), R8
	MOVQ         last+32(FP), R9
	VPBROADCASTB (DI), Y0
	VPBROADCASTB (DI)(R8*1), Y1
	VPBROADCASTB (DI)(R9*1), Y2
	ADDQ         SI, R8
	ADDQ         SI, R9
	XORQ         AX, AX

places:
	CMPQ      AX, CX
	JGE       none
	VPCMPEQB  (SI)(AX*1), Y0, Y3
	VPCMPEQB  (R8)(AX*1), Y1, Y4
	VPCMPEQB  (R9)(AX*1), Y2, Y5
	VPAND     Y3, Y4, Y3
	VPAND     Y3, Y5, Y3
	VPMOVMSKB Y3, DX
	TESTL     DX, DX
	JNE       hit
	ADDQ      $32, AX
	JMP       places

hit:
	BSFL DX, DX
	ADDQ DX, AX

none:
	VZEROUPPER
	MOVQ AX, ret+40(FP)
	RET

DATA control<>+0(SB)/8, $0x1f1f1f1f1f1f1f1f
DATA control<>+8(SB)/8, $0x1f1f1f1f1f1f1f1f
DATA control<>+16(SB)/8, $0x1f1f1f1f1f1f1f1f
DATA control<>+24(SB)/8, $0x1f1f1f1f1f1f1f1f
GLOBL control<>(SB), RODATA|NOPTR, $32

// func findText(p *byte, n int) int
TEXT ·findText(SB), NOSPLIT, $0-24
	MOVQ     p+0(FP), SI
	MOVQ     n+8(FP), CX
	VMOVDQU  control<>(SB), Y1
	VPCMPEQB Y2, Y2, Y2
	XORQ     AX, AX

text:
	CMPQ     AX, CX
	JGE      ended
	VMOVDQU  (SI), Y0
	VPCMPGTB Y1, Y0, Y0 // as signed numbers, so bytes beyond ASCII are less
	VPCMPEQD Y2, Y0, Y0
	VPTEST   Y0, Y0
	JNE      ended
	ADDQ     $32, SI
	INCQ     AX
	JMP      text

ended:
	VZEROUPPER
	MOVQ AX, ret+16(FP)
	RET
