package relocate

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/guarded"
)

// finds notes what a scanner finds.
type finds []string

func (f *finds) note(what string, numbers ...int) { *f = append(*f, fmt.Sprint(what, numbers)) }

func (f *finds) reference(i, member int)       { f.note("reference", i, member) }
func (f *finds) foreign(i int)                 { f.note("foreign", i) }
func (f *finds) bareHash(i, member int)        { f.note("bare", i, member) }
func (f *finds) wideHash(i, width, member int) { f.note("wide", i, width, member) }
func (f *finds) relocatedName(i int)           { f.note("name", i) }
func (f *finds) splitPart(int)                 { panic("a scanner does not look for pieces") }

const scannedHash = "sl141d1g77wvhr050ah87lcyz2czdxa3"

// slowly finds what a scanner has to, place by place.
func slowly(s *scanner, buf []byte, from, to int) finds {
	var f finds
	for i := from; i < to; i++ {
		rest := buf[i:]
		if bytes.HasPrefix(rest, s.name) && s.shortened(rest[len(s.name):]) {
			f.relocatedName(i)
		}
		if bytes.HasPrefix(rest, []byte(scannedHash)) {
			if i >= behind && string(buf[i-behind:i]) == storePrefix && (i == from || !isBase32[buf[i-1]]) {
				f.reference(i, 0)
			} else {
				f.bareHash(i, 0)
			}
		}
		for _, width := range []int{2, 4} {
			wide := make([]byte, 0, hashLen*width)
			for _, c := range []byte(scannedHash) {
				wide = append(append(wide, c), make([]byte, width-1)...)
			}
			if bytes.HasPrefix(rest, wide[:len(wide)-width+1]) {
				f.wideHash(i, width, 0)
			}
		}
	}
	return f
}

// mixed is a text of what scanners look for, parts of it and what is like it.
func mixed(r *rand.Rand, name string) []byte {
	var b []byte
	for len(b) < 700 {
		n := r.IntN(len(scannedHash) + 1)
		switch r.IntN(9) {
		case 0:
			b = append(b, scannedHash...)
		case 1:
			b = append(append(b, storePrefix...), scannedHash...)
		case 2:
			b = append(b, scannedHash[:n]...)
		case 3:
			b = append(append(b, name...), scannedHash[:n]...)
		case 4:
			b = append(b, make([]byte, r.IntN(70))...)
		case 5, 6:
			width := 2 << r.IntN(2)
			b = append(b, "\xff\xff"...) // a text does not change its width from one character to the next
			for _, c := range []byte(scannedHash)[:max(n, r.IntN(33))] {
				b = append(append(b, c), make([]byte, width-1)...)
			}
			b = append(b, "\xff\xff"...)
		case 7:
			for range r.IntN(80) {
				b = append(b, "abcxyz0129"[r.IntN(10)])
			}
		case 8:
			for range r.IntN(80) {
				b = append(b, byte(r.Uint32()))
			}
		}
	}
	return b
}

func testScanner(t *testing.T, s *scanner, buf []byte, from, to int) {
	t.Helper()
	want := slowly(s, buf, from, to)
	var all, probed finds
	s.scan(buf, from, to, &all)
	s.names(buf, from, to, &probed)
	s.probes(buf, from, from, to, &probed)
	for name, got := range map[string]finds{"scan": all, "probes": probed} {
		got = slices.DeleteFunc(got, func(f string) bool { return bytes.HasPrefix([]byte(f), []byte("foreign")) })
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%s of %q from %d to %d found %v, want %v", name, buf, from, to, got, want)
		}
	}
}

func newTestScanner(t testing.TB, dir string) *scanner {
	l, err := NewView(dir)
	if err != nil {
		t.Fatal(err)
	}
	return newScanner(l, newMembers([]storepath.Path{storePrefix + scannedHash + "-x"}))
}

func TestScannerFindsAll(t *testing.T) {
	for _, dir := range []string{"/layers/nixproot_nix-hydra/store", "/srv/store1", "/z/abc0123abc0123abc0123abc0123"} {
		s := newTestScanner(t, dir)
		for seed := range uint64(3000) {
			r := rand.New(rand.NewPCG(seed, 1))
			buf := mixed(r, dir+"/")
			from := r.IntN(len(buf))
			testScanner(t, s, buf, 0, len(buf))
			testScanner(t, s, buf, from, from+r.IntN(len(buf)-from+1))
		}
	}
}

func TestPartsFindAll(t *testing.T) {
	p := newParts(newMembers([]storepath.Path{storePrefix + scannedHash + "-x"}))
	found := 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 2))
		buf := mixed(r, storePrefix)
		at := r.IntN(len(buf) - stepLen)
		end := at + r.IntN(len(buf)-stepLen-at)
		want := at
		for want < end && !p.hits(buf[want:]) {
			want += stepLen
		}
		if got := p.next(buf, at, end); got != want {
			t.Fatalf("from %d to %d of %q: got %d, want %d", at, end, buf, got, want)
		}
		if want < end {
			found++
		}
	}
	if found < 1000 || found > 2900 {
		t.Fatalf("%d of 3000 texts have something to find, which tests little", found)
	}
}

// FuzzScanner compares the scanner, with vectors and without, with a search place by place, between pages that may not
// be touched.
func FuzzScanner(f *testing.F) {
	f.Add([]byte(storePrefix+scannedHash+"-x"), 0, 40)
	s := newTestScanner(f, "/layers/nixproot_nix-hydra/store")
	const most = 4096
	before, behind := guarded.Bytes(f, most, false), guarded.Bytes(f, most, true)
	f.Fuzz(func(t *testing.T, text []byte, from, to int) {
		if len(text) > most || from < 0 || from > to || to > len(text) {
			return
		}
		for _, buf := range [][]byte{before[:len(text)], behind[most-len(text):]} {
			copy(buf, text)
			testScanner(t, s, buf, from, to)
		}
	})
}
