package integration_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"unsafe"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

// withoutIPv4 puts the calling goroutine and what it starts into a network of their own, which has nothing but ::1.
// names are what /etc/hosts says of it there. The goroutine's thread ends with it. It takes root: others leave the test
// out, and say so.
func withoutIPv4(t *testing.T, names ...string) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		fmt.Fprintf(os.Stderr, "\n*** NOT TESTED: %s: a network without IPv4: %s ***\n", t.Name(), err)
		t.Skipf("NOT TESTED: a network without IPv4: %s", err)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	defer unix.Close(socket)
	up, err := unix.NewIfreq("lo")
	must(err)
	up.SetUint16(unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING)
	must(unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, up))
	none, err := unix.NewIfreq("lo")
	must(err)
	must(none.SetInet4Addr([]byte{0, 0, 0, 0}))
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(none)))
	Expect(errno).To(BeZero())
	_, err = net.Listen("tcp", "127.0.0.1:0")
	Expect(err).To(HaveOccurred(), "there is IPv4")

	hosts := filepath.Join(t.TempDir(), "hosts")
	text := ""
	for _, name := range names {
		text += "::1 " + name + "\n"
	}
	must(os.WriteFile(hosts, []byte(text), 0o644))
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""))
}

// addLoopback gives the loopback interface another address of IPv6.
func addLoopback(address string) {
	socket, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	defer unix.Close(socket)
	lo, err := net.InterfaceByName("lo")
	must(err)
	request := struct { // in6_ifreq: linux/ipv6.h
		address      [16]byte
		prefixLength uint32
		index        int32
	}{address: netip.MustParseAddr(address).As16(), prefixLength: 64, index: int32(lo.Index)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&request)))
	Expect(errno).To(BeZero())
}

// TestIPv6 builds where there is no IPv4 at all, as on platforms whose pods have none.
func TestIPv6(t *testing.T) {
	realParts(t)
	spec.Run(t, "no IPv4", testIPv6, spec.Report(report.Terminal{}))
}

