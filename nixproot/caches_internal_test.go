package nixproot

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/launch"
)

func TestCaches(t *testing.T) {
	spec.Run(t, "caches", testCaches)
}

func testCaches(t *testing.T, _ spec.G, it spec.S) {
	const key = "cache.example.org-1:jVK0HJ8PU0B/UgFjHSRpTpkUmSmRc6tTRv5aqDmmqVE="
	var (
		home  string
		login string // as the server saw it
		quiet = func(string, ...any) {}
	)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		login = r.Header.Get("Authorization")
		w.Write([]byte("StoreDir: /nix/store\n"))
	}))

	it.Before(func() {
		RegisterTestingT(t)
		home, login = t.TempDir(), ""
		t.Setenv("HOME", home)
		t.Setenv("NETRC", "")
	})
	it.After(func() { server.Close() })

	// opens opens the caches of a setting and of bindings.
	opens := func(substituter string, bindings ...cacheBinding) {
		t.Helper()
		config := Config{RequireSigs: true}
		if substituter != "" {
			config.Substituters = []string{substituter}
		}
		s, err := gatherCaches(config, append(bindings, cacheBinding{PublicKeys: key}))
		Expect(err).NotTo(HaveOccurred())
		Expect(s.keyStrings()).To(Equal([]string{key}))
		set, err := s.open(context.Background(), quiet)
		Expect(err).NotTo(HaveOccurred())
		Expect(set.Close()).To(Succeed())
	}

	it("takes a key or a cache once that settings and bindings give several times, which trusts nobody else", func() {
		keys, err := narinfo.ParseKeys(key)
		Expect(err).NotTo(HaveOccurred())
		once, err := gatherCaches(Config{TrustedKeys: keys, Substituters: []string{"https://a", "https://b"}}, nil)
		Expect(err).NotTo(HaveOccurred())
		twice, err := gatherCaches(Config{TrustedKeys: slices.Repeat(keys, 2), Substituters: []string{"https://b"}},
			[]cacheBinding{{URL: "https://a", PublicKeys: key}, {URL: "https://a"}, {URL: "https://b", PublicKeys: key}})
		Expect(err).NotTo(HaveOccurred())
		Expect(twice.identity()).To(Equal(once.identity()))
	})

	it("sends a binding's login to its cache", func() {
		server.Start()
		opens("", cacheBinding{URL: server.URL, Username: "u", Password: "p"})
		Expect(login).To(Equal("Basic dTpw"))
		opens("", cacheBinding{URL: server.URL, Token: "t"})
		Expect(login).To(Equal("Bearer t"))
		opens("", cacheBinding{URL: server.URL, Netrc: "machine 127.0.0.1 login u password p"})
		Expect(login).To(Equal("Basic dTpw"))
		opens(server.URL, cacheBinding{Netrc: "machine 127.0.0.1 login u password p"})
		Expect(login).To(Equal("Basic dTpw"))
	})

	it("sends it to no other port or scheme of the same host", func() {
		server.Start()
		opens(server.URL, cacheBinding{URL: "https://127.0.0.1:1", Username: "u", Password: "p"})
		Expect(login).To(BeEmpty())
	})

	it("fetches as many paths at once as it is told to, into as many layers", func() {
		in := &inputs{config: Config{Concurrency: 3, MaxLayers: 7, Engine: launch.EngineRelocate}}
		options := in.substituteOptions(closure.Options{})
		Expect(options.Downloads).To(Equal(3))
		Expect(options.Layers).To(Equal(7))
		Expect(options.Strict).To(BeTrue())
	})

	it("waits for downloads that stall as long as it is told to", func() {
		config, err := ReadConfig(func(name string) (string, bool) {
			return map[string]string{"BP_NIX_STALLED_DOWNLOAD_TIMEOUT": "90s"}[name], name == "BP_NIX_STALLED_DOWNLOAD_TIMEOUT"
		}, "amd64")
		Expect(err).NotTo(HaveOccurred())
		s, err := gatherCaches(config, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(s.options(quiet).Stall).To(Equal(90 * time.Second))
	})

	it("names the binding whose certificate authorities cannot be read", func() {
		server.Start()
		s, err := gatherCaches(Config{}, []cacheBinding{{Name: "mine", URL: server.URL, CACertificate: "none"}})
		Expect(err).NotTo(HaveOccurred())
		s.requireSigs = false
		_, err = s.open(t.Context(), quiet)
		Expect(explain(err)).To(MatchError(And(ContainSubstring(`the service binding "mine"`), ContainSubstring("PEM"))))
	})

	it("trusts a binding's certificate authority", func() {
		server.StartTLS()
		authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		opens("", cacheBinding{URL: server.URL, Token: "t", CACertificate: string(authority)})
		Expect(login).To(Equal("Bearer t"))
	})

	it("reads the user's own netrc, whatever the bindings hold", func() {
		server.Start()
		Expect(os.WriteFile(filepath.Join(home, ".netrc"), []byte("machine 127.0.0.1 login u password p\n"), 0o600)).
			To(Succeed())
		for _, other := range []cacheBinding{
			{URL: "https://127.0.0.1:1", Username: "x", Password: "y"}, {Netrc: "machine other.example login x password y"},
		} {
			login = ""
			opens(server.URL, other)
			Expect(login).To(Equal("Basic dTpw"))
		}
	})
}
