// Package guarded gives tests memory that whoever reads or writes beyond it crashes.
package guarded

import (
	"syscall"
	"testing"
)

// Bytes is memory of n bytes between two pages that may not be touched: right before the one behind it, or right after
// the one in front of it. It is there until the test ends.
func Bytes(t testing.TB, n int, behind bool) []byte {
	t.Helper()
	page := syscall.Getpagesize()
	size := (n+page-1)/page*page + 2*page
	whole, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(whole) })
	for _, guard := range [][]byte{whole[:page], whole[size-page:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	start := page
	if behind {
		start = size - page - n
	}
	return whole[start : start+n : start+n]
}
