package cache_test

import (
	"bytes"
	stdcontext "context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
)

func TestCauses(t *testing.T) {
	spec.Run(t, "causes that a person can remove", testCauses, spec.Report(report.Terminal{}))
}

// certificate is one of its own authority, for a name and until a time.
func certificate(name string, until time.Time) (tls.Certificate, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{name},
		NotBefore: until.Add(-time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	Expect(err).NotTo(HaveOccurred())
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func testCauses(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	refusal := func(o cache.Options) cache.Answer {
		t.Helper()
		_, err := cache.Open(stdcontext.Background(), o)
		var none *cache.OpenError
		Expect(errors.As(err, &none)).To(BeTrue(), "%v", err)
		Expect(none.Asked).To(HaveLen(1))
		Expect(none.Asked[0].Why).To(Equal(none.Asked[0].Err.Error()))
		return none.Asked[0]
	}
	secure := func(name string, until time.Time) (url string, authority []byte) {
		c, authority := certificate(name, until)
		s := newServerWith(t, httptest.NewUnstartedServer, func(s *httptest.Server) {
			s.TLS = &tls.Config{Certificates: []tls.Certificate{c}}
			s.Config.ErrorLog = discard()
			s.StartTLS()
		})
		return s.URL, authority
	}

	context("TLS", func() {
		it("names an unknown authority", func() {
			url, _ := secure("127.0.0.1", time.Now().Add(time.Hour))
			var unknown x509.UnknownAuthorityError
			Expect(errors.As(refusal(options(url)).Err, &unknown)).To(BeTrue())
		})

		it("names a certificate for another host, and one whose time is over", func() {
			url, authority := secure("elsewhere.example", time.Now().Add(time.Hour))
			o := options(url)
			o.RootCAs = []cache.Authorities{{PEM: authority}}
			var host x509.HostnameError
			Expect(errors.As(refusal(o).Err, &host)).To(BeTrue())

			url, authority = secure("127.0.0.1", time.Now().Add(-time.Minute))
			o = options(url)
			o.RootCAs = []cache.Authorities{{PEM: authority}}
			var invalid x509.CertificateInvalidError
			Expect(errors.As(refusal(o).Err, &invalid)).To(BeTrue())
			Expect(invalid.Reason).To(Equal(x509.Expired))
		})

		it("is named where the URL lacks it, and where it has it and the server does not", func() {
			var scheme *cache.SchemeError
			url, _ := secure("127.0.0.1", time.Now().Add(time.Hour))
			Expect(errors.As(refusal(options(strings.Replace(url, "https", "http", 1))).Err, &scheme)).To(BeTrue())
			Expect(scheme.TLS).To(BeTrue())
			plain := newServer(t)
			Expect(errors.As(refusal(options(strings.Replace(plain.URL, "http", "https", 1))).Err, &scheme)).To(BeTrue())
			Expect(scheme.TLS).To(BeFalse())
		})

		for _, answer := range []string{
			"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<center>The plain HTTP request was sent to HTTPS port</center>",
			"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nReason: You're speaking plain HTTP to an SSL-enabled server port.",
			"\x15\x03\x01\x00\x02\x02\x46",
		} {
			it(fmt.Sprintf("is named where a server says so by %.40q", answer), func() {
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				Expect(err).NotTo(HaveOccurred())
				defer listener.Close()
				go func() {
					for {
						c, err := listener.Accept()
						if err != nil {
							return
						}
						_, _ = c.Read(make([]byte, 4096))
						_, _ = io.WriteString(c, answer)
						c.Close()
					}
				}()
				var scheme *cache.SchemeError
				err = refusal(options("http://" + listener.Addr().String())).Err
				Expect(errors.As(err, &scheme)).To(BeTrue(), "%v", err)
				Expect(scheme.TLS).To(BeTrue())
			})
		}
	})

	for _, code := range []int{407, 403} {
		it(fmt.Sprintf("says what a proxy says to CONNECT: %d", code), func() {
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Proxy-Authenticate", "Basic")
				w.WriteHeader(code)
			}))
			defer proxy.Close()
			o := options("https://cache.example")
			o.Getenv = environment(map[string]string{"HTTPS_PROXY": "http://me:secret@" + host(proxy.URL)})
			answer := refusal(o)
			var refused *cache.ProxyError
			Expect(errors.As(answer.Err, &refused)).To(BeTrue(), "%v", answer.Err)
			Expect(refused.Code).To(Equal(code))
			Expect(answer.Why).To(And(ContainSubstring("the proxy "+proxy.URL), Not(ContainSubstring("secret"))))
			Expect(answer.Reason).To(Equal(map[int]cache.Reason{407: cache.Login, 403: cache.Down}[code]))
		})
	}

	s3 := func(status int, code, more string) cache.Answer {
		s := newServer(t)
		s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(status)
			fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>It is\n\u202ewrong.</Message>%s"+
				"<RequestId>X</RequestId></Error>", code, more)
			return true
		})
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
		return refusal(options("s3://bucket?scheme=http&endpoint=" + host(s.URL)))
	}

	it("repeats S3's own words, for wrong credentials as for a login", func() {
		for code, status := range map[string]int{
			"SignatureDoesNotMatch": 403, "InvalidAccessKeyId": 403, "InvalidToken": 400, "ExpiredToken": 400, "InvalidTokenId": 403,
			"RequestTimeTooSkewed": 403,
		} {
			answer := s3(status, code, "")
			Expect(answer.Why).To(ContainSubstring("S3 says " + code))
			Expect(answer.Why).NotTo(ContainSubstring("\u202e"))
			Expect(answer.Reason).To(Equal(cache.Login), code)
		}
	})

	it("repeats S3's own words for a wrong region, and names the right one", func() {
		answer := s3(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")
		Expect(answer.Why).To(And(ContainSubstring("S3 says AuthorizationHeaderMalformed"), ContainSubstring("the bucket is in another region, eu-west-1")))
		Expect(s3(404, "NoSuchBucket", "").Why).To(ContainSubstring("S3 says NoSuchBucket"))
		denied := s3(403, "AccessDenied", "")
		Expect(denied.Why).To(And(ContainSubstring("does not appear to be a binary cache"), ContainSubstring("403 Forbidden: S3 says AccessDenied")))
		var status *cache.StatusError
		Expect(errors.As(denied.Err, &status)).To(BeTrue())
	})

	context("nix-cache-info", func() {
		priorities := map[string]int{
			"": 50, "Priority: 40.5\n": 40, "StoreDir: /nix/store\r\nPriority: 30": 30, "Something: else": 50, "no colon": 50,
		}
		for _, text := range sorted(priorities) {
			it(fmt.Sprintf("is used as Nix uses it: %q", text), func() {
				s := newServer(t)
				s.put("nix-cache-info", []byte(text))
				Expect(open(t, options(s.URL)).Report()).To(HaveLen(1))
				Expect(cache.ParseInfo(strings.NewReader(text))).To(HaveField("Priority", priorities[text]))
			})
		}
	})

	it("takes answers in Content-Encoding deflate", func() {
		s := newServer(t)
		n := s.add(t, "a", "none", content("a", 5000), func(n *narinfo.NarInfo) { n.FileSize, n.FileHash = 0, [32]byte{} })
		s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			file := s.file(strings.TrimPrefix(r.URL.Path, "/"))
			w.Header().Set("Content-Encoding", "deflate")
			w.Write(compress(t, "deflate", file))
			return true
		})
		Expect(fetch(open(t, options(s.URL)), n.StorePath)).To(Equal(content("a", 5000)))
	})

	context("what nobody signed", func() {
		it("is refused where it says to be larger than what is taken so", func() {
			s := newServer(t)
			zeros := bytes.Repeat(make([]byte, 1<<20), 16)
			n := s.add(t, "a", "zstd", zeros, func(n *narinfo.NarInfo) { n.Sigs, n.NarSize = nil, 1<<40 })
			o := options(s.URL)
			o.RequireSigs = false
			_, err := open(t, o).Lookup(t.Context(), n.StorePath)
			Expect(answers(err)).To(ConsistOf(And(HaveField("Reason", cache.Untrusted),
				HaveField("Why", And(ContainSubstring("lacks a signature by a trusted key"), ContainSubstring("4294967296 bytes"),
					ContainSubstring("NarSize is 1099511627776"))))))
			o.SetMaxUnsignedSize(int64(len(zeros)))
			n = s.add(t, "b", "zstd", zeros, func(n *narinfo.NarInfo) { n.Sigs = nil })
			Expect(fetch(open(t, o), n.StorePath)).To(HaveLen(len(zeros)))
			o.SetMaxUnsignedSize(int64(len(zeros)) - 1)
			_, err = open(t, o).Lookup(t.Context(), n.StorePath)
			Expect(err).To(HaveOccurred())
			n = s.add(t, "c", "zstd", zeros, nil)
			Expect(fetch(open(t, o), n.StorePath)).To(HaveLen(len(zeros)))
		})
	})

	it("has no more under way that nobody signed than is taken of one path", func() {
		s := newServer(t)
		o := options(s.URL)
		var paths []storepath.Path
		for _, name := range []string{"a", "b", "c", "d"} {
			n := s.add(t, name, "none", content(name, 60_000), func(n *narinfo.NarInfo) {
				var err error
				n.Sigs, n.CA = nil, "fixed:r:"+n.NarHash.String()
				n.StorePath, err = storepath.Make("source", n.NarHash, name)
				Expect(err).NotTo(HaveOccurred())
			})
			paths = append(paths, n.StorePath)
		}
		o.SetMaxUnsignedSize(130_000)
		set := open(t, o)
		var group sync.WaitGroup
		var now, most atomic.Int64
		for _, p := range paths {
			group.Go(func() {
				found, err := set.Lookup(t.Context(), p)
				Expect(err).NotTo(HaveOccurred())
				Expect(found.ProvesItself()).To(BeTrue())
				Expect(set.Fetch(t.Context(), found, func(r io.Reader) error {
					most.Store(max(most.Load(), now.Add(1)))
					defer now.Add(-1)
					time.Sleep(10 * time.Millisecond)
					_, err := io.Copy(io.Discard, r)
					return err
				})).To(Succeed())
			})
		}
		group.Wait()
		Expect(most.Load()).To(BeEquivalentTo(2))
	})

	context("the only cache", func() {
		var s *server
		var n *narinfo.NarInfo
		var o cache.Options
		var log *logged

		it.Before(func() {
			s, log = newServer(t), &logged{}
			n = s.add(t, "a", "zstd", content("a", 100_000), nil)
			o = options(s.URL)
			o.Log = log.log
		})
		ends := func(answer func(w http.ResponseWriter, r *http.Request)) error {
			t.Helper()
			s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.URL.Path != "/"+n.URL {
					return false
				}
				answer(w, r)
				return true
			})
			began := time.Now()
			_, err := fetch(open(t, o), n.StorePath)
			Expect(time.Since(began)).To(BeNumerically("<", busy.Limit(5*time.Second)))
			Expect(err).To(HaveOccurred())
			return err
		}

		it("that trickles is given up, and the log says what was waited for", func() {
			err := ends(func(w http.ResponseWriter, r *http.Request) {
				for _, b := range s.file(n.URL) {
					if r.Context().Err() != nil {
						break
					}
					w.Write([]byte{b})
					w.(http.Flusher).Flush()
					time.Sleep(10 * time.Millisecond)
				}
			})
			Expect(err).To(MatchError(MatchRegexp(`too little arrives: \d+ bytes in .* \(tried 5 times\)`)))
			Expect(log.String()).To(And(ContainSubstring("waiting for "+s.URL+"/"+n.URL), ContainSubstring("bytes came so far")))
		})

		it("that never begins is given up, and the log says what was waited for", func() {
			o.Stall = 100 * time.Millisecond // the first byte has ten times that
			o.Policy.Timeout = 300 * time.Millisecond
			began := time.Now()
			err := ends(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			Expect(time.Since(began)).To(And(BeNumerically(">=", 10*o.Stall), BeNumerically("<", busy.Limit(20*o.Stall))))
			Expect(s.asked(n.URL)).To(HaveLen(1))
			Expect(err).To(MatchError(ContainSubstring("no answer in time")))
			Expect(log.String()).To(ContainSubstring("waiting for the first byte of " + s.URL + "/" + n.URL))
		})

		for _, endless := range []struct{ compression, unit string }{
			{"gzip", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
			{"zstd", "\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"},
			{"xz", "\x00\x00\x00\x00"},
		} {
			it("that appends to its "+endless.compression+" without end is given up", func() {
				n = s.add(t, "b", endless.compression, content("a", 100_000), func(n *narinfo.NarInfo) {
					n.FileSize, n.FileHash = 0, [32]byte{}
				})
				o.Stall = busy.Limit(100 * time.Millisecond) // it never stalls
				unit := []byte(strings.Repeat(endless.unit, 1000))
				err := ends(func(w http.ResponseWriter, r *http.Request) {
					w.Write(s.file(n.URL))
					for r.Context().Err() == nil {
						w.Write(unit)
					}
				})
				var mismatch *cache.VerifyError
				Expect(errors.As(err, &mismatch)).To(BeTrue(), "%v", err)
				err = ends(func(w http.ResponseWriter, r *http.Request) {
					w.Write(s.file(n.URL))
					for r.Context().Err() == nil {
						w.Write(unit[:len(endless.unit)])
						w.(http.Flusher).Flush()
						time.Sleep(20 * time.Millisecond)
					}
				})
				Expect(err).To(MatchError(ContainSubstring("too little arrives")))
			})
		}
	})

	it("reads zstd of several frames, a later one with a larger window", func() {
		s := newServer(t)
		data := content("a", 3<<20)
		var file bytes.Buffer
		for i, window := range []int{1 << 10, 8 << 20} {
			w, err := zstd.NewWriter(&file, zstd.WithWindowSize(window))
			Expect(err).NotTo(HaveOccurred())
			pack(w, data[i*1000:][:1000+i*(len(data)-2000)])
		}
		n := s.add(t, "a", "zstd", data, nil)
		s.replace(n, file.Bytes(), nil)
		got, err := fetch(open(t, options(s.URL)), n.StorePath)
		Expect(err).NotTo(HaveOccurred())
		Expect(bytes.Equal(got, data)).To(BeTrue())
	})
}
