package xz

import (
	"bytes"
	"io"
	"testing"

	lola "github.com/mikelolasagasti/xz"
	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/guarded"
)

// FuzzLZMA2 decodes chunks of LZMA2 in assembly and in Go, both between pages that may not be touched, and compares
// them; what they accept another decoder has to accept too, with the same result.
func FuzzLZMA2(f *testing.F) {
	RegisterTestingT(f)
	for _, kind := range []string{"mixed", "noise", "zeros", "periods"} {
		for _, size := range []int{1, 300, 3000} {
			f.Add(chunksOf(pack(f, sample(kind, size), "--lzma2=dict=64KiB")))
			f.Add(chunksOf(pack(f, sample(kind, size), "--lzma2=dict=4KiB,lc=1,lp=3,pb=4")))
		}
	}
	const window = frontPad + (wrappedWindow+copySlack+4095)&^4095 + copySlack
	r := NewReader(nil, Options{})
	buffers := map[bool][2][]byte{}
	for _, behind := range []bool{true, false} {
		buffers[behind] = [2][]byte{guarded.Bytes(f, inputSize+inputSlack, behind), guarded.Bytes(f, window, behind)}
	}
	decode := func(file []byte, portable, behind bool) ([]byte, error) {
		r.lzma.input, r.memory = buffers[behind][0], buffers[behind][1]
		r.Reset(bytes.NewReader(file), Options{})
		r.lzma.portable = portable
		return io.ReadAll(io.LimitReader(r, 4<<20))
	}
	f.Fuzz(func(t *testing.T, chunks []byte) {
		RegisterTestingT(t)
		file := wrapped(chunks)
		plain, plainErr := decode(file, true, true)
		var fast []byte
		var fastErr error
		for _, behind := range []bool{false, true} {
			fast, fastErr = decode(file, false, behind)
			Expect(fastErr == nil).To(Equal(plainErr == nil))
			if fastErr != nil {
				Expect(fastErr).To(MatchError(plainErr))
			}
			Expect(bytes.Equal(fast, plain)).To(BeTrue())
		}
		if fastErr != io.ErrUnexpectedEOF || len(chunks) == 0 || chunks[len(chunks)-1] != 0 {
			return
		}
		file = finish(file, fast)
		got, err := decode(file, false, true)
		want, otherErr := otherDecoder(file)
		if err == nil || otherErr == nil {
			Expect(otherErr).NotTo(HaveOccurred())
			Expect(err).NotTo(HaveOccurred())
			Expect(bytes.Equal(got, want)).To(BeTrue())
		}
	})
}

// FuzzReader gives the reader anything: it must not crash, and agree with another decoder on what is xz.
func FuzzReader(f *testing.F) {
	RegisterTestingT(f)
	f.Add(pack(f, []byte("data")))
	f.Add(pack(f, sample("mixed", 3000), "--block-size=1000"))
	f.Add(append(pack(f, nil), pack(f, []byte("x"), "--check=none")...))
	r := NewReader(nil, Options{})
	f.Fuzz(func(t *testing.T, file []byte) {
		r.Reset(bytes.NewReader(file), Options{MaxWindow: 1 << 22})
		got, err := io.ReadAll(io.LimitReader(r, 4<<20))
		if err != nil {
			return
		}
		want, err := otherDecoder(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("another decoder says %v, or gives something else", err)
		}
	})
}

// otherDecoder is an independent implementation, as an oracle.
func otherDecoder(file []byte) ([]byte, error) {
	r, err := lola.NewReader(bytes.NewReader(file), 0)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, 4<<20))
}

// BenchmarkReader decodes 8 MiB of made-up data per turn; scripts/bench measures on real files.
func BenchmarkReader(b *testing.B) {
	RegisterTestingT(b)
	data := sample("mixed", 8<<20)
	file := pack(b, data)
	for _, portable := range []bool{false, true} {
		name := map[bool]string{false: "fastest", true: "go"}[portable]
		b.Run(name, func(b *testing.B) {
			r := NewReader(nil, Options{})
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				r.Reset(bytes.NewReader(file), Options{SkipCheck: true})
				r.lzma.portable = portable
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
