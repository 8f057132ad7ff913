package nixinstall_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func testFlakeInputs(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	const input = `{ outputs = { self }: { greeting = "hello from the tarball"; }; }`
	var (
		server *httptest.Server
		asked  int
		hash   string
	)
	it.Before(func() {
		RegisterTestingT(t)
		tarball := archive("dep/flake.nix", input)
		asked = 0
		server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked++
			_, _ = w.Write(tarball)
		}))
		dep := filepath.Join(t.TempDir(), "dep")
		Expect(os.Mkdir(dep, 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dep, "flake.nix"), []byte(input), 0o644)).To(Succeed())
		sum := sha256.New()
		Expect(nar.Dump(ctx, sum, dep)).To(Succeed())
		hash = "sha256-" + base64.StdEncoding.EncodeToString(sum.Sum(nil))
	})
	it.After(func() { server.Close() })

	// flake adds a flake with the input to the store; lock is the input's hash in its lock file, "" for no lock file.
	flake := func(toolchain nixinstall.Toolchain, lock string) nixinstall.Request {
		t.Helper()
		dir := t.TempDir()
		url := server.URL + "/dep.tar.gz"
		Expect(os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(fmt.Sprintf(`{
			inputs.dep.url = "%s";
			outputs = { self, dep }: { packages.x86_64-linux.default = derivation {
				name = "app"; system = "x86_64-linux"; builder = "/bin/sh"; text = dep.greeting; };
			}; }`, url)), 0o644)).To(Succeed())
		if lock != "" {
			Expect(os.WriteFile(filepath.Join(dir, "flake.lock"), []byte(fmt.Sprintf(`{ "version": 7, "root": "root",
				"nodes": { "root": { "inputs": { "dep": "dep" } }, "dep": {
					"locked": { "type": "tarball", "url": "%s", "narHash": "%s" },
					"original": { "type": "tarball", "url": "%s" } } } }`, url, lock, url)), 0o644)).To(Succeed())
		}
		source, err := toolchain.AddSource(ctx, dir, nixinstall.SourceOptions{Name: "source"})
		Expect(err).NotTo(HaveOccurred())
		return nixinstall.Request{Source: source, Flake: "."}
	}

	it("fetches a locked tarball once, and finds it again without the server", func() {
		toolchain := nix(t)
		request := flake(toolchain, hash)
		first, err := toolchain.Evaluate(ctx, request)
		Expect(err).NotTo(HaveOccurred())
		Expect(asked).To(Equal(1))
		server.Close()
		second, err := toolchain.Evaluate(ctx, request)
		Expect(err).NotTo(HaveOccurred())
		Expect(second.Outputs).To(Equal(first.Outputs))
	})

	it("refuses a tarball that is not the locked one", func() {
		toolchain := nix(t)
		_, err := toolchain.Evaluate(ctx, flake(toolchain, "sha256-"+base64.StdEncoding.EncodeToString(make([]byte, 32))))
		var evalErr *nixinstall.EvalError
		Expect(errors.As(err, &evalErr)).To(BeTrue(), "%v", err)
		Expect(evalErr.Summary).To(ContainSubstring("mismatch"))
	})

	it("refuses an input that is not locked, since tomorrow's may be another", func() {
		toolchain := nix(t)
		_, err := toolchain.Evaluate(ctx, flake(toolchain, ""))
		Expect(err).To(MatchError(ContainSubstring("lock")))
	})

	it("asks no cache that a flake, a file of the source or the environment names", func() {
		dir := t.TempDir()
		config := "extra-substituters = " + server.URL + "\nrequire-sigs = false\nmax-jobs = 4\n"
		for name, text := range map[string]string{
			"nix.conf": config, ".config/nix/nix.conf": config,
			"flake.nix": fmt.Sprintf(`{
				nixConfig = { extra-substituters = [ "%s" ]; substituters = [ "%s" ]; require-sigs = false; max-jobs = 4; };
				outputs = { self }: { packages.x86_64-linux.default = import (derivation {
					name = "read"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; }); }; }`,
				server.URL, server.URL),
		} {
			Expect(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)).To(Succeed())
		}
		toolchain := nix(t, func(s *nixinstall.Settings) {
			s.Environment = append(s.Environment, "NIX_CONFIG="+config, "NIX_USER_CONF_FILES="+filepath.Join(dir, "nix.conf"),
				"XDG_CONFIG_HOME="+filepath.Join(dir, ".config"))
		})
		source, err := toolchain.AddSource(ctx, dir, nixinstall.SourceOptions{Name: "source"})
		Expect(err).NotTo(HaveOccurred())
		for _, r := range []nixinstall.Request{
			{Source: source, Flake: "."}, {Source: source, File: "flake.nix", Attrs: []string{"outputs"}},
		} {
			_, err = toolchain.Evaluate(ctx, r)
			Expect(err).To(HaveOccurred())
			Expect(asked).To(Equal(0), "%v", err)
		}
		var build *nixinstall.WouldBuildError
		_, err = toolchain.Evaluate(ctx, nixinstall.Request{Source: source, Flake: "."})
		Expect(errors.As(err, &build)).To(BeTrue(), "%v", err)
	})
}
