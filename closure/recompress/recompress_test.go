package recompress_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/ulikunitz/xz/lzma"

	"github.com/nixproot/nix-hydra-buildpack/closure/recompress"
)

// lzma2Packed is what compressors make of text.
func lzma2Packed(t *testing.T, text []byte) map[string][]byte {
	g := NewWithT(t)
	var b bytes.Buffer
	w, err := lzma.Writer2Config{DictCap: 8 << 20}.NewWriter2(&b)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = w.Write(text)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(w.Close()).To(Succeed())
	all := map[string][]byte{"Go": b.Bytes()}
	if _, err := exec.LookPath("xz"); err != nil {
		t.Log("NOT TESTED: there is no xz here")
		return all
	}
	for _, options := range []string{"preset=9e", "preset=1", "preset=6,lc=0,lp=2,pb=0"} {
		c := exec.Command("xz", "--format=raw", "--lzma2="+options, "-c")
		c.Stdin = bytes.NewReader(text)
		out, err := c.Output()
		g.Expect(err).NotTo(HaveOccurred())
		all[options] = out
	}
	return all
}

func unpackedLZMA2(packed []byte) []byte {
	r, err := lzma.Reader2Config{DictCap: 8 << 20}.NewReader2(bytes.NewReader(append(bytes.Clone(packed), 0)))
	if err != nil {
		return []byte(err.Error())
	}
	out, err := io.ReadAll(r)
	if err != nil {
		return []byte(err.Error())
	}
	return out
}

func TestLZMA2(t *testing.T) {
	const was = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44l"
	random := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	words := func(n int) []byte {
		var b bytes.Buffer
		for b.Len() < n {
			fmt.Fprintf(&b, "word%d ", random.IntN(3000))
			if random.IntN(200) == 0 {
				fmt.Fprintf(&b, "%s%c-name/share/%d ", was, 'a'+random.IntN(4), random.IntN(100))
			}
		}
		return b.Bytes()
	}
	for name, text := range map[string][]byte{
		"a path alone": []byte(was + "a-name"), "words": words(200 << 10), "much": words(2500 << 10), "zeros": make([]byte, 3<<20),
		"noise": append(append(noise(300<<10), was+"a-name"...), noise(100<<10)...),
		"mixed": append(append(append(words(70<<10), noise(200<<10)...), words(70<<10)...), was...), "one byte": {7}, "none": nil,
	} {
		for by, packed := range lzma2Packed(t, text) {
			t.Run(name+", "+by, func(t *testing.T) {
				g := NewWithT(t)
				var edits []recompress.Edit
				changed := bytes.Clone(text)
				for at := 0; ; {
					n := bytes.Index(text[at:], []byte(was))
					if n < 0 || at+n+len(was) >= len(text) {
						break
					}
					at += n
					now := fmt.Sprintf("/layers/nixproot_nix-hydra/view/00bgd045z0%c", text[at+len(was)])
					edits = append(edits, recompress.Edit{From: at, To: at + len(now)})
					copy(changed[at:], now)
					at += len(was)
				}
				got, err := recompress.LZMA2(packed, text, changed, edits)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(bytes.Equal(unpackedLZMA2(got), changed)).To(BeTrue())
				t.Logf("%d bytes, %d edits: %d became %d", len(text), len(edits), len(packed), len(got))
				g.Expect(len(got)).To(BeNumerically("<=", len(packed)+len(packed)/1000), "it has to fit, or nearly")
			})
		}
	}
}

