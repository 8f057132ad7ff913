#include "textflag.h"

// note: DI is the signal, SI its siginfo_t (si_signo, si_errno, si_code), DX the context.
TEXT ·note(SB), NOSPLIT|NOFRAME, $0
	MOVL	8(SI), R10
	LEAQ	·codes(SB), R11
	MOVL	R10, (R11)(DI*4)
	MOVQ	·onward(SB), R11
	JMP	R11

TEXT ·noteAddress(SB), NOSPLIT, $0-8
	LEAQ	·note(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
