package relocate

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestAHashIsFoundAndSpelledAnew spells characters of hashes in every way at random, and puts others in their place.
func TestAHashIsFoundAndSpelledAnew(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	hash := func(size int) string {
		sum := make([]byte, size)
		for i := range sum {
			sum[i] = byte(r.Uint32())
		}
		return base64.RawStdEncoding.EncodeToString(sum)
	}
	ways := []func(c byte) string{
		func(c byte) string { return fmt.Sprintf("&#%d;", c) },
		func(c byte) string { return fmt.Sprintf("&#%05d;", c) },
		func(c byte) string { return fmt.Sprintf("&#x%x;", c) },
		func(c byte) string { return fmt.Sprintf("&amp;amp;#X%03X;", c) },
		func(c byte) string { return fmt.Sprintf(`\u%04X`, c) },
		func(c byte) string { return fmt.Sprintf(`\\\x%02x`, c) },
		func(c byte) string { return map[byte]string{'/': `\/`}[c] },
		func(c byte) string { return map[byte]string{'/': "&sol;", '+': "&plus;"}[c] },
		func(c byte) string { return fmt.Sprintf("%%%02X", c) },
	}
	for range 20_000 {
		size := []int{32, 48, 64}[r.IntN(3)]
		was, now := hash(size), hash(size)
		page := []byte(`x "sha` + []string{"256", "384", "512"}[size/16-2] + []string{"-", "&#45;", `": "`, `\u002D`}[r.IntN(4)])
		way, often := ways[r.IntN(len(ways))], r.IntN(60)
		for i := range len(was) {
			if c := was[i]; r.IntN(60) < often && way(c) != "" {
				page = append(page, way(c)...)
			} else {
				page = append(page, c)
			}
		}
		page = append(page, `="; y`...)
		found := slices.Collect(hashesIn(page))
		if len(found) != 1 || found[0].text != was {
			t.Fatalf("%s: %v, want %s", page, found, was)
		}
		e, ok := found[0].spelled(page, now)
		if !ok {
			if page := string(page); bytes.IndexByte([]byte(page), '%') < 0 {
				t.Fatalf("%s cannot become %s", page, now)
			}
			continue
		}
		next := apply(page, []edit{e})
		found = slices.Collect(hashesIn(next))
		if len(next) != len(page) || len(found) != 1 || found[0].text != now {
			t.Fatalf("%s became %s: %v, want %s", page, next, found, now)
		}
	}
}

// FuzzHashesIn reads whatever may be in a page.
func FuzzHashesIn(f *testing.F) {
	f.Add([]byte(`<script>"sha256-&#43;\u002B%2F&amp;#x2B;\\/</script>`))
	f.Fuzz(func(t *testing.T, page []byte) {
		for h := range hashesIn(page) {
			if e, ok := h.spelled(page, h.text); ok && len(e.data) != e.to-e.from {
				t.Fatalf("%q", e.data)
			}
		}
		for from, to := range scriptsIn(page) {
			_ = scriptHashes(page[from:to])
		}
	})
}
