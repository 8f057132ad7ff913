package gitfiles_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
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

// TestDeltasTakeLittleMemory reads the longest chain of deltas of the largest object, with the garbage collector of the
// buildpack's program.
func TestDeltasTakeLittleMemory(t *testing.T) {
	const id = "0123456789012345678901234567890123456789"
	g := NewWithT(t)
	h := newHostile(t)
	h.write(t, "refs/heads/main", []byte(id+"\n"))
	h.chained(t, id, 32<<20, 60)
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var peak atomic.Uint64
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				var now runtime.MemStats
				runtime.ReadMemStats(&now)
				peak.Store(max(peak.Load(), now.HeapInuse))
			}
		}
	}()
	err := h.read(context.Background())
	close(done)
	g.Expect(err).To(HaveOccurred())
	t.Logf("%d MiB above %d: %s", peak.Load()>>20, before.HeapInuse>>20, err)
	g.Expect(peak.Load()-min(peak.Load(), before.HeapInuse)).To(BeNumerically("<", 16<<20), "a commit is not that large")
}
