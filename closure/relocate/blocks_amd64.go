//go:build !purego

package relocate

import "golang.org/x/sys/cpu"

// vectors says that the processor has what the functions below are made of.
var vectors = cpu.X86.HasAVX2

// findBlock gives the first of the n blocks of blockSize bytes at p where a hash may be, in any width, or n: one with
// two of its four eights in a row in base-32, or with nothing but base-32 and zeros, not all of them zeros.
//
//go:noescape
func findBlock(p *byte, n int) int

// findName gives the first of the n places from p on, a multiple of 32, where the first, the middle and the last byte
// of name stand, or n.
//
//go:noescape
func findName(p *byte, n int, name *byte, middle, last int) int

// findText gives the first of the n blocks of blockSize bytes at p that has an aligned group of gramLen bytes which are
// printable, as printable says, or n.
//
//go:noescape
func findText(p *byte, n int) int
