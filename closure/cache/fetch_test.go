package cache_test

import (
	"bytes"
	stdcontext "context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

func TestFetch(t *testing.T) {
	spec.Run(t, "fetch", testFetch, spec.Report(report.Terminal{}))
}

func testFetch(t *testing.T, context spec.G, it spec.S) {
	var s *server
	var set *cache.Set

	it.Before(func() {
		RegisterTestingT(t)
		s = newServer(t)
		set = open(t, options(s.URL))
	})

	context("what is not as promised", func() {
		mismatch := func(compression string, edit func(*narinfo.NarInfo, []byte) []byte) *cache.VerifyError {
			data := content("a", 200_000)
			n := s.add(t, "a", compression, data, nil)
			file := edit(n, data)
			n.Sigs = nil
			trusted.sign(n)
			s.put(n.URL, file)
			s.put(n.StorePath.HashPart()+".narinfo", []byte(n.String()))
			set := open(t, options(s.URL))
			found, err := set.Lookup(stdcontext.Background(), n.StorePath)
			Expect(err).NotTo(HaveOccurred())
			err = set.Fetch(stdcontext.Background(), found, func(r io.Reader) error {
				got, err := io.Copy(io.Discard, r)
				Expect(err).To(HaveOccurred())
				Expect(got).To(BeNumerically("<=", n.NarSize), "more than NarSize was given out")
				return nil
			})
			var verify *cache.VerifyError
			Expect(errors.As(err, &verify)).To(BeTrue(), "%v", err)
			Expect(verify.Cache).To(Equal(s.URL))
			Expect(verify.Path).To(Equal(n.StorePath))
			return verify
		}

		it("stops a bomb at the declared size", func() {
			for _, compression := range []string{"none", "zstd", "xz", "gzip", "br", "bzip2"} {
				e := mismatch(compression, func(n *narinfo.NarInfo, data []byte) []byte {
					n.NarSize, n.FileSize, n.FileHash = 1000, 0, [32]byte{}
					return compress(t, compression, bytes.Repeat(data, 10))
				})
				Expect(e.Field).To(Equal("NarSize"), compression)
			}
		})

		it("names each field that does not hold", func() {
			for _, compression := range []string{"none", "zstd", "xz"} {
				e := mismatch(compression, func(n *narinfo.NarInfo, data []byte) []byte {
					n.NarSize, n.FileSize, n.FileHash = n.NarSize+1, 0, [32]byte{}
					return compress(t, compression, data)
				})
				Expect(e.Field).To(Equal("NarSize"))
				e = mismatch(compression, func(n *narinfo.NarInfo, data []byte) []byte {
					n.NarHash[3]++
					n.FileHash = [32]byte{}
					return compress(t, compression, data)
				})
				Expect(e.Field).To(Equal("NarHash"))
				e = mismatch(compression, func(n *narinfo.NarInfo, data []byte) []byte {
					file := compress(t, compression, data)
					n.FileSize = int64(len(file))
					return file[:len(file)-8]
				})
				Expect(e.Field).To(Equal("FileSize"))
			}
		})

		it("do not include FileHash and FileSize, which nobody signs and Nix does not look at", func() {
			chunked := ""
			s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.URL.Path != chunked {
					return false
				}
				w.(http.Flusher).Flush()
				w.Write(s.file(chunked[1:]))
				return true
			})
			for _, compression := range []string{"none", "zstd", "xz", "gzip", "bzip2", "br"} {
				for _, by := range []int64{-1, 1, 1 << 20} {
					n := s.add(t, fmt.Sprint("a", by), compression, content("a", 1000), func(n *narinfo.NarInfo) {
						n.FileHash[3]++
						n.FileSize += by
					})
					if chunked = ""; by == 1<<20 {
						chunked = "/" + n.URL
					}
					Expect(fetch(open(t, options(s.URL)), n.StorePath)).To(Equal(content("a", 1000)), "%s %d", compression, by)
				}
			}
		})

		for _, endless := range []string{"file", "Content-Encoding"} {
			it("include a "+endless+" that never ends, whose size nobody tells", func() {
				compression := map[string]string{"file": "zstd", "Content-Encoding": "none"}[endless]
				n := s.add(t, "a", compression, content("a", 2000), func(n *narinfo.NarInfo) {
					n.FileSize, n.FileHash = 0, [32]byte{}
				})
				frame := make([]byte, 64<<10) // a skippable one
				binary.LittleEndian.PutUint32(frame, 0x184D2A50)
				binary.LittleEndian.PutUint32(frame[4:], uint32(len(frame)-8))
				s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
					if r.URL.Path != "/"+n.URL {
						return false
					}
					if endless != "file" {
						w.Header().Set("Content-Encoding", "zstd")
					}
					for r.Context().Err() == nil {
						w.Write(frame)
					}
					return true
				})
				_, err := fetch(set, n.StorePath)
				var mismatch *cache.VerifyError
				Expect(errors.As(err, &mismatch)).To(BeTrue(), "%v", err)
				Expect(err).To(MatchError(ContainSubstring(
					"FileSize is more than 1050826, its narinfo says NarSize 2000, which packs to less")))
			})
		}

		it("include what follows the packed NAR", func() {
			for _, compression := range []string{"br", "gzip", "xz", "zstd", "bzip2"} {
				n := s.add(t, "a", compression, content("a", 1000), nil)
				s.replace(n, append(compress(t, compression, content("a", 1000)), "and more"...), func(n *narinfo.NarInfo) {
					n.FileSize, n.FileHash = 0, [32]byte{}
				})
				_, err := fetch(open(t, options(s.URL)), n.StorePath)
				var broken *cache.CompressionError
				Expect(errors.As(err, &broken)).To(BeTrue(), "%s: %v", compression, err)
			}
		})
	})

	it("names a file that is not there", func() {
		n := s.add(t, "a", "xz", content("a", 1000), nil)
		s.drop(n.URL)
		_, err := fetch(set, n.StorePath)
		Expect(err).To(MatchError(And(ContainSubstring("URL is a file that is not there"), ContainSubstring(n.URL))))
		Expect(s.asked(n.URL)).To(HaveLen(1), "a missing file is not worth a retry")
	})

	it("says so when a login page comes instead of a NAR", func() {
		n := s.add(t, "a", "xz", content("a", 1000), nil)
		s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.URL.Path != "/"+n.URL {
				return false
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, "<!DOCTYPE html><html>Please log in</html>")
			return true
		})
		_, err := fetch(set, n.StorePath)
		Expect(err).To(MatchError(ContainSubstring("HTML page")))
	})

	context("another cache with the same NAR", func() {
		it("takes over when the first one's file is wrong, and unpack starts anew", func() {
			other := newServer(t)
			data := content("a", 300_000)
			n := s.add(t, "a", "none", data, nil)
			other.add(t, "a", "zstd", data, nil)
			changed := bytes.Clone(data)
			changed[290_000]++
			s.put(n.URL, changed)
			log := &logged{}
			o := options(s.URL, other.URL)
			o.Log = log.log
			set := open(t, o)
			found, err := set.Lookup(stdcontext.Background(), n.StorePath)
			Expect(err).NotTo(HaveOccurred())
			Expect(found.CacheURL).To(Equal(s.URL))
			calls := 0
			var got []byte
			Expect(set.Fetch(stdcontext.Background(), found, func(r io.Reader) error {
				calls++
				var err error
				got, err = io.ReadAll(r)
				return err
			})).To(Succeed())
			Expect(calls).To(Equal(2))
			Expect(bytes.Equal(got, data)).To(BeTrue())
			reports := set.Report()
			Expect(reports[0].Paths).To(BeZero())
			Expect(reports[1].Paths).To(BeEquivalentTo(1))
			Expect(log.String()).To(ContainSubstring("NarHash"))
		})

		it("is not used when it has another build of the path, which looking the path up again gives", func() {
			other := newServer(t)
			data := content("another build", 1000)
			n := s.add(t, "a", "zstd", content("a", 1000), nil)
			s.put(n.URL, []byte("broken"))
			other.add(t, "a", "zstd", data, nil)
			set := open(t, options(s.URL, other.URL))
			_, err := fetch(set, n.StorePath)
			var broken *cache.CompressionError
			Expect(errors.As(err, &broken)).To(BeTrue(), "%v", err)
			Expect(broken.Cache).To(Equal(s.URL))
			Expect(fetch(set, n.StorePath)).To(Equal(data))
		})

		it("is not needed when the first one's file is right meanwhile", func() {
			n := s.add(t, "a", "zstd", content("a", 1000), nil)
			file := s.file(n.URL)
			s.put(n.URL, []byte("broken"))
			_, err := fetch(set, n.StorePath)
			Expect(err).To(HaveOccurred())
			s.put(n.URL, file)
			Expect(fetch(set, n.StorePath)).To(Equal(content("a", 1000)))
		})

		it("takes over when unpack stumbles over what was altered on the way", func() {
			other := newServer(t)
			data := content("a", 3000)
			n := s.add(t, "a", "none", data, nil)
			other.add(t, "a", "none", data, nil)
			s.put(n.URL, append([]byte{data[0] + 1}, data[1:]...))
			set := open(t, options(s.URL, other.URL))
			found, err := set.Lookup(stdcontext.Background(), n.StorePath)
			Expect(err).NotTo(HaveOccurred())
			Expect(set.Fetch(stdcontext.Background(), found, func(r io.Reader) error {
				var first [1]byte
				if _, err := io.ReadFull(r, first[:]); err != nil || first[0] != data[0] {
					return errors.New("nar: this is not a NAR")
				}
				return nil
			})).To(Succeed())
		})
	})

	context("the unpacker", func() {
		var found *cache.Found
		data := content("a", 300_000)

		it.Before(func() {
			n := s.add(t, "a", "zstd", data, nil)
			var err error
			found, err = set.Lookup(stdcontext.Background(), n.StorePath)
			Expect(err).NotTo(HaveOccurred())
		})

		it("gets its own error back when the NAR is as signed, with the cache that has such a NAR", func() {
			own := errors.New("nar: a name with a slash")
			calls := 0
			err := set.Fetch(stdcontext.Background(), found, func(io.Reader) error { calls++; return own })
			Expect(err).To(MatchError(own))
			Expect(err).To(MatchError(ContainSubstring(s.URL)))
			Expect(calls).To(Equal(1))
		})

		it("is not kept waiting for the rest of a NAR when the disk is full", func() {
			n := s.add(t, "b", "none", data, nil)
			s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.URL.Path != "/"+n.URL {
					return false
				}
				w.Header().Set("Content-Length", fmt.Sprint(n.FileSize))
				w.Write(data[:1000])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return true
			})
			found, err := set.Lookup(stdcontext.Background(), n.StorePath)
			Expect(err).NotTo(HaveOccurred())
			full := fmt.Errorf("writing file below x: %w", syscall.ENOSPC)
			Expect(set.Fetch(stdcontext.Background(), found, func(r io.Reader) error { return full })).To(BeIdenticalTo(full))
			Expect(s.asked(n.URL)).To(HaveLen(1))
		})

		it("need not read to the end for everything to be verified", func() {
			Expect(set.Fetch(stdcontext.Background(), found, func(io.Reader) error { return nil })).To(Succeed())
			s.put("nar/a.nar.zstd", compress(t, "zstd", data[:len(data)-1]))
			Expect(set.Fetch(stdcontext.Background(), found, func(io.Reader) error { return nil })).NotTo(Succeed())
		})

		it("is left when the context ends", func() {
			ctx, cancel := stdcontext.WithCancel(stdcontext.Background())
			err := set.Fetch(ctx, found, func(r io.Reader) error {
				cancel()
				_, err := io.Copy(io.Discard, r)
				return err
			})
			if err != nil { // the whole file may have been there already
				Expect(err).To(MatchError(stdcontext.Canceled))
			}
			Expect(set.Fetch(ctx, found, nil)).To(MatchError(stdcontext.Canceled))
		})
	})

	it("reports what it served, in compressed bytes", func() {
		n := s.add(t, "a", "zstd", content("a", 300_000), nil)
		_, err := fetch(set, n.StorePath)
		Expect(err).NotTo(HaveOccurred())
		r := set.Report()[0]
		Expect(r.Bytes).To(Equal(n.FileSize))
		Expect(r.NarInfos).To(BeEquivalentTo(1))
		Expect(r.Paths).To(BeEquivalentTo(1))
	})
}
