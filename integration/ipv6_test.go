package integration_test

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra/hydratest"
)

// withoutIPv4 puts the calling goroutine and what it starts into a network of their own, which has nothing but ::1.
// names are what /etc/hosts says of it there. The goroutine's thread ends with it. It takes root, of a user namespace at least.
func withoutIPv4(t *testing.T, names ...string) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		untested.Skip(t, "a network without IPv4: %v", err)
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

// asRoot runs the calling test again in a user namespace of its own, where the one who runs it is root, and reports whether it
// did: root needs none. Where there are no such namespaces the test is left out, and says so.
func asRoot(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		return false
	}
	program, err := os.Executable()
	must(err)
	again := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=20m")
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	again.Cancel = func() error { return again.Process.Signal(os.Interrupt) }
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	if err := again.Start(); err != nil {
		untested.Skip(t, "a network without IPv4: it takes root, or a user namespace: %v", err)
	}
	if err := again.Wait(); err != nil {
		t.Errorf("in a user namespace: %s", err)
	}
	return true
}

// TestIPv6 builds where there is no IPv4 at all, as on platforms whose pods have none.
func TestIPv6(t *testing.T) {
	RegisterTestingT(t)
	realParts(t)
	if asRoot(t) {
		return
	}
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
		basic, err := rig.Serve(w.cache, rig.ServeOptions{User: "me", Password: "s3cret"})
		must(err)
		defer basic.Close()
		for server, login := range map[string]map[string]string{
			private.URL: {"token": token}, basic.URL: {"username": "me", "password": "s3cret"},
		} {
			literal, err := url.Parse(server)
			must(err)
			Expect(literal.Hostname()).To(Equal("::1"))
			for _, address := range []string{server, "http://cache.example.org:" + literal.Port()} {
				binding := map[string]string{"type": "nix-binary-cache", "url": address}
				maps.Copy(binding, login)
				w.bare.Bindings = map[string]map[string]string{"own": binding}
				must(w.bare.NewImage())
				o := w.deploy(map[string]string{"BP_NIX_SUBSTITUTERS": address, "BP_NIX_ATTRS": "app",
					"BP_NIX_SOURCE_NAME": "source"}, app...)
				Expect(o.Log).To(ContainSubstring("Fetching word.nix from " + address))
				said, err := w.bare.Start(w.ctx, "cat", app[0])
				must(err)
				Expect(said).To(Equal("a word\n"))
			}
		}
	})

	it("evaluates a flake with an input at a literal address", func() {
		withoutIPv4(t)
		w := newWorld(t)
		input := w.nixpkgsTarball("nixpkgs")
		Expect(input).To(HavePrefix("http://[::1]:"))
		w.write(map[string]string{"flake.nix": fmt.Sprintf(`{
  inputs.nixpkgs = { url = "%s"; flake = false; };
  outputs = { self, nixpkgs }: {
    packages.%s.default = (import nixpkgs { system = "%[2]s"; }).writeShellScriptBin "flaked" "echo by IPv6";
  };
}`, input, w.parts.rig.System())})
		w.deploy(nil, w.lockedFlakeBuilds()...)
		said, err := w.bare.Start(w.ctx, "flaked")
		must(err)
		Expect(said).To(Equal("by IPv6\n"))
	})

	it("takes a link-local address with its zone, goes through a proxy at a literal address, and says which family there is not", func() {
		withoutIPv4(t)
		addLoopback("fe80::1")
		addLoopback("fd00::1")
		w := newWorld(t).importsWord()
		w.hydraBuilds("source", "default.nix", "-A", "word")
		app := w.hydraBuilds("source", "default.nix", "-A", "app")
		settings := func(address string, more ...string) map[string]string {
			env := map[string]string{"BP_NIX_SUBSTITUTERS": address, "BP_NIX_ATTRS": "app", "BP_NIX_SOURCE_NAME": "source"}
			for i := 0; i < len(more); i += 2 {
				env[more[i]] = more[i+1]
			}
			return env
		}
		for login, options := range map[string]rig.ServeOptions{"": {}, "me:s3cret@": {User: "me", Password: "s3cret"}} {
			options.Address = "[fe80::1%lo]:0"
			server, err := rig.Serve(w.cache, options)
			must(err)
			defer server.Close()
			listens, err := url.Parse(server.URL)
			must(err)
			zoned := "[fe80::1%25lo]:" + listens.Port()
			must(w.bare.NewImage())
			o := w.deploy(settings("http://"+login+zoned), app...)
			Expect(o.Log).To(ContainSubstring("Fetching word.nix from http://" + zoned))
		}

		var through atomic.Int32
		proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			through.Add(1)
			http.FileServer(http.Dir(w.cache)).ServeHTTP(rw, r)
		}))
		proxy.Listener.Close()
		var err error
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
		byName := "http://hydra.example.org:" + address.Port()
		w.deploy(h.job("shop/main/web", "BP_NIX_HYDRA_URL", byName), outs[0])

		h.Private("deploy", "s3cret")
		w.has(h, w.parts.key, outs[0])
		for _, front := range []string{h.URL, byName} {
			settings := h.job("shop/main/web", "BP_NIX_HYDRA_URL", front, "BP_NIX_SUBSTITUTERS", front)
			w.bare.Bindings = nil
			w.fails(settings, "it wants a log-in")
			w.bare.Bindings = map[string]map[string]string{"hydra": {"type": "nix-binary-cache", "url": front,
				"username": "deploy", "password": "s3cret"}}
			must(w.bare.NewImage())
			w.deploy(settings, outs[0])
		}
	})

	it("reads a bucket, with and without a login, and imports from it while it evaluates", func() {
		withoutIPv4(t, "s3.example.org")
		w := newWorld(t).importsWord()
		w.hydraBuilds("source", "default.nix", "-A", "word")
		app := w.hydraBuilds("source", "default.nix", "-A", "app")
		in := func(next http.Handler) http.Handler { return http.StripPrefix("/shop", next) }
		open, err := rig.Serve(w.cache, rig.ServeOptions{Wrap: in})
		must(err)
		defer open.Close()
		private, err := rig.Serve(w.cache, rig.ServeOptions{Wrap: func(next http.Handler) http.Handler {
			return signedFor("AKIDEXAMPLE", "s3cret", in(next))
		}})
		must(err)
		defer private.Close()
		settings := func(server, host string, more ...string) map[string]string {
			address, err := url.Parse(server)
			must(err)
			host = net.JoinHostPort(cmp.Or(host, address.Hostname()), address.Port())
			env := map[string]string{"BP_NIX_SUBSTITUTERS": "s3://shop?region=eu-west-1&scheme=http&endpoint=" + host}
			for i := 0; i < len(more); i += 2 {
				env[more[i]] = more[i+1]
			}
			return env
		}
		for _, host := range []string{"", "s3.example.org"} {
			must(w.bare.NewImage())
			o := w.deploy(settings(open.URL, host, "BP_NIX_ATTRS", "app", "BP_NIX_SOURCE_NAME", "source"), app...)
			Expect(o.Log).To(ContainSubstring("Fetching word.nix from s3://shop"))

			must(w.bare.NewImage())
			login := []string{"BP_NIX_STORE_PATH", app[0], "AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY"}
			w.fails(settings(private.URL, host, append(login, "wrong")...), "SignatureDoesNotMatch")
			w.deploy(settings(private.URL, host, append(login, "s3cret")...), app...)
		}
	})
}

// signedFor lets requests pass that are signed as S3 wants it, by a key for a region.
func signedFor(id, secret string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		given := r.Header.Get("Authorization")
		again := &http.Request{Method: r.Method, URL: r.URL, Host: r.Host, Header: http.Header{}}
		_, rest, _ := strings.Cut(given, "SignedHeaders=")
		names, _, _ := strings.Cut(rest, ",")
		for _, name := range strings.Split(names, ";") {
			for _, value := range r.Header.Values(name) {
				again.Header.Add(name, value)
			}
		}
		at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err == nil {
			again.Header.Del("X-Amz-Date")
			err = v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).SignHTTP(r.Context(),
				aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, again, r.Header.Get("X-Amz-Content-Sha256"),
				"s3", "eu-west-1", at)
		}
		if err != nil || again.Header.Get("Authorization") != given {
			rw.WriteHeader(http.StatusForbidden)
			fmt.Fprint(rw, "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>")
			return
		}
		next.ServeHTTP(rw, r)
	})
}