func TestDeflate(t *testing.T) {
	const was, now = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la", "/layers/nixproot_nix-hydra/view/00bgd045z0d"
	random := rand.New(rand.NewPCG(1, 2))
	words := func(n int) []byte {
		var b bytes.Buffer
		for b.Len() < n {
			fmt.Fprintf(&b, "word%d ", random.IntN(3000))
			if random.IntN(200) == 0 {
				fmt.Fprintf(&b, "%s-name/share/%d ", was, random.IntN(100))
			}
		}
		return b.Bytes()
	}
	noise := make([]byte, 100<<10)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	for name, text := range map[string][]byte{
		"a path alone": []byte(was + "-name"), "a short text": []byte("exec " + was + "-name/bin/x \"$@\"\n"), "words": words(200 << 10),
		"zeros": make([]byte, 1<<20), "noise": noise, "mixed": slices.Concat(words(70<<10), noise, words(70<<10)), "one byte": {7}, "none": nil,
	} {
		for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
			g := NewWithT(t)
			var b bytes.Buffer
			w, err := flate.NewWriter(&b, level)
			g.Expect(err).NotTo(HaveOccurred())
			_, err = w.Write(text)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(w.Close()).To(Succeed())
			var edits []recompress.Edit
			changed := bytes.Clone(text)
			for at := 0; ; at += len(was) {
				n := bytes.Index(text[at:], []byte(was))
				if n < 0 {
					break
				}
				at += n
				edits = append(edits, recompress.Edit{From: at, To: at + len(was)})
				copy(changed[at:], now)
			}
			got, err := recompress.Deflate(b.Bytes(), text, changed, edits)
			g.Expect(err).NotTo(HaveOccurred(), name)
			back, err := io.ReadAll(flate.NewReader(bytes.NewReader(got)))
			g.Expect(err).NotTo(HaveOccurred(), name)
			g.Expect(bytes.Equal(back, changed)).To(BeTrue(), name)
			t.Logf("%s, level %d: %d bytes, %d edits: %d became %d", name, level, len(text), len(edits), b.Len(), len(got))
			g.Expect(len(got)).To(BeNumerically("<=", b.Len()+b.Len()/1000), name)
		}
	}
}

func TestOtherTextsAreRefused(t *testing.T) {
	g := NewWithT(t)
	raw := []byte{1, 1, 0, 0xfe, 0xff, 'a'}
	got, err := recompress.Deflate(raw, []byte("a"), []byte("b"), []recompress.Edit{{From: 0, To: 1}})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(io.ReadAll(flate.NewReader(bytes.NewReader(got)))).To(Equal([]byte("b")))
	for _, text := range [][2]string{{"a", "ab"}, {"ab", "ab"}, {"", ""}} {
		_, err := recompress.Deflate(raw, []byte(text[0]), []byte(text[1]), nil)
		g.Expect(err).To(MatchError(recompress.ErrMalformed), "%q", text)
		_, err = recompress.LZMA2([]byte("\x01\x00\x00a\x00"), []byte(text[0]), []byte(text[1]), nil)
		g.Expect(err).To(MatchError(recompress.ErrMalformed), "%q", text)
	}
}

func FuzzDeflate(f *testing.F) {
	f.Add([]byte("abcabcabc"), []byte{0x4b, 0x4c, 0x4a, 0x4e, 0x44, 0x20, 0})
	f.Add([]byte("a"), []byte{1, 1, 0, 0xfe, 0xff, 'a'})
	f.Fuzz(func(t *testing.T, text, packed []byte) {
		got, err := recompress.Deflate(packed, text, text, nil)
		if err != nil {
			return
		}
		if back, err := io.ReadAll(flate.NewReader(bytes.NewReader(got))); err != nil || !bytes.Equal(back, text) {
			t.Errorf("%x became %x", packed, got)
		}
	})
}

func FuzzLZMA2(f *testing.F) {
	f.Add([]byte(strings.Repeat("a text that goes on ", 9)), []byte("\x01\x00\x00a\x00"))
	f.Add([]byte("abc"), []byte("\xe0\x00\x02\x00\x07\x5d\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, text, packed []byte) {
		got, err := recompress.LZMA2(packed, text, text, nil)
		if err == nil && !bytes.Equal(unpackedLZMA2(got), text) {
			t.Errorf("%x became %x", packed, got)
		}
	})
}
