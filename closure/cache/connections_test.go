package cache_test

import (
	"bufio"
	stdcontext "context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
)

func TestConnections(t *testing.T) {
	spec.Run(t, "connections", testConnections, spec.Report(report.Terminal{}))
}

func testConnections(t *testing.T, context spec.G, it spec.S) {
	var s *server
	data := content("a", 50_000)

	it.Before(func() {
		RegisterTestingT(t)
		s = newServer(t)
	})

	it("goes through the proxy of the environment, except to hosts of NO_PROXY", func() {
		proxy := newServer(t)
		proxy.put("nix-cache-info", s.file("nix-cache-info"))
		o := options("http://cache.example")
		o.Getenv = environment(map[string]string{"http_proxy": proxy.URL})
		open(t, o)
		Expect(proxy.asked("nix-cache-info")[0].Host).To(Equal("cache.example"))
		o.Getenv = environment(map[string]string{"HTTP_PROXY": proxy.URL, "NO_PROXY": "cache.example"})
		_, err := cache.Open(stdcontext.Background(), o)
		Expect(err).To(HaveOccurred())
		Expect(proxy.asked("nix-cache-info")).To(HaveLen(1))
	})

	it("goes through a proxy by CONNECT to a cache with TLS", func() {
		secure, authority := newTLSServer(t)
		n := secure.add(t, "a", "xz", data, nil)
		var mutex sync.Mutex
		var asked []string
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mutex.Lock()
			asked = append(asked, r.Method+" "+r.Host+" "+r.Header.Get("Proxy-Authorization"))
			mutex.Unlock()
			there, err := net.Dial("tcp", host(secure.URL))
			if err != nil {
				panic(err)
			}
			here, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n")
			go func() { io.Copy(there, here); there.Close() }()
			io.Copy(here, there)
			here.Close()
		}))
		defer proxy.Close()
		o := options("https://example.com")
		o.RootCAs = []cache.Authorities{{PEM: authority}}
		o.Getenv = environment(map[string]string{"HTTPS_PROXY": "http://me:secret@" + host(proxy.URL)})
		Expect(fetch(open(t, o), n.StorePath)).To(Equal(data))
		Expect(asked).To(HaveEach("CONNECT example.com:443 " + basicMe))
		proxy.CloseClientConnections()
	})

	it("says that a proxy's address cannot be read, and does not repeat it", func() {
		log := &logged{}
		o := options(s.URL)
		o.Log = log.log
		o.Getenv = environment(map[string]string{"HTTP_PROXY": "http://me:secret%ss@proxy.example"})
		open(t, o)
		Expect(log.lines).To(ConsistOf(And(ContainSubstring("HTTP_PROXY"), Not(ContainSubstring("secret")))))
	})

	it("reads no header of any length, however many answers have one, and no status line", func() {
		s := newServer(t)
		n := s.add(t, "a", "none", content("a", 1000), nil)
		long := strings.Repeat("x", 1<<20)
		s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, ".narinfo") {
				w.Header().Set("X-Long", long)
			}
			return false
		})
		o := options(s.URL)
		_, err := open(t, o).Lookup(stdcontext.Background(), n.StorePath)
		Expect(err).To(MatchError(ContainSubstring("server response headers exceeded")))

		listener, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		defer listener.Close()
		go func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					_, _ = bufio.NewReader(c).ReadString('\n')
					fmt.Fprintf(c, "HTTP/1.1 418 %s\r\nContent-Length: 0\r\n\r\n", long[:60<<10])
					c.Close()
				}()
			}
		}()
		_, err = cache.Open(stdcontext.Background(), options("http://"+listener.Addr().String()))
		Expect(err).To(HaveOccurred())
		Expect(len(err.Error())).To(BeNumerically("<", 2000))
	})

	it("reuses connections for look-ups", func() {
		connections := map[string]bool{}
		s.on(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			connections[r.RemoteAddr] = true
			return false
		})
		set := open(t, options(s.URL))
		for i := range 20 {
			_, err := set.Lookup(stdcontext.Background(), storePath(fmt.Sprint("p", i)))
			var none *cache.NotFoundError
			Expect(errors.As(err, &none)).To(BeTrue())
		}
		Expect(connections).To(HaveLen(1))
	})
}