func testIPv6(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("evaluates with a private cache, by a literal address and by a name that has AAAA records only, and launches", func() {
		withoutIPv4(t, "cache.example.org")
		w := newWorld(t).importsWord()
		w.hydraBuilds("source", "default.nix", "-A", "word")
		app := w.hydraBuilds("source", "default.nix", "-A", "app")
		const token = "t0ken"
		private, err := rig.Serve(w.cache, rig.ServeOptions{Wrap: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer "+token {
					http.Error(rw, "who are you?", http.StatusUnauthorized)
					return
				}
				next.ServeHTTP(rw, r)
			})
		}})
		must(err)
		defer private.Close()
		literal, err := url.Parse(private.URL)
		must(err)
		Expect(literal.Hostname()).To(Equal("::1"))
		for _, address := range []string{private.URL, "http://cache.example.org:" + literal.Port()} {
			w.bare.Bindings = map[string]map[string]string{
				"own": {"type": "nix-binary-cache", "url": address, "token": token},
			}
			must(w.bare.NewImage())
			o := w.deploy(map[string]string{"BP_NIX_SUBSTITUTERS": address, "BP_NIX_ATTRS": "app",
				"BP_NIX_SOURCE_NAME": "source"}, app...)
			Expect(o.Log).To(ContainSubstring("Fetching word.nix from " + address))
		}
	})

	it("takes a link-local address with its zone, goes through a proxy at a literal address, and says which family there is not", func() {
		withoutIPv4(t)
		addLoopback("fe80::1")
		addLoopback("fd00::1")
		w := newWorld(t).importsWord()
		w.hydraBuilds("source", "default.nix", "-A", "word")
		app := w.hydraBuilds("source", "default.nix", "-A", "app")
		server, err := rig.Serve(w.cache, rig.ServeOptions{Address: "[fe80::1%lo]:0"})
		must(err)
		defer server.Close()
		listens, err := url.Parse(server.URL)
		must(err)
		zoned := "http://[fe80::1%25lo]:" + listens.Port()
		settings := func(address string, more ...string) map[string]string {
			env := map[string]string{"BP_NIX_SUBSTITUTERS": address, "BP_NIX_ATTRS": "app", "BP_NIX_SOURCE_NAME": "source"}
			for i := 0; i < len(more); i += 2 {
				env[more[i]] = more[i+1]
			}
			return env
		}
		o := w.deploy(settings(zoned), app...)
		Expect(o.Log).To(ContainSubstring("Fetching word.nix from " + zoned))

		var through atomic.Int32
		proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			through.Add(1)
			http.FileServer(http.Dir(w.cache)).ServeHTTP(rw, r)
		}))
		proxy.Listener.Close()
		proxy.Listener, err = net.Listen("tcp", "[::1]:0")
		must(err)
		proxy.Start()
		defer proxy.Close()
		must(w.bare.NewImage())
		w.deploy(settings("http://cache.example.org", "HTTP_PROXY", proxy.URL, "http_proxy", proxy.URL), app...)
		Expect(through.Load()).To(BeNumerically(">", 2))
		private, err := rig.Serve(w.cache, rig.ServeOptions{Address: "[fd00::1]:0"})
		must(err)
		defer private.Close()
		const nobody = "http://[2001:db8::1]:3128"
		must(w.bare.NewImage())
		w.deploy(settings(private.URL, "HTTP_PROXY", nobody, "http_proxy", nobody, "NO_PROXY", "fe80::/10,fd00::/8"), app...)

		for address, words := range map[string]string{
			"http://192.0.2.1:8080": "the build has no IPv4: give the cache's host an address of the other kind (an AAAA record in DNS)",
			"http://[fe80::1]:8080": "http://[fe80::1%25eth0]:8080",
		} {
			must(w.bare.NewImage())
			w.fails(settings(address), words)
		}
	})

	it("asks Hydra", func() {
		withoutIPv4(t, "hydra.example.org")
		w := newWorld(t).write(map[string]string{"release.nix": `{ web = derivation { name = "web";
  system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo web > $out" ]; }; }`})
		rev := w.commit(repository)
		outs := w.hydraBuilds("source", "release.nix")
		h := w.hydra(hydratest.Evaluation{
			Inputs: map[string]hydratest.Input{"src": {URI: repository, Revision: rev}},
			Jobs:   []hydratest.Job{{Name: "web." + w.parts.rig.System(), NixName: "web", Outputs: map[string]string{"out": outs[0]}}},
		})
		w.deploy(h.job("shop/main/web"), outs[0])
		address, err := url.Parse(h.URL)
		must(err)
		must(w.bare.NewImage())
		w.deploy(h.job("shop/main/web", "BP_NIX_HYDRA_URL", "http://hydra.example.org:"+address.Port()), outs[0])
	})

	it("reads a bucket", func() {
		withoutIPv4(t, "s3.example.org")
		w := newWorld(t).write(map[string]string{"release.nix": `{ web = derivation { name = "bucket";
  system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo web > $out" ]; }; }`})
		outs := w.hydraBuilds("source", "release.nix")
		bucket, err := rig.Serve(w.cache, rig.ServeOptions{Wrap: func(next http.Handler) http.Handler {
			return http.StripPrefix("/shop", next)
		}})
		must(err)
		defer bucket.Close()
		address, err := url.Parse(bucket.URL)
		must(err)
		for _, host := range []string{address.Host, "s3.example.org:" + address.Port()} {
			must(w.bare.NewImage())
			o := w.deploy(map[string]string{"BP_NIX_STORE_PATH": outs[0],
				"BP_NIX_SUBSTITUTERS": "s3://shop?region=eu-west-1&scheme=http&endpoint=" + host}, outs...)
			Expect(o.Log).To(ContainSubstring("s3://shop"))
		}
	})
}
