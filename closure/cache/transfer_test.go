package cache_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
)

func TestTransfer(t *testing.T) {
	spec.Run(t, "transfer", testTransfer, spec.Report(report.Terminal{}))
}

// cut answers with the first part of a file and then breaks the connection.
func cut(w http.ResponseWriter, file []byte, at int, headers ...string) bool {
	for i := 0; i < len(headers); i += 2 {
		w.Header().Set(headers[i], headers[i+1])
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(file)))
	w.Write(file[:at])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func testTransfer(t *testing.T, context spec.G, it spec.S) {
	var s *server
	var n *narinfo.NarInfo
	var data []byte

	it.Before(func() {
		RegisterTestingT(t)
		s = newServer(t)
		s.Config.ErrorLog = nil
		data = content("a", 400_000)
		n = s.add(t, "a", "xz", data, nil)
	})

	// onNAR intercepts requests for the NAR's file.
	onNAR := func(f func(w http.ResponseWriter, r *http.Request, nth int) bool) {
		s.on(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			return r.URL.Path == "/"+n.URL && f(w, r, nth)
		})
	}
	arrives := func() {
		t.Helper()
		got, err := fetch(open(t, options(s.URL)), n.StorePath)
		Expect(err).NotTo(HaveOccurred())
		Expect(bytes.Equal(got, data)).To(BeTrue())
	}

	it("continues where a connection broke, by range and only if the file is the same", func() {
		file := s.file(n.URL)
		onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			return nth == 1 && cut(w, file, 100_000, "ETag", s.etag(n.URL))
		})
		arrives()
		requests := s.asked(n.URL)
		Expect(requests).To(HaveLen(2))
		Expect(requests[1].Header.Get("Range")).To(Equal("bytes=100000-"))
		Expect(requests[1].Header.Get("If-Range")).To(Equal(s.etag(n.URL)))
	})

	it("survives a line that breaks again and again, as long as enough comes in less than five parts", func() {
		data = content("large", 1_000_000)
		n = s.add(t, "large", "none", data, nil)
		onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			var from int
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
			file := s.file(n.URL)
			if len(file)-from <= 70_000 {
				return false
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(file)-1, len(file)))
			w.Header().Set("Content-Length", fmt.Sprint(len(file)-from))
			if from > 0 {
				w.WriteHeader(http.StatusPartialContent)
			}
			w.Write(file[from : from+70_000])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		arrives()
		Expect(len(s.asked(n.URL))).To(BeNumerically(">", 10))
	})

	it("reads over what it has when the server starts from the beginning", func() {
		onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			if nth == 1 {
				return cut(w, s.file(n.URL), 100_000)
			}
			w.Write(s.file(n.URL))
			return true
		})
		arrives()
	})

	it("asks for the whole file when the server's range is another one", func() {
		onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			switch {
			case nth == 1:
				return cut(w, s.file(n.URL), 100_000)
			case r.Header.Get("Range") != "":
				w.Header().Set("Content-Range", "bytes 5-10/100")
				w.WriteHeader(http.StatusPartialContent)
			default:
				w.Write(s.file(n.URL))
			}
			return true
		})
		arrives()
	})

	it("takes 206 where all was asked for, and asks for the rest where not all of it came", func() {
		for _, part := range []string{"", "all", "half"} {
			onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
				file := s.file(n.URL)
				from, to := 0, len(file)
				if part == "half" {
					to = len(file) / 2
				}
				if r.Header.Get("Range") != "" {
					from, to = to, len(file)
				}
				if part != "" {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(file)))
				}
				w.Header().Set("Content-Length", fmt.Sprint(to-from))
				w.WriteHeader(http.StatusPartialContent)
				w.Write(file[from:to])
				return true
			})
			arrives()
		}
	})

	it("starts over when the file has changed meanwhile", func() {
		onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			return nth == 1 && cut(w, bytes.Repeat([]byte("x"), 1000), 0, "ETag", `"old"`)
		})
		arrives()
	})

	it("starts over when the file changes between two parts of it", func() {
		old := compress(t, "xz", content("old", 400_000))
		onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			return nth == 1 && cut(w, old, 50_000, "ETag", `"old"`)
		})
		arrives()
	})

	it("starts over when a Content-Encoding breaks off", func() {
		n = s.add(t, "b", "none", data, nil)
		packed := compress(t, "zstd", data)
		onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			if nth == 1 {
				return cut(w, packed, len(packed)/2, "Content-Encoding", "zstd")
			}
			w.Header().Set("Content-Encoding", "zstd")
			w.Write(packed)
			return true
		})
		arrives()
		Expect(s.asked(n.URL)[1].Header.Get("Range")).To(BeEmpty())
	})

	for _, packed := range []struct{ compression, encoding string }{{"none", ""}, {"zstd", ""}, {"none", "zstd"}} {
		it(fmt.Sprintf("continues, or starts over, when a file is cut that only the end of the connection ends: %+v", packed),
			func() {
				n = s.add(t, "b", packed.compression, data, func(n *narinfo.NarInfo) { n.FileSize, n.FileHash = 0, [32]byte{} })
				file := s.file(n.URL)
				if packed.encoding != "" {
					file = compress(t, packed.encoding, file)
				}
				onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
					if nth > 1 {
						return false
					}
					connection, buffer, err := w.(http.Hijacker).Hijack()
					if err != nil {
						panic(err)
					}
					fmt.Fprintf(buffer, "HTTP/1.0 200 OK\r\nContent-Encoding: %s\r\n\r\n%s", packed.encoding, file[:len(file)/2])
					buffer.Flush()
					connection.Close()
					return true
				})
				arrives()
				Expect(s.asked(n.URL)).To(HaveLen(2))
			})
	}

	it("takes silence for a break", func() {
		onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			if nth > 1 {
				return false
			}
			w.Header().Set("Content-Length", fmt.Sprint(n.FileSize))
			w.Write(s.file(n.URL)[:1000])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return true
		})
		began := time.Now()
		arrives()
		Expect(time.Since(began)).To(BeNumerically("<", busy.Limit(3*time.Second)))
	})

	it("waits as long as Retry-After says, within its bound", func() {
		onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			if nth > 1 {
				return false
			}
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		})
		o := options(s.URL)
		const disabled = 30 * time.Millisecond
		o.Policy.Disable = disabled
		began := time.Now()
		Expect(fetch(open(t, o), n.StorePath)).To(Equal(data))
		Expect(time.Since(began)).To(And(BeNumerically(">=", disabled), BeNumerically("<", busy.Limit(5*time.Second))))
	})

	for _, code := range []int{408, 425, 429, 500, 502, 503, 504} {
		it(fmt.Sprintf("tries again after status %d", code), func() {
			onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
				if nth < 3 {
					w.WriteHeader(code)
				}
				return nth < 3
			})
			arrives()
		})
	}

	for _, code := range []int{400, 401, 404, 405, 501, 505} {
		it(fmt.Sprintf("does not try again after status %d", code), func() {
			onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool { w.WriteHeader(code); return true })
			_, err := fetch(open(t, options(s.URL)), n.StorePath)
			Expect(err).To(HaveOccurred())
			Expect(s.asked(n.URL)).To(HaveLen(1))
		})
	}

	it("gives up after its attempts, naming what happened", func() {
		onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool { w.WriteHeader(503); return true })
		_, err := fetch(open(t, options(s.URL)), n.StorePath)
		Expect(err).To(MatchError(And(ContainSubstring("503 Service Unavailable"), ContainSubstring(n.URL),
			ContainSubstring("tried 5 times"))))
		Expect(s.asked(n.URL)).To(HaveLen(5))
	})

	it("gives up a line that breaks after each byte", func() {
		onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			var from int
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, n.FileSize-1, n.FileSize))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(s.file(n.URL)[from : from+1])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		_, err := fetch(open(t, options(s.URL)), n.StorePath)
		Expect(err).To(MatchError(ContainSubstring("tried 5 times")))
		Expect(s.asked(n.URL)).To(HaveLen(5))
	})

	it("falls over to the next cache when one keeps breaking", func() {
		other := newServer(t)
		other.add(t, "a", "zstd", data, nil)
		onNAR(func(w http.ResponseWriter, r *http.Request, nth int) bool { return cut(w, s.file(n.URL), 0) })
		got, err := fetch(open(t, options(s.URL, other.URL)), n.StorePath)
		Expect(err).NotTo(HaveOccurred())
		Expect(bytes.Equal(got, data)).To(BeTrue())
	})

	it("follows an absolute URL to another server, and ones below a prefix", func() {
		files := newServer(t)
		files.put("elsewhere/a.nar", s.file(n.URL))
		s.add(t, "a", "xz", data, func(n *narinfo.NarInfo) { n.URL = files.URL + "/elsewhere/a.nar" })
		arrives()
		for _, name := range []string{"nix-cache-info", n.StorePath.HashPart() + ".narinfo", "nar/a.nar.xz"} {
			files.put("prefix/"+name, s.file(name))
		}
		s.add(t, "a", "xz", data, nil)
		files.put("prefix/"+n.StorePath.HashPart()+".narinfo", []byte(n.String()))
		got, err := fetch(open(t, options(files.URL+"/prefix/")), n.StorePath)
		Expect(err).NotTo(HaveOccurred())
		Expect(bytes.Equal(got, data)).To(BeTrue())
	})

	it("keeps the query of a NAR's URL, as harmonia needs it", func() {
		s.add(t, "a", "xz", data, func(n *narinfo.NarInfo) { n.URL += "?hash=" + n.StorePath.HashPart() })
		s.put("nar/a.nar.xz", s.file(n.URL))
		arrives()
		Expect(s.asked("nar/a.nar.xz")[0].URL.RawQuery).To(HavePrefix("hash="))
	})

	it("follows a URL beside the cache, as Nix does", func() {
		files := newServer(t)
		files.put("prefix/nix-cache-info", s.file("nix-cache-info"))
		files.put("shared/a.nar.xz", s.file(n.URL))
		n.URL = "../shared/a.nar.xz"
		files.put("prefix/"+n.StorePath.HashPart()+".narinfo", []byte(n.String()))
		got, err := fetch(open(t, options(files.URL+"/prefix")), n.StorePath)
		Expect(err).NotTo(HaveOccurred())
		Expect(bytes.Equal(got, data)).To(BeTrue())
	})

	it("refuses a URL that leads out of the cache to what is not HTTP", func() {
		for i, url := range []string{"file:///etc/passwd", "s3://other/x"} {
			bad := s.add(t, fmt.Sprint("bad", i), "xz", data, func(n *narinfo.NarInfo) { n.URL = url })
			_, err := fetch(open(t, options(s.URL)), bad.StorePath)
			Expect(err).To(MatchError(ContainSubstring("field URL")), url)
		}
	})
}
