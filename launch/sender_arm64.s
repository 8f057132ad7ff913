#include "textflag.h"

// note: R0 is the signal, R1 its siginfo_t (si_signo, si_errno, si_code), R2 the context.
TEXT ·note(SB), NOSPLIT|NOFRAME, $0
	MOVW	8(R1), R10
	MOVD	$·codes(SB), R11
	ADD	R0<<2, R11, R11
	MOVW	R10, (R11)
	MOVD	·onward(SB), R11
	JMP	(R11)

TEXT ·noteAddress(SB), NOSPLIT, $0-8
	MOVD	$·note(SB), R0
	MOVD	R0, ret+0(FP)
	RET
