package xz

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os/exec"
	"sync"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// pack compresses with the real xz.
func pack(t testing.TB, data []byte, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("xz"); err != nil {
		untested.Skip(t, "there is no xz here")
	}
	cmd := exec.Command("xz", append([]string{"--compress", "--stdout", "--quiet"}, args...)...)
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(data), &out, &stderr
	Expect(cmd.Run()).To(Succeed(), stderr.String())
	return out.Bytes()
}

// sample is data of one kind, always the same.
func sample(kind string, size int) []byte {
	random := rand.New(rand.NewChaCha8(sha256.Sum256([]byte(kind))))
	out := make([]byte, 0, size+300)
	for len(out) < size {
		switch kind {
		case "noise":
			out = append(out, byte(random.Uint32()))
		case "zeros":
			out = append(out, 0)
		case "periods":
			period := random.IntN(20) + 1
			start := len(out)
			for i := range random.IntN(500) + period {
				if i < period {
					out = append(out, byte(random.Uint32()))
				} else {
					out = append(out, out[start+i-period])
				}
			}
		default:
			if n := random.IntN(60) + 2; len(out) > 300 && random.IntN(4) > 0 {
				from := random.IntN(len(out) - n)
				out = append(out, out[from:from+n]...)
			}
			for range random.IntN(20) {
				out = append(out, "abcdefgh \n\x00\xff"[random.IntN(12)])
			}
		}
	}
	return out[:size]
}

var readers = sync.Pool{New: func() any { return NewReader(nil, Options{}) }}

// unpack decodes in both ways and expects the same of them.
func unpack(file []byte, options Options) ([]byte, error) {
	r := readers.Get().(*Reader)
	defer readers.Put(r)
	r.Reset(bytes.NewReader(file), options)
	r.lzma.portable = false
	fast, fastErr := io.ReadAll(r)
	r.Reset(bytes.NewReader(file), options)
	r.lzma.portable = true
	plain, plainErr := io.ReadAll(r)
	if fastErr == nil {
		Expect(plainErr).NotTo(HaveOccurred())
	} else {
		Expect(plainErr).To(MatchError(fastErr))
	}
	Expect(bytes.Equal(fast, plain)).To(BeTrue(), "the assembly and the Go code decode differently")
	return fast, fastErr
}

// wrapped is the start of an xz file with one block of LZMA2 chunks, whose dictionary has 64 KiB; finish adds the
// rest, from what decoding the chunks has shown.
func wrapped(chunks []byte) []byte {
	out := append([]byte(nil), headerMagic...)
	out = append(out, 0, 1)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(out[6:8]))
	block := []byte{2, 0, lzma2ID, 1, 8, 0, 0, 0}
	block = binary.LittleEndian.AppendUint32(block, crc32.ChecksumIEEE(block))
	return append(append(out, block...), chunks...)
}

const wrappedWindow = 64 << 10

func finish(file []byte, data []byte) []byte {
	packed := uint64(len(file) - headerSize)
	for (len(file)-headerSize)%4 != 0 {
		file = append(file, 0)
	}
	file = binary.LittleEndian.AppendUint32(file, crc32.ChecksumIEEE(data))
	index := []byte{indexMark, 1}
	index = binary.AppendUvarint(index, packed+4)
	index = binary.AppendUvarint(index, uint64(len(data)))
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	index = binary.LittleEndian.AppendUint32(index, crc32.ChecksumIEEE(index))
	footer := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1))
	footer = append(footer, 0, 1)
	file = append(file, index...)
	file = binary.LittleEndian.AppendUint32(file, crc32.ChecksumIEEE(footer))
	return append(append(file, footer...), footerMagic...)
}

// chunksOf takes the LZMA2 chunks out of a file with one block.
func chunksOf(file []byte) []byte {
	r := NewReader(bytes.NewReader(file), Options{})
	_, err := io.Copy(io.Discard, r)
	Expect(err).NotTo(HaveOccurred())
	start := headerSize + (int(file[headerSize])+1)*4
	return file[start : headerSize+int(r.blocks.total.packed)-checkSizes[r.check]]
}
