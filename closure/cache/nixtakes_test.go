package cache_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
)

func TestAnswersThatNixTakes(t *testing.T) {
	spec.Run(t, "an answer that Nix takes", testAnswersThatNixTakes, spec.Report(report.Terminal{}))
}

// testAnswersThatNixTakes are answers that Nix 2.34.8 took, or refused, from a server of the same kind.
func testAnswersThatNixTakes(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	nar := content("a", 4000)
	// asked has a cache answer by way of answer for each kind of file in turn, "" for all of them.
	kinds := []string{"nix-cache-info", ".narinfo", ".nar.none", ""}
	with := func(kind string, answer func(w http.ResponseWriter, r *http.Request, n int, body []byte) bool) error {
		s := newServer(t)
		n := s.add(t, "a", "none", nar, nil)
		s.on(func(w http.ResponseWriter, r *http.Request, count int) bool {
			return strings.HasSuffix(strings.TrimSuffix(r.URL.Path, "/"), kind) &&
				answer(w, r, count, s.file(strings.TrimPrefix(r.URL.Path, "/")))
		})
		set, err := cache.Open(t.Context(), options(s.URL))
		if err != nil {
			return err
		}
		defer set.Close()
		got, err := fetch(set, n.StorePath)
		if err == nil {
			Expect(got).To(Equal(nar))
		}
		return err
	}

	it("redirects by any status of the 300s that has a Location", func() {
		for _, kind := range kinds[:3] {
			for status := 300; status < 400; status += 1 + status/310*20 {
				err := with(kind, func(w http.ResponseWriter, r *http.Request, _ int, _ []byte) bool {
					if r.URL.RawQuery != "" {
						return false
					}
					w.Header().Set("Location", r.URL.Path+"?moved")
					w.WriteHeader(status)
					return true
				})
				Expect(err).NotTo(HaveOccurred(), "%s %d", kind, status)
			}
		}
	})

	it("follows ten redirects, and no more", func() {
		for hops, follows := range map[int]bool{10: true, 11: false} {
			err := with(".nar.none", func(w http.ResponseWriter, r *http.Request, _ int, _ []byte) bool {
				if len(r.URL.RawQuery) == hops {
					return false
				}
				http.Redirect(w, r, r.URL.Path+"?"+r.URL.RawQuery+"x", http.StatusFound)
				return true
			})
			Expect(err == nil).To(Equal(follows), "%d: %v", hops, err)
		}
	})

	it("undoes Content-Encodings on top of each other, up to five", func() {
		for encodings, takes := range map[string]bool{
			"gzip, br": true, "gzip, gzip": true, "deflate, gzip, zstd": true, "br, gzip, gzip, gzip, gzip": true,
			"gzip, gzip, gzip, gzip, gzip, gzip": false, "br, zstd": false, // the latter two at once would wait for each other's memory
		} {
			for _, kind := range kinds {
				err := with(kind, func(w http.ResponseWriter, r *http.Request, _ int, body []byte) bool {
					for _, name := range strings.Split(encodings, ", ") {
						body = compress(t, name, body)
						w.Header().Add("Content-Encoding", name)
					}
					_, _ = w.Write(body)
					return true
				})
				Expect(err == nil).To(Equal(takes), "%s %s: %v", encodings, kind, err)
			}
		}
	})

	it("bounds what lies between two of them", func() {
		empty := compress(t, "gzip", nil)
		bomb := compress(t, "gzip", bytes.Repeat(empty, 8<<20/len(empty)))
		for _, kind := range kinds[:3] {
			err := with(kind, func(w http.ResponseWriter, r *http.Request, _ int, body []byte) bool {
				w.Header().Set("Content-Encoding", "gzip, gzip")
				_, _ = w.Write(bomb)
				return true
			})
			Expect(err).To(MatchError(Or(ContainSubstring("longer than it can be"), ContainSubstring("more than"))), kind)
		}
	})

	it("reads a nix-cache-info that is empty in whatever way, or has long lines", func() {
		for what, answer := range map[string]func(w http.ResponseWriter){
			"204": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
			"304": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotModified) },
			"packed, and empty all the same": func(w http.ResponseWriter) {
				w.Header().Set("Content-Encoding", "gzip")
				w.WriteHeader(http.StatusOK)
			},
			"a line of 64 KiB": func(w http.ResponseWriter) {
				fmt.Fprintf(w, "X: %s\nStoreDir: /nix/store\nPriority: 7", strings.Repeat("a", 64<<10))
			},
		} {
			err := with("nix-cache-info", func(w http.ResponseWriter, _ *http.Request, _ int, _ []byte) bool {
				answer(w)
				return true
			})
			Expect(err).NotTo(HaveOccurred(), what)
		}
		Expect(cache.ParseInfo(strings.NewReader(strings.Repeat("X: y\n", 20000) + "StoreDir: /gnu/store\n"))).
			To(HaveField("StoreDir", "/gnu/store"))
		_, err := cache.ParseInfo(strings.NewReader(strings.Repeat("X: y\n", 300000)))
		Expect(err).To(MatchError(ContainSubstring("longer than 1048576 bytes")))
	})

	it("reads a narinfo of a mebibyte, packed or not, and none of a byte more", func() {
		for _, encoding := range []string{"", "gzip"} {
			for length, want := range map[int]types.GomegaMatcher{
				1 << 20: Succeed(), 1<<20 + 1: MatchError(ContainSubstring("longer than 1048576 bytes")),
			} {
				err := with(".narinfo", func(w http.ResponseWriter, _ *http.Request, _ int, body []byte) bool {
					body = fmt.Appendf(body, "X: %s\n", strings.Repeat("x", length-len(body)-len("X: \n")))
					if encoding != "" {
						w.Header().Set("Content-Encoding", encoding)
						body = compress(t, encoding, body)
					}
					_, _ = w.Write(body)
					return true
				})
				Expect(err).To(want, "%d bytes, %s", length, encoding)
			}
		}
		Expect(cache.ParseInfo(strings.NewReader("X: " + strings.Repeat("x", 1<<20-len("X: \n")) + "\n"))).Error().NotTo(HaveOccurred())
	})

	it("takes a 206 whose range is none of bytes, and reads what it has", func() {
		for _, kind := range kinds[:3] {
			err := with(kind, func(w http.ResponseWriter, _ *http.Request, _ int, body []byte) bool {
				w.Header().Set("Content-Range", "items x")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(body)
				return true
			})
			Expect(err).NotTo(HaveOccurred(), kind)
		}
	})

	it("reads a narinfo's fields as Nix does", func() {
		for old, edit := range map[string]string{
			"NarSize: ": "NarSize: +", "FileSize: ": "FileSize: +", "FileSize: 4000": "FileSize: 18446744073709551615",
			"-a\nURL": "-a/\nURL", "StorePath: /nix/store/": "StorePath: /nix//store/./",
		} {
			err := with(".narinfo", func(w http.ResponseWriter, _ *http.Request, _ int, body []byte) bool {
				Expect(string(body)).To(ContainSubstring(old))
				_, _ = w.Write([]byte(strings.Replace(string(body), old, edit, 1)))
				return true
			})
			Expect(err).NotTo(HaveOccurred(), edit)
		}
		for _, refused := range slices.Sorted(slices.Values([]string{"NarSize: ++", "NarSize: -", "NarSize: + ", "NarSize: 0x", "FileSize: x"})) {
			err := with(".narinfo", func(w http.ResponseWriter, _ *http.Request, _ int, body []byte) bool {
				field, _, _ := strings.Cut(refused, " ")
				_, _ = w.Write([]byte(strings.Replace(string(body), field+" ", refused, 1)))
				return true
			})
			Expect(err).To(MatchError(ContainSubstring("want a number of bytes")), refused)
		}
	})
}
