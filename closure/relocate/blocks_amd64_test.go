//go:build !purego

package relocate

import (
	"testing"

	"github.com/nixproot/nix-hydra-buildpack/internal/guarded"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// These say of each function in assembly what it has to find, place by place.

func slowBlock(b []byte) int {
	for at := 0; at < len(b); at += blockSize {
		block := b[at : at+blockSize]
		zeros, other, eights := 0, 0, 0
		for i, c := range block {
			if i%8 == 0 && isBase32s(block[i:i+8]) {
				if eights++; eights == 2 {
					return at / blockSize
				}
			} else if i%8 == 0 {
				eights = 0
			}
			if c == 0 {
				zeros++
			} else if !isBase32[c] {
				other++
			}
		}
		if other == 0 && zeros < blockSize {
			return at / blockSize
		}
	}
	return len(b) / blockSize
}

func isBase32s(b []byte) bool {
	for _, c := range b {
		if !isBase32[c] {
			return false
		}
	}
	return true
}

func slowName(b []byte, n int, name []byte) int {
	last := len(name) - 1
	for i := range n {
		if b[i] == name[0] && b[i+last/2] == name[last/2] && b[i+last] == name[last] {
			return i
		}
	}
	return n
}

func slowText(b []byte) int {
	for at := 0; at < len(b); at += gramLen {
		text := true
		for _, c := range b[at : at+gramLen] {
			text = text && ' ' <= c && c < 0x80
		}
		if text {
			return at / blockSize
		}
	}
	return len(b) / blockSize
}

// FuzzBlocks runs each function in assembly on memory between pages that may not be touched, and compares it with what
// it has to find.
func FuzzBlocks(f *testing.F) {
	if !vectors {
		untested.Skip(f, "this processor has no AVX2")
	}
	name := []byte("/layers/nixproot_nix-hydra/view/")
	f.Add([]byte(storePrefix+scannedHash+"-x and "+string(name)+"sl141d1g77w"), uint16(0))
	f.Add([]byte("\x00\x01\x02\xff\x7f\x1f printable\x80"), uint16(31))
	f.Add(make([]byte, 100), uint16(7))
	const most = 16 * blockSize
	longest := most + len(name) - 1
	memory := map[bool][]byte{}
	for _, behind := range []bool{true, false} {
		memory[behind] = guarded.Bytes(f, longest, behind)
	}
	f.Fuzz(func(t *testing.T, text []byte, from uint16) {
		if len(text) == 0 {
			return
		}
		for behind, all := range memory {
			for _, blocks := range []int{1, 2, 5, most / blockSize} {
				n := blocks * blockSize
				place := func(size int) []byte {
					b := all[:size]
					if behind {
						b = all[len(all)-size:]
					}
					for i := range b {
						b[i] = text[(int(from)+i)%len(text)]
					}
					return b
				}
				b := place(n)
				if got, want := findBlock(&b[0], blocks), slowBlock(b); got != want {
					t.Fatalf("findBlock of %q is %d, want %d", b, got, want)
				}
				if got, want := findText(&b[0], blocks), slowText(b); got != want {
					t.Fatalf("findText of %q is %d, want %d", b, got, want)
				}
				last := len(name) - 1
				b = place(n + last)
				if got, want := findName(&b[0], n, &name[0], last/2, last), slowName(b, n, name); got != want {
					t.Fatalf("findName of %q is %d, want %d", b, got, want)
				}
			}
		}
	})
}
