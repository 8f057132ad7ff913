package cache_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	stdcontext "context"
	"encoding/base64"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

func TestAuth(t *testing.T) {
	spec.Run(t, "logins", testAuth, spec.Report(report.Terminal{}))
}

// wants makes a server answer only requests with this Authorization.
func (s *server) wants(authorization string) {
	s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Header.Get("Authorization") == authorization {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
}

// newTLSServer is a cache with HTTP/2 and a certificate of its own authority, which is returned as PEM.
func newTLSServer(t *testing.T) (*server, []byte) {
	s := newServerWith(t, httptest.NewUnstartedServer, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	})
	return s, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// environment is a Getenv.
func environment(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

const (
	basicMe  = "Basic bWU6c2VjcmV0" // me:secret
	password = "secret"
)

func testAuth(t *testing.T, context spec.G, it spec.S) {
	var s *server
	var n *narinfo.NarInfo
	data := content("a", 50_000)

	it.Before(func() {
		RegisterTestingT(t)
		s = newServer(t)
		n = s.add(t, "a", "zstd", data, nil)
	})

	context("a private cache", func() {
		it("is opened by the user name and password of its URL, which nobody sees again", func() {
			s.wants(basicMe)
			log := &logged{}
			o := options("http://me:secret@" + host(s.URL))
			o.Log = log.log
			set := open(t, o)
			Expect(fetch(set, n.StorePath)).To(Equal(data))
			s.Close()
			_, err := set.Lookup(stdcontext.Background(), storePath("b"))
			Expect(err).To(HaveOccurred())
			shown := fmt.Sprintf("%v %v %+v", err, log, set.Report())
			Expect(shown).NotTo(ContainSubstring(password))
		})

		it("is opened by a binding's token or password", func() {
			s.wants("Bearer t0ken")
			o := options(s.URL)
			o.Credentials = []cache.Credential{{URL: s.URL + "/some/path", Token: "t0ken", Password: "unused"}}
			Expect(fetch(open(t, o), n.StorePath)).To(Equal(data))
			s.wants(basicMe)
			o.Credentials = []cache.Credential{{URL: s.URL, Username: "me", Password: "secret"}}
			Expect(fetch(open(t, o), n.StorePath)).To(Equal(data))
		})

		it("is told from another one on the same host, by a login of its own", func() {
			for _, name := range []string{"one", "one/inner", "two"} {
				for _, file := range []string{"nix-cache-info", n.URL, n.StorePath.HashPart() + ".narinfo"} {
					s.put(name+"/"+file, s.file(file))
				}
			}
			s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				want := strings.Split(r.URL.Path, "/")[1]
				if strings.HasPrefix(r.URL.Path, "/one/inner/") {
					want = "one/inner"
				}
				if r.Header.Get("Authorization") != "Bearer "+want {
					w.WriteHeader(http.StatusUnauthorized)
					return true
				}
				return false
			})
			var o cache.Options
			for _, name := range []string{"one", "one/inner/", "two"} {
				url := s.URL + "/" + name
				alone := options(url)
				o.URLs = append(o.URLs, url)
				o.Credentials = append(o.Credentials, cache.Credential{URL: url, Token: strings.TrimRight(name, "/")})
				alone.Credentials = o.Credentials
				Expect(fetch(open(t, alone), n.StorePath)).To(Equal(data))
			}
			all := options(o.URLs...)
			all.Credentials = o.Credentials
			log := &logged{}
			all.Log = log.log
			open(t, all)
			Expect(log.lines).To(BeEmpty())
		})

		it("serves a NAR that lies beside it with its login", func() {
			s.wants("Bearer t0ken")
			for _, file := range []string{"nix-cache-info", n.StorePath.HashPart() + ".narinfo"} {
				s.put("one/"+file, s.file(file))
			}
			s.put("one/"+n.StorePath.HashPart()+".narinfo", []byte(strings.Replace(n.String(), "URL: nar/", "URL: /nar/", 1)))
			o := options(s.URL + "/one")
			o.Credentials = []cache.Credential{{URL: s.URL + "/one", Token: "t0ken"}}
			Expect(fetch(open(t, o), n.StorePath)).To(Equal(data))
		})

		for _, text := range []string{
			"machine 127.0.0.1 login me password secret",
			"machine HOST\n\tlogin me\n\tpassword secret\n",
			"# a comment\nmachine other login x password y # another\nmachine 127.0.0.1 login \"me\" password \"s\\ecret\"",
			"macdef init\n machine 127.0.0.1 login no password no\n\nmachine 127.0.0.1 account z login me password secret",
			"machine other login a password b default login me password secret",
			"machine 127.0.0.1\nmachine 127.0.0.1 login me\n# machine 127.0.0.1 login no password no\npassword secret",
			"MACHINE 127.0.0.1 LOGIN me password no Password secret",
		} {
			it("is opened by netrc: "+text, func() {
				s.wants(basicMe)
				o := options(s.URL)
				o.Netrc = strings.ReplaceAll(text, "HOST", host(s.URL))
				Expect(fetch(open(t, o), n.StorePath)).To(Equal(data))
				file := tempFile(t, o.Netrc)
				o.Netrc, o.Getenv = "", environment(map[string]string{"NETRC": file})
				Expect(fetch(open(t, o), n.StorePath)).To(Equal(data))
			})
		}

		it("is opened by netrc passwords that look like comments, or have controls in quotes", func() {
			for text, password := range map[string]string{"#secret": "#secret", `"#a b"`: "#a b", `"\n\"x"`: "\n\"x"} {
				s.wants("Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+password)))
				o := options(s.URL)
				o.Netrc = "machine 127.0.0.1 login me password " + text + " # a comment"
				Expect(fetch(open(t, o), n.StorePath)).To(Equal(data))
			}
		})

		it("is not opened by netrc of another port", func() {
			o := options(s.URL)
			o.Netrc = "machine 127.0.0.1:1 login me password secret"
			open(t, o)
			Expect(s.asked("nix-cache-info")[0].Header.Get("Authorization")).To(BeEmpty())
		})

		it("says that a login was refused", func() {
			s.wants("Basic somebody else")
			_, err := cache.Open(stdcontext.Background(), options("http://me:secret@"+host(s.URL)))
			Expect(err).To(MatchError(ContainSubstring("the login that was sent is refused")))
		})

		it("does not wait for a netrc that is a pipe, nor for the end of one that has none", func() {
			for _, file := range []string{pipe(t), "/dev/zero"} {
				o := options(s.URL)
				o.Getenv = environment(map[string]string{"NETRC": file})
				_, err := cache.Open(stdcontext.Background(), o)
				Expect(err).To(MatchError(And(ContainSubstring("reading netrc: "), ContainSubstring("no regular file"))))
			}
		})

		it("takes /dev/null as a netrc of nothing, as Nix does", func() {
			o := options(s.URL)
			o.Getenv = environment(map[string]string{"NETRC": os.DevNull})
			open(t, o)
			Expect(s.asked("nix-cache-info")[0].Header.Get("Authorization")).To(BeEmpty())
		})

		it("is opened by the user's own netrc where another is given too, which wins", func() {
			home := t.TempDir()
			Expect(os.WriteFile(filepath.Join(home, ".netrc"), []byte("machine 127.0.0.1 login me password secret"), 0o600)).
				To(Succeed())
			o := options(s.URL)
			o.Netrc, o.Getenv = "machine other login x password y", environment(map[string]string{"HOME": home})
			s.wants(basicMe)
			open(t, o)
			o.Netrc = "machine 127.0.0.1 login x password y"
			_, err := cache.Open(stdcontext.Background(), o)
			Expect(err).To(MatchError(ContainSubstring("refused")))
		})
	})

	context("a redirect", func() {
		var target *server

		it.Before(func() {
			target = newServer(t)
			target.put("nar", s.file(n.URL))
			s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				Expect(r.Header.Get("Authorization")).To(Equal(basicMe))
				if r.URL.Path != "/"+n.URL {
					return false
				}
				http.Redirect(w, r, target.URL+"/nar?X-Amz-Signature=sig&token=t0ken", http.StatusTemporaryRedirect)
				return true
			})
		})

		it("takes no login along to another host, nor the URL it came from", func() {
			Expect(fetch(open(t, options("http://me:secret@"+host(s.URL))), n.StorePath)).To(Equal(data))
			r := target.asked("/nar")[0]
			Expect(r.Header.Get("Authorization")).To(BeEmpty())
			Expect(r.Header.Get("Referer")).To(BeEmpty())
		})

		it("leaves a presigned URL its own signature even where a login is known", func() {
			o := options("http://me:secret@" + host(s.URL))
			o.Credentials = []cache.Credential{{URL: target.URL, Token: "t0ken"}}
			Expect(fetch(open(t, o), n.StorePath)).To(Equal(data))
			Expect(target.asked("/nar")[0].Header.Get("Authorization")).To(BeEmpty())
		})

		it("shows no signature when it leads nowhere", func() {
			target.Close()
			_, err := fetch(open(t, options("http://me:secret@"+host(s.URL))), n.StorePath)
			Expect(err).To(HaveOccurred())
			Expect(err.Error()).NotTo(Or(ContainSubstring("t0ken"), ContainSubstring("sig&"), ContainSubstring(password)))
		})

		it("to what is no URL is not repeated, nor tried again", func() {
			s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if !strings.HasPrefix(r.URL.Path, "/nar/") {
					return false
				}
				w.Header()["Location"] = []string{"/x%zz?token=t0ken"}
				w.WriteHeader(http.StatusFound)
				return true
			})
			_, err := fetch(open(t, options(s.URL)), n.StorePath)
			Expect(err).To(MatchError(And(ContainSubstring("Location is not a URL"), Not(ContainSubstring("t0ken")))))
			Expect(s.asked(n.URL)).To(HaveLen(1))
		})

		it("in a circle ends", func() {
			s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if !strings.HasPrefix(r.URL.Path, "/nar/") {
					return false
				}
				http.Redirect(w, r, r.URL.Path, http.StatusFound)
				return true
			})
			_, err := fetch(open(t, options(s.URL)), n.StorePath)
			Expect(err).To(MatchError(ContainSubstring("stopped after 10 redirects")))
		})
	})

	context("TLS", func() {
		it("speaks HTTP/2 with a cache whose authority was given", func() {
			secure, authority := newTLSServer(t)
			n := secure.add(t, "a", "xz", data, nil)
			o := options(secure.URL)
			o.RootCAs = []cache.Authorities{{PEM: authority}}
			Expect(fetch(open(t, o), n.StorePath)).To(Equal(data))
			Expect(secure.asked(n.URL)[0].ProtoMajor).To(Equal(2))
		})

		for _, name := range []string{"NIX_SSL_CERT_FILE", "SSL_CERT_FILE"} {
			it("trusts the authorities in $"+name, func() {
				secure, authority := newTLSServer(t)
				o := options(secure.URL)
				o.Getenv = environment(map[string]string{name: tempFile(t, string(authority))})
				open(t, o)
			})
		}

		it("refuses an unknown authority at once, and a file without certificates", func() {
			secure, _ := newTLSServer(t)
			secure.Config.ErrorLog = discard()
			_, err := cache.Open(stdcontext.Background(), options(secure.URL))
			Expect(err).To(MatchError(ContainSubstring("certificate signed by unknown authority")))
			o := options(secure.URL)
			o.RootCAs = []cache.Authorities{{Source: `the file "mine"`, PEM: []byte("no certificate")}}
			_, err = cache.Open(stdcontext.Background(), o)
			Expect(err).To(MatchError(And(ContainSubstring("no certificate in PEM form"), ContainSubstring(`the file "mine"`))))
			for _, name := range []string{"NIX_SSL_CERT_FILE", "SSL_CERT_FILE"} {
				for _, file := range []string{tempFile(t, "no certificate"), "/nowhere", pipe(t), "/dev/zero"} {
					o := options(secure.URL)
					o.Getenv = environment(map[string]string{name: file})
					_, err = cache.Open(stdcontext.Background(), o)
					Expect(err).To(MatchError(ContainSubstring("of " + name + ": ")))
				}
			}
		})

		it("gives no login of the secure cache to the same host without TLS", func() {
			secure, authority := newTLSServer(t)
			n := secure.add(t, "a", "zstd", data, func(n *narinfo.NarInfo) { n.URL = s.URL + "/" + n.URL })
			o := options(strings.Replace(secure.URL, "https://", "https://me:secret@", 1))
			o.RootCAs = []cache.Authorities{{PEM: authority}}
			Expect(fetch(open(t, o), n.StorePath)).To(Equal(data))
			Expect(secure.asked(".narinfo")[0].Header.Get("Authorization")).To(Equal(basicMe))
			Expect(s.asked("nar/a.nar.zstd")[0].Header.Get("Authorization")).To(BeEmpty())
		})
	})
}

func TestLoginFor(t *testing.T) {
	g := NewWithT(t)
	o := cache.Options{
		URLs: []string{"https://url:word@in.example"}, Getenv: func(string) string { return "" },
		Credentials: []cache.Credential{{URL: "https://token.example/x", Token: "t"}, {URL: "https://pass.example", Username: "u", Password: "p:q"}},
		Netrc:       "machine net.example login n password w",
	}
	for address, want := range map[string]cache.Credential{
		"https://token.example":         {URL: "https://token.example", Token: "t"},
		"https://pass.example/hydra":    {URL: "https://pass.example/hydra", Username: "u", Password: "p:q"},
		"http://net.example":            {URL: "http://net.example", Username: "n", Password: "w"},
		"https://in.example":            {URL: "https://in.example", Username: "url", Password: "word"},
		"https://own:secret@me.example": {URL: "https://me.example", Username: "own", Password: "secret"},
		"http://pass.example":           {},
		"https://pass.example:8443":     {},
	} {
		got, ok, err := cache.LoginFor(o, address)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(got).To(Equal(want), address)
		g.Expect(ok).To(Equal(want != cache.Credential{}))
	}
}
