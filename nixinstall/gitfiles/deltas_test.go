package gitfiles_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall/gitfiles"
)

// chained writes a pack of one object of a size, and of deltas, each of which makes as much of the one before. The name is that
// of the last.
func (h hostile) chained(t *testing.T, name string, size, deltas int) {
	t.Helper()
	var pack bytes.Buffer
	add := func(kind byte, back int, data []byte) {
		n := len(data)
		head := []byte{kind<<4 | byte(n&15)}
		for n >>= 4; n > 0; n >>= 7 {
			head[len(head)-1] |= 0x80
			head = append(head, byte(n&0x7f))
		}
		pack.Write(head)
		if back > 0 {
			distance := []byte{byte(back & 0x7f)}
			for back >>= 7; back > 0; back >>= 7 {
				back--
				distance = append([]byte{0x80 | byte(back&0x7f)}, distance...)
			}
			pack.Write(distance)
		}
		z := zlib.NewWriter(&pack)
		_, err := z.Write(data)
		NewWithT(t).Expect(errors.Join(err, z.Close())).To(Succeed())
	}
	pack.WriteString("PACK\x00\x00\x00\x02\x00\x00\x00\x01")
	last := pack.Len()
	add(1, 0, make([]byte, size))
	varint := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	delta := append(varint(size), varint(size)...)
	for at := 0; at < size; at += 0xffff {
		n := min(0xffff, size-at)
		delta = append(delta, 0x80|0x0f|0x30, byte(at), byte(at>>8), byte(at>>16), byte(at>>24), byte(n), byte(n>>8))
	}
	for range deltas {
		here := pack.Len()
		add(6, here-last, delta)
		last = here
	}
	h.write(t, "objects/pack/pack-x.pack", pack.Bytes())

	id, err := hex.DecodeString(name)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	index := []byte("\xfftOc\x00\x00\x00\x02")
	for i := range 256 {
		n := uint32(0)
		if i >= int(id[0]) {
			n = 1
		}
		index = binary.BigEndian.AppendUint32(index, n)
	}
	index = append(append(index, id...), 0, 0, 0, 0)
	h.write(t, "objects/pack/pack-x.idx", binary.BigEndian.AppendUint32(index, uint32(last)))
}

// TestDeltasTakeLittleMemory reads the longest chain of deltas of the largest object.
func TestDeltasTakeLittleMemory(t *testing.T) {
	const id = "0123456789012345678901234567890123456789"
	g := NewWithT(t)
	h := newHostile(t)
	h.write(t, "refs/heads/main", []byte(id+"\n"))
	h.chained(t, id, 32<<20, 60)
	most, err := heldBy(t, func() error { return h.read(context.Background()) })
	g.Expect(err).To(HaveOccurred())
	g.Expect(most).To(BeNumerically("<", 16<<20), "a commit is not that large")
}

// heldBy is the most memory that the heap has while something runs, beside what it has before, with the garbage collector of
// the buildpack's program.
func heldBy(t *testing.T, run func() error) (most uint64, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	before := now.HeapInuse
	done := make(chan error, 1)
	go func() { done <- run() }()
	for {
		select {
		case err := <-done:
			t.Logf("%d MiB beside %d: %v", most>>20, before>>20, err)
			return most, err
		case <-time.After(time.Millisecond):
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapInuse-min(now.HeapInuse, before))
		}
	}
}

// TestManyFilesTakeLittleMemory reads indexes of more files than any repository has, with long names that take little room.
func TestManyFilesTakeLittleMemory(t *testing.T) {
	const name = "a directory in a directory in a directory in a dir/"
	for _, files := range []int{500_000, 940_000} {
		index := binary.BigEndian.AppendUint32([]byte("DIRC\x00\x00\x00\x04"), uint32(files))
		for i := range files {
			entry := make([]byte, 62)
			binary.BigEndian.PutUint32(entry[24:], uint32(gitfiles.Regular))
			binary.BigEndian.PutUint32(entry[40:], uint32(i))
			index = append(index, entry...)
			if i == 0 {
				index = append(append(index, 0), name...)
			} else {
				index = append(index, 6) // letters less than the name before
			}
			index = fmt.Appendf(index, "%06x\x00", i)
		}
		g, h := NewWithT(t), newHostile(t)
		h.write(t, "HEAD", []byte("0123456789012345678901234567890123456789"))
		h.write(t, "index", append(index, make([]byte, 20)...))
		r, err := gitfiles.Open(t.Context(), h.dir)
		g.Expect(err).NotTo(HaveOccurred())
		defer r.Close()
		most, err := heldBy(t, func() error {
			_, err := r.Snapshot(t.Context(), "0123456789012345678901234567890123456789")
			return err
		})
		g.Expect(most).To(BeNumerically("<", 200<<20))
		if files == 500_000 {
			g.Expect(err).NotTo(HaveOccurred())
		} else {
			g.Expect(err).To(MatchError(ContainSubstring("it has 940000 files, at most")))
		}
	}
}
