package rig_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
)

func TestRig(t *testing.T) {
	suite := spec.New("rig")
	suite("Rig", testRig)
	suite("Server", testServer)
	suite("Store", testStore)
	suite.Run(t)
}

func open(t *testing.T) *rig.Rig {
	t.Helper()
	r, err := rig.Open(rig.Options{Log: t.Logf})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return r
}

func testRig(t *testing.T, _ spec.G, it spec.S) {
	var (
		Expect = NewWithT(t).Expect
		ctx    = context.Background()
	)

	it("unpacks a package with what it depends on", func() {
		dir, err := open(t).Debs(ctx, rig.Suite, "proot")
		Expect(err).NotTo(HaveOccurred())
		Expect(filepath.Join(dir, "usr/bin/proot")).To(BeARegularFile())
		Expect(filepath.Glob(filepath.Join(dir, "usr/lib/*/libtalloc.so.2"))).To(HaveLen(1))
	})

	it("makes a release tarball in the official layout", func() {
		toolchain, err := open(t).Toolchain(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(filepath.Base(toolchain.Tarball)).To(Equal("nix-" + toolchain.Version + "-" + open(t).System() + ".tar.xz"))
		Expect(toolchain.SHA256).To(HaveLen(64))
	})

	it("gives the same key for the same name", func() {
		first, err := open(t).Key(ctx, "rig-test-1")
		Expect(err).NotTo(HaveOccurred())
		second, err := open(t).Key(ctx, "rig-test-1")
		Expect(err).NotTo(HaveOccurred())
		Expect(second).To(Equal(first))
		Expect(first.Public).To(HavePrefix("rig-test-1:"))
	})
}

func testStore(t *testing.T, _ spec.G, it spec.S) {
	var (
		Expect = NewWithT(t).Expect
		ctx    = context.Background()
	)

	it("builds with real Nix, and leaves the machine's /nix alone", func() {
		_, before := os.Lstat("/nix")
		store, err := open(t).StoreAt(ctx, t.TempDir())
		Expect(err).NotTo(HaveOccurred())
		expression := `derivation {
			name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo hello >$out" ];
		}`
		out, err := store.Run(ctx, "nix-build", "--no-out-link", "--expr", expression)
		Expect(err).NotTo(HaveOccurred())
		path := strings.TrimSpace(out)
		Expect(path).To(MatchRegexp(`^/nix/store/[0-9a-z]{32}-x$`))
		Expect(os.ReadFile(store.Real(path))).To(BeEquivalentTo("hello\n"))
		_, after := os.Lstat("/nix")
		Expect(os.IsNotExist(after)).To(Equal(os.IsNotExist(before)))
	})

	it("says what a failed command said", func() {
		store, err := open(t).StoreAt(ctx, t.TempDir())
		Expect(err).NotTo(HaveOccurred())
		_, err = store.Run(ctx, "nix-instantiate", "--eval", "--expr", `throw "no luck"`)
		Expect(err).To(MatchError(ContainSubstring("no luck")))
		Expect(err.Error()).To(HavePrefix("running nix-instantiate --eval"))
	})

	it("gives a source the store path that Hydra gives it", func() {
		pkgs, err := open(t).Nixpkgs(ctx)
		Expect(err).NotTo(HaveOccurred())
		source, err := pkgs.Sample(ctx, "static-site", t.TempDir())
		Expect(err).NotTo(HaveOccurred())
		Expect(os.Mkdir(filepath.Join(source, ".git"), 0o755)).To(Succeed())
		built, err := pkgs.AsHydra(ctx, source, "git-export", "shell.nix")
		Expect(err).NotTo(HaveOccurred())
		Expect(built.Source).To(HaveSuffix("-git-export"))
		Expect(pkgs.Store.Real(built.Source + "/.git")).NotTo(BeAnExistingFile())
		Expect(pkgs.Store.Real(built.Paths[0] + "/bin/serve-site")).To(BeARegularFile())
	})
}

func testServer(t *testing.T, _ spec.G, it spec.S) {
	var Expect = NewWithT(t).Expect

	serve := func(options rig.ServeOptions) *rig.Server {
		dir := t.TempDir()
		Expect(os.WriteFile(filepath.Join(dir, "x.narinfo"), []byte("0123456789"), 0o644)).To(Succeed())
		server, err := rig.Serve(dir, options)
		Expect(err).NotTo(HaveOccurred())
		t.Cleanup(func() { _ = server.Close() })
		return server
	}
	// Without connections that are kept, as the client would silently ask again where such a one is dropped.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(url string) (int, string, error) {
		response, err := client.Get(url)
		if err != nil {
			return 0, "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return response.StatusCode, string(body), err
	}

	it("counts what it sends", func() {
		server := serve(rig.ServeOptions{})
		_, body, err := get(server.URL + "/x.narinfo")
		Expect(err).NotTo(HaveOccurred())
		Expect(body).To(Equal("0123456789"))
		status, _, err := get(server.URL + "/missing")
		Expect(err).NotTo(HaveOccurred())
		Expect(status).To(Equal(http.StatusNotFound))
		requests, bytes := server.Traffic(".narinfo")
		Expect(requests).To(Equal(1))
		Expect(bytes).To(BeEquivalentTo(10))
	})

	it("misbehaves as asked, until it is told otherwise", func() {
		var fault rig.Fault
		server := serve(rig.ServeOptions{Fault: func(_ string, attempt int) rig.Fault {
			if attempt > 1 {
				return rig.NoFault
			}
			return fault
		}})
		faults := []rig.Fault{rig.NoFault, rig.Drop, rig.Truncated, rig.Altered, rig.Login}
		for _, fault = range faults {
			server.Reset()
			_, body, err := get(server.URL + "/x.narinfo")
			switch fault {
			case rig.NoFault:
				Expect(body).To(Equal("0123456789"))
			case rig.Drop, rig.Truncated:
				Expect(err).To(HaveOccurred())
			case rig.Altered:
				Expect(body).To(HaveLen(10))
				Expect(body).NotTo(Equal("0123456789"))
			case rig.Login:
				Expect(body).To(ContainSubstring("<html>"))
			}
			_, body, err = get(server.URL + "/x.narinfo")
			Expect(err).NotTo(HaveOccurred())
			Expect(body).To(Equal("0123456789"))
		}
	})

	it("lets in only who knows the password", func() {
		server := serve(rig.ServeOptions{User: "u", Password: "p"})
		status, _, err := get(server.URL + "/x.narinfo")
		Expect(err).NotTo(HaveOccurred())
		Expect(status).To(Equal(http.StatusUnauthorized))
		status, _, err = get(strings.Replace(server.URL, "http://", "http://u:p@", 1) + "/x.narinfo")
		Expect(err).NotTo(HaveOccurred())
		Expect(status).To(Equal(http.StatusOK))
	})
}
