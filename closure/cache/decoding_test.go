package cache_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/decompress"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

func TestDecoding(t *testing.T) {
	spec.Run(t, "decoding", testDecoding, spec.Report(report.Terminal{}))
}

func testDecoding(t *testing.T, context spec.G, it spec.S) {
	var s *server
	var set *cache.Set

	it.Before(func() {
		RegisterTestingT(t)
		s = newServer(t)
		set = open(t, options(s.URL))
	})

	it("starts no goroutine for a NAR", func() {
		dir := t.TempDir()
		Expect(os.Mkdir(filepath.Join(dir, "nar"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "nix-cache-info"), s.file("nix-cache-info"), 0o644)).To(Succeed())
		local := open(t, options(dir))
		for _, compression := range []string{"none", "zstd", "br", "gzip", "xz", "bzip2"} {
			n := s.add(t, compression, compression, content("a", 300_000), nil)
			for _, name := range []string{n.URL, n.StorePath.HashPart() + ".narinfo"} {
				Expect(os.WriteFile(filepath.Join(dir, name), s.file(name), 0o644)).To(Succeed())
			}
			found, err := local.Lookup(t.Context(), n.StorePath)
			Expect(err).NotTo(HaveOccurred())
			before := runtime.NumGoroutine()
			Expect(local.Fetch(t.Context(), found, func(r io.Reader) error {
				_, err := io.CopyN(io.Discard, r, 150_000)
				Expect(runtime.NumGoroutine()).To(BeNumerically("<=", before), compression)
				return err
			})).To(Succeed())
		}
	})

	context("compressions", func() {
		for _, name := range []string{"none", "zstd", "br", "gzip", "xz", "bzip2"} {
			it("unpacks "+name, func() {
				data := content("a", 300_000)
				Expect(fetch(set, s.add(t, "a", name, data, nil).StorePath)).To(Equal(data))
				Expect(fetch(set, s.add(t, "b", name, data[:1], nil).StorePath)).To(Equal(data[:1]))
			})

			it("notices a cut file of "+name, func() {
				data := content("a", 30_000)
				n := s.add(t, "a", name, data, nil)
				file := compress(t, name, data)
				s.replace(n, file[:len(file)/2], nil)
				_, err := fetch(set, n.StorePath)
				Expect(err).To(MatchError(ContainSubstring(s.URL)))
				Expect(err).To(MatchError(ContainSubstring(n.StorePath.String())))
			})
		}

		it("takes a missing Compression for bzip2, as Nix does", func() {
			data := content("a", 1000)
			n := s.add(t, "a", "bzip2", data, nil)
			text := bytes.Replace([]byte(n.String()), []byte("Compression: bzip2\n"), nil, 1)
			s.put(n.StorePath.HashPart()+".narinfo", text)
			Expect(fetch(set, n.StorePath)).To(Equal(data))
		})

		for _, name := range []string{"xz", "zstd", "gzip", "bzip2"} {
			it("unpacks a concatenation of "+name, func() {
				data := content("a", 100_000)
				n := s.add(t, "a", name, data, nil)
				s.replace(n, append(compress(t, name, data[:40_000]), compress(t, name, data[40_000:])...), nil)
				Expect(fetch(set, n.StorePath)).To(Equal(data))
			})
		}

		it("unpacks xz with filters besides LZMA2", func() {
			data := content("a", 100_000)
			n := s.add(t, "a", "xz", data, nil)
			if _, err := exec.LookPath("xz"); err != nil {
				untested.Skip(t, "there is no xz here")
			}
			cmd := exec.Command("xz", "-c", "--x86", "--lzma2")
			cmd.Stdin = bytes.NewReader(data)
			file, err := cmd.Output()
			Expect(err).NotTo(HaveOccurred())
			s.replace(n, file, nil)
			Expect(fetch(set, n.StorePath)).To(Equal(data))
		})

		it("refuses an unknown compression by name and uses another cache", func() {
			other := newServer(t)
			data := content("a", 1000)
			n := s.add(t, "a", "none", data, func(n *narinfo.NarInfo) { n.Compression = "lrzip" })
			var unknown *decompress.UnknownError
			_, err := fetch(set, n.StorePath)
			Expect(errors.As(err, &unknown)).To(BeTrue())
			Expect(unknown.Name).To(Equal("lrzip"))
			other.add(t, "a", "zstd", data, nil)
			Expect(fetch(open(t, options(s.URL, other.URL)), n.StorePath)).To(Equal(data))
		})
	})

	context("Content-Encoding", func() {
		encoded := func(encoding string, only func(*http.Request) bool) {
			s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				file := s.file(r.URL.Path[1:])
				if file == nil || !only(r) {
					return false
				}
				w.Header().Set("Content-Encoding", encoding)
				w.Write(compress(t, encoding, file))
				return true
			})
		}

		for _, encoding := range []string{"zstd", "gzip", "br"} {
			it("is undone on uncompressed NARs, as harmonia sends them with "+encoding, func() {
				data := content("a", 100_000)
				n := s.add(t, "a", "none", data, func(n *narinfo.NarInfo) { n.FileSize = 0; n.FileHash = [32]byte{} })
				encoded(encoding, func(r *http.Request) bool { return r.URL.Path == "/"+n.URL })
				Expect(fetch(set, n.StorePath)).To(Equal(data))
				Expect(s.asked(n.URL)[0].Header.Get("Accept-Encoding")).To(ContainSubstring(encoding))
			})
		}

		it("is undone on narinfos, as Nix's narinfo-compression stores them", func() {
			data := content("a", 1000)
			n := s.add(t, "a", "xz", data, nil)
			encoded("br", func(r *http.Request) bool { return r.URL.Path != "/"+n.URL })
			Expect(fetch(set, n.StorePath)).To(Equal(data))
		})

		for _, encoding := range []string{"gzip", "x-gzip", "x-xz", "x-bzip2"} {
			it("is not asked for, nor believed, on files that are compressed that way: "+encoding, func() {
				data := content("a", 1000)
				n := s.add(t, "a", strings.TrimPrefix(encoding, "x-"), data, nil)
				s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
					if r.URL.Path == "/"+n.URL {
						w.Header().Set("Content-Encoding", encoding)
					}
					return false
				})
				Expect(fetch(set, n.StorePath)).To(Equal(data))
				Expect(s.asked(n.URL)[0].Header.Get("Accept-Encoding")).To(Equal("identity"))
			})
		}

		it("is undone where it stands in a list with what is none", func() {
			data := content("a", 1000)
			n := s.add(t, "a", "none", data, nil)
			for _, list := range [][]string{{"identity, gzip"}, {"GZIP,identity"}, {"gzip", "identity"}, {"", "x-gzip"}} {
				s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
					w.Header()["Content-Encoding"] = list
					w.Write(compress(t, "gzip", s.file(r.URL.Path[1:])))
					return true
				})
				Expect(fetch(open(t, options(s.URL)), n.StorePath)).To(Equal(data), "%q", list)
			}
		})

		it("is refused by name where it is unknown", func() {
			n := s.add(t, "a", "xz", content("a", 1000), nil)
			s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				w.Header().Set("Content-Encoding", map[bool]string{true: "squeeze"}[r.URL.Path == "/"+n.URL])
				return false
			})
			_, err := fetch(set, n.StorePath)
			Expect(err).To(MatchError(ContainSubstring(`Content-Encoding: no decoder for "squeeze"`)))
		})
	})
}
